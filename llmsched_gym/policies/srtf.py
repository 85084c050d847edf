"""Shortest remaining time first, by historical means.

The exploiting half of LLMSched (ICDCS 2025) without its Bayesian network. Assumed: remaining time is the expected
slot time of all stages that are not finished, stages known to be skipped left out and planned stages counted as soon
as the plan is revealed; no preemption; equal jobs in order of arrival. Sparing tools and ageing are ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, job_column
from llmsched_gym.policies.parameters import real
from llmsched_gym.policies.scarce_tools import SparesTools


class SRTF(SparesTools):
    """Smallest expected remaining work of the job first.

    Args:
        tool_weight: As of `SparesTools`.
        reserve_s: As of `SparesTools`.
        ageing: Seconds of work that a second since its arrival takes off a job, against starvation.

    Raises:
        InputError: A parameter is out of range.
    """

    name = "srtf"

    def __init__(self, tool_weight: float = 1.0, reserve_s: float = 0.0, ageing: float = 0.0) -> None:
        super().__init__(tool_weight, reserve_s)
        self.ageing = real(self.name, "ageing", ageing, 0.0, 1e6)

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the expected slot time of what the job has not finished."""
        work_s = self.weigh(job_column(obs, rows, Job.REMAINING_S), job_column(obs, rows, Job.HISTORY_TOOL_S, 0.0))
        if self.ageing == 0.0:
            return work_s
        return np.subtract(work_s, self.ageing * job_column(obs, rows, Job.AGE_S, 0.0), dtype=np.float32)
