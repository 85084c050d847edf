"""LLMSched that only exploits: shortest posterior remaining time first.

The ablation "w/o uncertainty" of LLMSched (ICDCS 2025): SRTF with the Bayesian network's posterior means instead of
historical ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class LLMSchedNoUncertainty(PriorityPolicy):
    """Smallest posterior mean of the job's remaining work first."""

    name = "llmsched_no_uncertainty"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the posterior mean of what the job has not finished."""
        return job_column(obs, rows, Job.POSTERIOR_S)
