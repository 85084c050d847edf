"""Least attained service: the job that has received the least slot time so far.

Program-level attained service as in Autellix's PLAS (NSDI 2026), which needs no estimate of lengths. Assumed: service
is counted over both kinds of slots, running tasks included up to now; ranks are continuous, where Autellix sorts
programs into a few queues with quanta; no preemption. Equal jobs in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class LAS(PriorityPolicy):
    """Least slot time received by the job first."""

    name = "las"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the slot time that the job has received."""
        return job_column(obs, rows, Job.ATTAINED_S)
