"""Earliest time first (ETF): the task that can start earliest goes first, on the executor where it can.

Hwang, Chow, Anger and Lee (SIAM J. Comput. 18, 1989). A start is when model and inputs are there: max(load, fetch) by
``placements``. Ties go to the longest expected path to the end of the job (their static level), then, since executors
here are unrelated, to the soonest completion, then in order of arrival. Assumed: as `llmsched_gym.policies.frontier`
says. With ``state=blind`` everything can start at once, and the path decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.frontier import FrontierPolicy
from llmsched_gym.policies.placement import start_s


class ETF(FrontierPolicy):
    """The stage that can start earliest first."""

    name = "etf"

    def pick(
        self, obs: Observation, rows: NDArray[np.intp], seconds: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> tuple[int, int]:
        """Pick the earliest start; of equal ones the longest path, of equal ones the soonest completion."""
        starts = np.where(legal, start_s(obs, rows, self.state), np.float32(np.inf))
        i, executors = np.nonzero(starts <= starts.min())
        paths = obs["candidates"][rows[i], Candidate.PATH_S]
        best = np.lexsort((seconds[i, executors], -paths))[0]
        return int(i[best]), int(executors[best])
