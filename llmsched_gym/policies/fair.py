"""Fair: every job in the system is entitled to the same number of running tasks.

A baseline of LLMSched (ICDCS 2025) and of Decima (SIGCOMM 2019); Spark's fair scheduler with equal weights. A free
slot goes to the job with the fewest running tasks. Assumed: LLM slots and regular executors count alike, since a job
rarely needs both at once; equal jobs in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class Fair(PriorityPolicy):
    """Fewest running tasks of the job first."""

    name = "fair"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the number of tasks that the job is running."""
        return job_column(obs, rows, Job.TASKS_RUNNING)
