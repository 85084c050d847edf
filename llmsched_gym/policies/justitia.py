"""Justitia: one job after the other, in the order in which fair sharing would finish them.

Yang et al., "Justitia: Fair and Efficient Scheduling for LLM Applications" (arXiv 2510.17015), from public
descriptions: an application gets all that it can use, in the order of its completion under idealised fair sharing, told
on arrival by virtual-time fair queueing. Virtual time runs at capacity over the number of jobs that would be present
under fair sharing; a job's virtual finish is the virtual time at its arrival plus its cost, and never changes, so that
no job is overtaken by more than came soon after it.

Assumed: the cost, which Justitia predicts from the prompt and counts in KV tokens times iterations, is the expected
slot time of a whole job of its application, as slots are what is scarce here; capacity is the number of slots of all
executors.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Job, System
from llmsched_gym.policies.base import Observation, PriorityPolicy
from llmsched_gym.policies.following import Followed, follow, nobody


class Justitia(PriorityPolicy):
    """Smallest virtual finish time of the job first."""

    name = "justitia"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin an episode at virtual time 0."""
        del info
        self._clock = VirtualTime()
        self._jobs: Followed[float] = nobody()

    def first(self, obs: Observation, rows: NDArray[np.intp]) -> int:
        """Note which jobs have come, also where there is no choice, and return the row of the smallest key."""
        capacity = float(obs["executors"][:, Executor.SLOTS].sum())
        now_s, jobs = float(obs["system"][System.TIME_S]), obs["jobs"]

        def finish_of(row: int) -> float:
            return self._clock.arrive(now_s - float(jobs[row, Job.AGE_S]), float(jobs[row, Job.TOTAL_S]), capacity)

        self._jobs = follow(self._jobs, obs, finish_of)
        return super().first(obs, rows)

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the virtual finish time."""
        finish = np.array([*self._jobs.kept, np.inf], np.float32)  # the last: jobs that a small window leaves out
        return finish[obs["candidates"][rows, Candidate.JOB].astype(np.intp)]


class VirtualTime:
    """Virtual time of fair sharing (Parekh and Gallager 1993): real time, stretched by how many would share."""

    def __init__(self) -> None:
        self._real_s = 0.0
        self._virtual_s = 0.0
        self._sharing: list[float] = []  # virtual finish times of those that fair sharing would not have finished

    def arrive(self, time_s: float, cost_s: float, capacity: float) -> float:
        """Let a job come; return its virtual finish time.

        Args:
            time_s: Not before the job that came last.
            cost_s: Slot seconds.
            capacity: Slots.
        """
        left_s = max(time_s - self._real_s, 0.0)
        while self._sharing and left_s > 0.0:
            until_s = (self._sharing[0] - self._virtual_s) * len(self._sharing) / capacity
            if until_s > left_s:
                self._virtual_s += left_s * capacity / len(self._sharing)
                break
            self._virtual_s = heapq.heappop(self._sharing)
            left_s -= until_s
        self._real_s = max(time_s, self._real_s)
        finish_s = self._virtual_s + cost_s
        heapq.heappush(self._sharing, finish_s)
        return finish_s
