"""LLMSched: shortest remaining time first, with a share of decisions that go to what reduces uncertainty most.

LLMSched (Zhu, Chen, Fan, Zhu; ICDCS 2025), from public descriptions: its code is not public. One coin per decision.
With probability ``epsilon`` it explores: jobs whose remaining-time intervals overlap form a group, groups are ordered
by their lower ends, and inside the first group the stage with the largest uncertainty reduction goes first, with at
most a share ``sampling_ratio`` of its tasks. Otherwise it exploits: the job with the shortest posterior remaining time
goes first, with all of its tasks.

Assumed, as not public: ``epsilon``, ``sampling_ratio``, ``interval`` and the form of the score (`docs/policies.md`
tells how the defaults were chosen). Only jobs with a stage that can be dispatched now form groups. In a group without
anything to learn, and between equal reductions, the job with the shortest posterior remaining time goes first; then
the one that arrived first. A group whose stages have all started their share of tasks is passed over; after the last,
exploit. At least one task of a stage may always be explored. ``tool_weight`` and ``reserve_s`` are ours
(`scarce_tools`): by default they do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Job
from llmsched_gym.policies.base import Observation, Policy, job_column
from llmsched_gym.policies.parameters import choice, real
from llmsched_gym.policies.scarce_tools import Sparing
from llmsched_gym.profiler.features import INTERVAL

SCORES = {
    "sum": Candidate.REDUCTION_SUM,
    "product": Candidate.REDUCTION_PRODUCT,
    "rate": Candidate.REDUCTION_SUM,
}
"""Forms of the uncertainty reduction: mutual information times the sum or the product of the ranges; ``rate`` is the
sum, per second of the stage's historical work that is left."""

_UNKNOWN_S: Final = np.float32(1e30)
"""Stands for the remaining time of jobs that a small window leaves out, which is infinite in `job_column`."""

_LEAST_S: Final = np.float32(1e-3)
"""Least work that a score is divided by."""

Floats = NDArray[np.floating[Any]]


class LLMSched(Sparing, Policy):
    """ε-greedy over shortest posterior remaining time and largest uncertainty reduction.

    Args:
        epsilon: Share of decisions that explore.
        sampling_ratio: Share of a stage's tasks that may start by exploring.
        score: Form of the uncertainty reduction, "sum", "product" or "rate".
        interval: Share of the posterior within the intervals that are compared, up to 0.9; 0 compares means, and no two
            jobs overlap.
        tool_weight: What a second on a regular executor counts, in seconds on LLM executors.
        reserve_s: Longest task, in seconds per regular executor, that may take the last free one; 0 keeps none free.

    Raises:
        InputError: A parameter is out of range.
    """

    name = "llmsched"
    mean, low, high = Job.POSTERIOR_S, Job.POSTERIOR_LOW_S, Job.POSTERIOR_HIGH_S
    tools = Job.POSTERIOR_TOOL_S

    def __init__(
        self,
        epsilon: float = 0.05,
        sampling_ratio: float = 1.0,
        score: Literal["sum", "product", "rate"] = "sum",
        interval: float = 0.3,
        *,
        tool_weight: float = 1.0,
        reserve_s: float = 0.0,
    ) -> None:
        self.epsilon = real(self.name, "epsilon", epsilon, 0.0, 1.0)
        self.sampling_ratio = real(self.name, "sampling_ratio", sampling_ratio, 0.0, 1.0)
        real(self.name, "interval", interval, 0.0, INTERVAL)
        choice(self.name, "score", score, SCORES)
        self.reduction = SCORES[score]
        self.per_second = score == "rate"
        self.spare(tool_weight, reserve_s)
        self.width = np.float32(interval / INTERVAL)

    def reset(self, info: Mapping[str, Any]) -> None:
        """Seed the coin from ``info["policy_seed"]``."""
        self._rng = np.random.default_rng(info["policy_seed"])

    def act(self, obs: Observation) -> int:
        """Toss the coin, and dispatch; wait only when nothing can be dispatched, or all is held back."""
        mask = obs["action_mask"]
        rows = np.flatnonzero(mask[:-1])
        explores = self._rng.random() < self.epsilon
        if rows.size and mask[-1]:
            rows = self.may_start(obs, rows)
        if rows.size == 0:
            return len(mask) - 1
        if rows.size == 1:
            return int(rows[0])
        mean = self.expected_s(obs, rows)
        if explores:
            chosen = self._explore(obs, rows, mean)
            if chosen >= 0:
                return chosen
        return int(rows[self._weighed(obs, rows, mean).argmin()])

    def expected_s(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the expected remaining time of the candidates' jobs, float32 (n,)."""
        return job_column(obs, rows, self.mean)

    def interval_s(self, obs: Observation, rows: NDArray[np.intp], mean: Floats) -> tuple[Floats, Floats]:
        """Return the ends of the `INTERVAL` around it, each float32 (n,)."""
        del mean
        return job_column(obs, rows, self.low), job_column(obs, rows, self.high)

    def _weighed(self, obs: Observation, rows: NDArray[np.intp], mean: Floats) -> Floats:
        """Return expected remaining times in which tools weigh more."""
        return self.weigh(mean, job_column(obs, rows, self.tools, 0.0))

    def _explore(self, obs: Observation, rows: NDArray[np.intp], mean: Floats) -> int:
        """Return the most informative row of the first group that may be explored; -1 if there is none."""
        candidates = obs["candidates"][rows]
        started = candidates[:, Candidate.TASKS_RUNNING] + candidates[:, Candidate.TASKS_DONE]
        tasks = started + candidates[:, Candidate.TASKS_WAITING]
        free = np.flatnonzero(started < np.ceil(self.sampling_ratio * tasks).clip(1.0))
        if free.size == 0:
            return -1
        low, high = self.interval_s(obs, rows, mean)
        centre = np.minimum(mean, _UNKNOWN_S)
        below = centre - np.minimum(low, centre)
        above = np.minimum(high, _UNKNOWN_S) - centre
        if self.tool_weight != 1.0:
            weighed = np.minimum(self._weighed(obs, rows, mean), _UNKNOWN_S)
            stretch = weighed / np.maximum(centre, _LEAST_S)
            centre, below, above, mean = weighed, below * stretch, above * stretch, weighed
        group = overlap_groups(centre - self.width * below, centre + self.width * above)
        first = free[group[free] == group[free].min()]
        told = candidates[first, self.reduction]
        if self.per_second:
            told = told / np.maximum(candidates[first, Candidate.WORK_S], _LEAST_S)
        best = np.lexsort((first, mean[first], -told))[0]
        return int(rows[first[best]])


def overlap_groups(low: Floats, high: Floats) -> NDArray[np.intp]:
    """Number the groups of intervals that are connected by overlaps, by their lower ends.

    Args:
        low: (n,) Lower ends.
        high: (n,) Upper ends.

    Returns:
        int (n,) The group of each interval, from 0.
    """
    order = np.argsort(low, kind="stable")
    reached = np.maximum.accumulate(high[order])
    groups = np.zeros(len(low), dtype=np.intp)
    groups[order[1:]] = np.cumsum(low[order[1:]] > reached[:-1])
    return groups
