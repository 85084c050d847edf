"""Gittins index on the posterior of the remaining work.

After Hermes (arXiv 2506.14851), which ranks LLM applications by the Gittins index of the demand that its probabilistic
graphs expect. On one server without knowledge of sizes, the job with the smallest index

    G = min over t of E[min(S, t)] / P(S <= t),        S: work to come,

first is optimal (Gittins 1979): it prefers jobs that may well be over soon, though their mean be large. Assumed: S has
five values, the quantiles in the observation, each with the probability of the levels nearest to it; a tie goes to the
job that arrived first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column

_LEVELS: Final = {
    Job.POSTERIOR_LOW_S: 0.05,
    Job.POSTERIOR_QUARTILE_S: 0.25,
    Job.POSTERIOR_MEDIAN_S: 0.5,
    Job.POSTERIOR_UPPER_QUARTILE_S: 0.75,
    Job.POSTERIOR_HIGH_S: 0.95,
}
_DONE_BY: Final = np.array([0.15, 0.375, 0.625, 0.85, 1.0], np.float32)
"""P(S <= quantile): the levels halfway between the quantiles' own, and 1."""

_UNKNOWN_S: Final = np.float32(1e30)
"""Stands for the remaining time of jobs that a small window leaves out, which is infinite in `job_column`."""

_MASS: Final = np.diff(_DONE_BY, prepend=np.float32(0.0))


class Gittins(PriorityPolicy):
    """Smallest Gittins index of the job's remaining work first."""

    name = "gittins"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the index."""
        quantiles = np.stack([job_column(obs, rows, column) for column in _LEVELS], axis=1)
        return gittins_index(np.minimum(quantiles, _UNKNOWN_S))


def gittins_index(quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the index of discrete distributions.

    Args:
        quantiles: float32 (n, 5) Ascending; 5, 25, 50, 75 and 95 %.

    Returns:
        float32 (n,) In the unit of the quantiles.
    """
    below = np.cumsum(quantiles * _MASS, axis=1, dtype=np.float32)
    spent = below + quantiles * (1 - _DONE_BY)
    return (spent / _DONE_BY).min(axis=1)
