"""LLMSched that only exploits: shortest posterior remaining time first.

The ablation "w/o uncertainty" of LLMSched (ICDCS 2025): SRTF with the Bayesian network's posterior means instead of
historical ones. Ranking by the median, and sparing tools, are ours.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, job_column
from llmsched_gym.policies.parameters import choice
from llmsched_gym.policies.scarce_tools import SparesTools

_ESTIMATES: Final = {"mean": Job.POSTERIOR_S, "median": Job.POSTERIOR_MEDIAN_S}


class LLMSchedNoUncertainty(SparesTools):
    """Smallest posterior mean, or median, of the job's remaining work first.

    Args:
        tool_weight: As of `SparesTools`.
        reserve_s: As of `SparesTools`.
        estimate: "mean" or "median".

    Raises:
        InputError: A parameter is out of range.
    """

    name = "llmsched_no_uncertainty"

    def __init__(
        self, tool_weight: float = 1.0, reserve_s: float = 0.0, estimate: Literal["mean", "median"] = "mean"
    ) -> None:
        super().__init__(tool_weight, reserve_s)
        self.estimate = _ESTIMATES[choice(self.name, "estimate", estimate, _ESTIMATES)]

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the posterior of what the job has not finished."""
        return self.weigh(job_column(obs, rows, self.estimate), job_column(obs, rows, Job.POSTERIOR_TOOL_S, 0.0))
