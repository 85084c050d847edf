"""Max-min: of the soonest completions of all ready stages, the latest goes first.

Braun et al. (2001): long tasks begin early, each on its best executor, and short ones fill what is left. Assumptions:
`llmsched_gym.policies.frontier`. Equal stages in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.frontier import FrontierPolicy, soonest


class MaxMin(FrontierPolicy):
    """The stage whose soonest completion is the latest first, on its best executor."""

    name = "max_min"

    def pick(
        self, obs: Observation, rows: NDArray[np.intp], seconds: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> tuple[int, int]:
        """Pick the largest of the soonest completions."""
        executors, ends = soonest(seconds, legal)
        first = int(ends.argmax())
        return first, int(executors[first])
