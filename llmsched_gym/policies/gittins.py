"""Gittins index of the posterior of the remaining work.

After Hermes (arXiv 2506.14851), which ranks LLM applications by the Gittins index of the demand that its probabilistic
graphs expect. On one server without knowledge of sizes, the job with the smallest index

    G = min over t of E[min(S, t)] / P(S <= t),        S: work to come,

first is optimal (Gittins 1979): it prefers jobs that may well be over soon, though their mean be large. Assumed: S is
the sum over both kinds of executors, as the profiler's samples have it (`profiler.gittins`); what a job has received
without being finished rules values out; a tie goes to the job that arrived first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column


class Gittins(PriorityPolicy):
    """Smallest Gittins index of the job's remaining work first."""

    name = "gittins"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the index."""
        return job_column(obs, rows, Job.GITTINS_S)
