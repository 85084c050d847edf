"""Longest remaining path first: the ready stage with the longest expected path from itself to the end of its job.

The classical critical-path list scheduler (Hu's rule with durations, HEFT's upward rank), by historical mean
durations. Stages are compared across jobs with no term for the job's size, so it shortens makespans and favours long
jobs; it stands here as the contrast to SRTF. Equal stages in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.policies.base import Observation, PriorityPolicy


class CriticalPath(PriorityPolicy):
    """Longest expected path to the end of the job first."""

    name = "critical_path"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the expected path from the stage to the end of its job, longest first."""
        return -obs["candidates"][rows, Candidate.PATH_S]
