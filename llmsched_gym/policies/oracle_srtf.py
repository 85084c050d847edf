"""Clairvoyant shortest remaining time first: SRTF that knows every length and every hidden stage.

Privileged: it reads the truth, so it is no scheduler that could exist, but shows what knowing everything is worth.
Remaining time is the true slot time of everything that the job has not finished, at batch size 1; within a job the
stage with the longest true path to the job's end goes first. It is a heuristic and not the optimum: the problem is
hard even for a clairvoyant scheduler.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Truth
from llmsched_gym.policies.base import Observation, PriorityPolicy


class OracleSRTF(PriorityPolicy):
    """Smallest true remaining work of the job first, then the stage with the longest true path."""

    name = "oracle_srtf"
    privileged = True

    def keys(self, obs: Observation, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], ...]:
        """Rank by the job's true remaining slot time, then by the stage's true path, longest first."""
        truth = obs["truth"][rows]
        return truth[:, Truth.JOB_REMAINING_S], -truth[:, Truth.STAGE_PATH_S]
