"""Gittins index of the posterior of the remaining work.

After Hermes (arXiv 2506.14851), which ranks LLM applications by the Gittins index of the demand that its probabilistic
graphs expect. On one server without knowledge of sizes, the job with the smallest index

    G = min over t of E[min(S, t)] / P(S <= t),        S: work to come,

first is optimal (Gittins 1979): it prefers jobs that may well be over soon, though their mean be large. Assumed: S is
the sum over both kinds of executors, as the profiler's samples have it (`profiler.gittins`); what a job has received
without being finished rules values out; a tie goes to the job that arrived first. Tools that weigh more stretch all
values alike, by what they add to the posterior mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, job_column
from llmsched_gym.policies.scarce_tools import SparesTools


class Gittins(SparesTools):
    """Smallest Gittins index of the job's remaining work first; parameters as of `SparesTools`."""

    name = "gittins"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the index."""
        index_s = job_column(obs, rows, Job.GITTINS_S)
        if self.tool_weight == 1.0:
            return index_s
        mean_s = np.maximum(job_column(obs, rows, Job.POSTERIOR_S, 1.0), np.float32(1e-9))
        weighed_s = self.weigh(mean_s, job_column(obs, rows, Job.POSTERIOR_TOOL_S, 0.0))
        return np.multiply(index_s, weighed_s / mean_s, dtype=np.float32)
