"""LLMSched without its Bayesian network: the same algorithm on historical means and intervals.

The ablation "w/o BN" of LLMSched (ICDCS 2025), which public descriptions leave open, in two readings:

- ``reading="structure"``: remaining times are expected by historical means of the stages, as SRTF has them, but with
  LLM time at the executors' present batch, as LLMSched has it: what the two lack of each other is the network alone.
  What is revealed to every scheduler (stages skipped, plans made) counts.
- ``reading="total"``: the mean of a whole job of the application, less what the job has received. Nothing that is
  revealed counts.

Intervals add up the variances of the unfinished stages as if they were independent; a stage's uncertainty reduction is
the one before anything is known of its job. Nothing is learnt from how long stages took.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Job
from llmsched_gym.policies.base import Observation, job_column
from llmsched_gym.policies.llmsched import Floats, LLMSched
from llmsched_gym.policies.parameters import choice

_READINGS: Final = ("structure", "total")


class LLMSchedNoBN(LLMSched):
    """ε-greedy over shortest historical remaining time and largest historical uncertainty reduction.

    Args:
        epsilon: As of `LLMSched`.
        sampling_ratio: As of `LLMSched`.
        interval: As of `LLMSched`.
        reading: "structure" or "total": what is expected of a job.
        tool_weight: As of `LLMSched`.
        reserve_s: As of `LLMSched`.

    Raises:
        InputError: A parameter is out of range.
    """

    name = "llmsched_no_bn"
    mean, low, high = Job.HISTORY_S, Job.HISTORY_LOW_S, Job.HISTORY_HIGH_S
    tools = Job.HISTORY_TOOL_S

    def __init__(
        self,
        epsilon: float = 0.02,
        sampling_ratio: float = 0.3,
        interval: float = 0.3,
        *,
        reading: Literal["structure", "total"] = "structure",
        tool_weight: float = 1.0,
        reserve_s: float = 0.0,
    ) -> None:
        super().__init__(epsilon, sampling_ratio, interval=interval, tool_weight=tool_weight, reserve_s=reserve_s)
        self.reduction = Candidate.HISTORY_REDUCTION
        self._by_total = choice(self.name, "reading", reading, _READINGS) == "total"

    def expected_s(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return what is expected of the candidates' jobs in this reading."""
        if not self._by_total:
            return super().expected_s(obs, rows)
        left_s = job_column(obs, rows, Job.TOTAL_S) - job_column(obs, rows, Job.ATTAINED_S, 0.0)
        return np.maximum(left_s, np.float32(0.0))

    def interval_s(self, obs: Observation, rows: NDArray[np.intp], mean: Floats) -> tuple[Floats, Floats]:
        """Return an interval as wide as that of the unfinished stages."""
        low, high = super().interval_s(obs, rows, mean)
        if not self._by_total:
            return low, high
        moved: NDArray[np.floating[Any]] = mean - job_column(obs, rows, Job.HISTORY_S, 0.0)
        return np.maximum(low + moved, np.float32(0.0)), high + moved
