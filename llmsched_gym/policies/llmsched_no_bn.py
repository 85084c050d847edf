"""LLMSched without its Bayesian network: the same algorithm on historical means and intervals.

The ablation "w/o BN" of LLMSched (ICDCS 2025). Remaining times are expected by historical means, as SRTF has them, but
with LLM time at the executors' present batch, as LLMSched has it: what the two lack of each other is the network alone.
Intervals add up the variances of the unfinished stages as if they were independent; a stage's uncertainty reduction is
the one before anything is known of its job. Nothing is learnt from how long stages took; what is revealed to every
scheduler (stages skipped, plans made) counts.
"""

from __future__ import annotations

from llmsched_gym.envs.columns import Candidate, Job
from llmsched_gym.policies.llmsched import LLMSched


class LLMSchedNoBN(LLMSched):
    """ε-greedy over shortest historical remaining time and largest historical uncertainty reduction.

    Args:
        epsilon: As of `LLMSched`.
        sampling_ratio: As of `LLMSched`.
        interval: As of `LLMSched`.
    """

    name = "llmsched_no_bn"
    mean, low, high = Job.HISTORY_S, Job.HISTORY_LOW_S, Job.HISTORY_HIGH_S

    def __init__(self, epsilon: float = 0.02, sampling_ratio: float = 0.3, interval: float = 0.3) -> None:
        super().__init__(epsilon, sampling_ratio, interval=interval)
        self.reduction = Candidate.HISTORY_REDUCTION
