"""Clairvoyant shortest remaining time first: SRTF that knows every length and every hidden stage.

Privileged: it reads the truth, so it is no scheduler that could exist, but shows what knowing everything is worth.
Remaining time is the true slot time of everything that the job has not finished, at batch size 1; all else is as in
SRTF, so that the two differ only in what they know. It is a heuristic and not the optimum, which is hard to find even
for a clairvoyant scheduler; other orders of a job's own stages (longest true path first) change its mean JCT by 1 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Truth
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.scarce_tools import SparesTools


class OracleSRTF(SparesTools):
    """Smallest true remaining work of the job first; parameters as of `SparesTools`."""

    name = "oracle_srtf"
    privileged = True

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the true slot time of what the job has not finished."""
        truth = obs["truth"][rows]
        return self.weigh(truth[:, Truth.JOB_REMAINING_S], truth[:, Truth.JOB_TOOL_S])
