"""Shortest remaining time first, by historical means.

The exploiting half of LLMSched (ICDCS 2025) without its Bayesian network. Assumed: remaining time is the expected
slot time of all stages that are not finished, stages known to be skipped left out and planned stages counted as soon
as the plan is revealed; no preemption; equal jobs in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class SRTF(PriorityPolicy):
    """Smallest expected remaining work of the job first."""

    name = "srtf"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the expected slot time of what the job has not finished."""
        return job_column(obs, rows, Job.REMAINING_S)
