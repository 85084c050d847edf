"""Min-min: of the soonest completions of all ready stages, the soonest goes first.

Braun et al. (2001), where it does well among eleven heuristics. Short tasks first, each on its best executor: what is
long, and would decide the makespan, comes late. Assumptions: `llmsched_gym.policies.frontier`. Equal stages in order of
arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.frontier import FrontierPolicy, soonest


class MinMin(FrontierPolicy):
    """The stage and executor with the soonest completion first."""

    name = "min_min"

    def pick(
        self, obs: Observation, rows: NDArray[np.intp], seconds: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> tuple[int, int]:
        """Pick the smallest of the soonest completions."""
        executors, ends = soonest(seconds, legal)
        first = int(ends.argmin())
        return first, int(executors[first])
