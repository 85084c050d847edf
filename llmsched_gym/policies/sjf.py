"""Shortest job first, by the historical mean work of the job's application.

A baseline of LLMSched (ICDCS 2025), which gives it historical means. Assumed: a job's size is the expected slot time
of a whole job of its application, the same for all jobs of one application and never updated; equal jobs in order of
arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class SJF(PriorityPolicy):
    """Smallest expected total work of the job first."""

    name = "sjf"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the expected slot time of a whole job of the application."""
        return job_column(obs, rows, Job.TOTAL_S)
