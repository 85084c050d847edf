"""Sufferage: the stage goes first that would suffer most if it did not get its best executor.

Braun et al. (2001) take it from Maheswaran et al. (HCW 1999): a task's sufferage is its second soonest completion less
its soonest. Assumed, beside `llmsched_gym.policies.frontier`: the best executor is one that may take the task now; the
second best is any other that serves it, from when it is expected to be free, so that one which is busy counts as an
alternative; a task without another executor suffers without end, and goes first. Equal stages in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.frontier import FrontierPolicy, soonest


class Sufferage(FrontierPolicy):
    """The stage that loses most without its best executor first."""

    name = "sufferage"

    def pick(
        self, obs: Observation, rows: NDArray[np.intp], seconds: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> tuple[int, int]:
        """Pick the largest difference between the best and the next best executor."""
        executors, ends = soonest(seconds, legal)
        others = seconds.copy()
        others[np.arange(len(rows)), executors] = np.inf
        first = int((others.min(axis=1) - ends).argmax())
        return first, int(executors[first])
