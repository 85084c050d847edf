"""Two ways to spare scarce tool executors: their seconds weigh more, and the last free one is kept for short tasks.

Slot seconds of both kinds of executors are added up where jobs are ranked by their work. Where one pool is the
bottleneck, its seconds delay others more. And a task that holds one of two tool executors for a minute delays every job
that needs a tool in this minute, since nothing is preempted: a policy with a reserve may wait though it could start
something. Both are ours; neither needs to know more than a policy knows already. What of a job's work is on tools
stands in the profiler's columns: where an environment has none (``profiler=False``), the weight changes nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor
from llmsched_gym.policies.base import Observation, PriorityPolicy
from llmsched_gym.policies.parameters import real
from llmsched_gym.workloads.template import StageKind

_MOST: Final = 1e6


class Sparing:
    """What a policy that may spare tools has, whatever else it is."""

    name: str

    def spare(self, tool_weight: float, reserve_s: float) -> None:
        """Set the parameters, which `SparesTools` explains.

        Raises:
            InputError: A parameter is out of range.
        """
        self.tool_weight = real(self.name, "tool_weight", tool_weight, 0.0, _MOST)
        self.reserve_s = real(self.name, "reserve_s", reserve_s, 0.0, _MOST)

    def may_start(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Leave out the tasks that are too long for the last free tool."""
        return rows[~kept_from(obs, rows, self.reserve_s)] if self.reserve_s > 0.0 else rows

    def weigh(self, work_s: NDArray[np.float32], tool_s: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return work in which tools weigh more, from work of both kinds and what of it is on tools."""
        if self.tool_weight == 1.0:
            return work_s
        return np.add(work_s, (self.tool_weight - 1.0) * tool_s, dtype=np.float32)


class SparesTools(Sparing, PriorityPolicy):
    """A rank by work that may spare tools.

    Args:
        tool_weight: What a second on a regular executor counts, in seconds on LLM executors.
        reserve_s: Longest task, in seconds per regular executor, that may take the last free one; 0 keeps none free.

    Raises:
        InputError: A parameter is out of range.
    """

    def __init__(self, tool_weight: float = 1.0, reserve_s: float = 0.0) -> None:
        self.spare(tool_weight, reserve_s)


def kept_from(obs: Observation, rows: NDArray[np.intp], reserve_s: float) -> NDArray[np.bool_]:
    """Tell which stages may not take the last free one of several regular executors.

    Args:
        obs: The observation.
        rows: int (n,) Rows of ``candidates``.
        reserve_s: Longest expected task that may, in seconds per regular executor.

    Returns:
        bool (n,)
    """
    stages = obs["candidates"][rows]
    last = (stages[:, Candidate.KIND] == StageKind.REGULAR) & (stages[:, Candidate.FREE_SLOTS] == 1)
    if not last.any():
        return last
    executors = obs["executors"]
    slots = executors[executors[:, Executor.KIND] == StageKind.REGULAR, Executor.SLOTS].sum()
    tasks = stages[:, Candidate.TASKS_WAITING] + stages[:, Candidate.TASKS_RUNNING]
    return last & (slots > 1) & (stages[:, Candidate.WORK_S] > reserve_s * slots * tasks)
