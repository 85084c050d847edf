"""Policies that plan for an instant: what starts now and where, followed until something else happens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Placement, System
from llmsched_gym.policies.base import Observation, ObservationMode, Policy
from llmsched_gym.policies.frontier import soonest
from llmsched_gym.policies.placement import State, completion_s, legal_placements
from llmsched_gym.workloads.template import StageKind


class Start(NamedTuple):
    """Tasks of a stage that start on an executor.

    Attributes:
        job: Row of the job.
        node: Template node index.
        executor: Which executor.
        tasks: How many.
    """

    job: int
    node: int
    executor: int
    tasks: int


class PlanFollower(Policy):
    """Follows a plan as long as nothing but its own dispatches happens."""

    observation: ObservationMode = "graph"
    placement = "agent"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget the plan."""
        del info
        self._instant: tuple[float, ...] = ()
        self._plan: list[Start] = []

    @abstractmethod
    def plan(self, obs: Observation) -> list[Start]:
        """Decide what starts now, in the order in which it starts."""

    def is_cut(self, obs: Observation) -> bool:
        """Tell whether more stages were ready than a plan looks at."""
        return bool(obs["system"][System.HIDDEN_CANDIDATES] > 0)

    def act(self, obs: Observation) -> int:
        """Carry on with the plan, or make a new one."""
        mask = obs["action_mask"]
        wait = len(mask) - 1
        instant = _fingerprint(obs)
        action = -1
        if instant == self._instant:
            action = self._next(obs)
            if action < 0 and not self.is_cut(obs):
                action = wait  # what is left was not chosen
        if action < 0 or not mask[action]:
            self._plan = self.plan(obs)
            self._plan.reverse()
            action = self._next(obs)
        if action < 0 or not mask[action]:
            action = wait if mask[wait] else soonest_dispatch(obs)
        # One more running task is all that changes before the next decision of the same instant.
        self._instant = (*instant[:-1], instant[-1] + 1)
        return action

    def _next(self, obs: Observation) -> int:
        """Return the next dispatch of the plan that is legal; -1 if there is none."""
        executors = len(obs["executors"])
        table = obs["candidates"][: int(obs["system"][System.CANDIDATES])]
        while self._plan:
            job, node, executor, tasks = self._plan.pop()
            rows = np.flatnonzero((table[:, Candidate.JOB] == job) & (table[:, Candidate.NODE] == node))
            if rows.size == 0:
                continue
            action = int(rows[0]) * executors + executor
            if not obs["action_mask"][action]:
                continue
            if tasks > 1:
                self._plan.append(Start(job, node, executor, tasks - 1))
            return action
        return -1


def named(obs: Observation, starts: Iterable[tuple[int, int, int]]) -> list[Start]:
    """Return starts by job and stage, of starts by row of ``candidates``: rows shift while a plan is followed."""
    table = obs["candidates"]
    return [Start(int(table[r, Candidate.JOB]), int(table[r, Candidate.NODE]), e, k) for r, e, k in starts]


def _fingerprint(obs: Observation) -> tuple[float, ...]:
    """Return what tells instants apart: the time, the graph's size, and last the number of running tasks."""
    system = obs["system"]
    return (
        float(system[System.TIME_S]),
        float(system[System.JOBS]),
        float(system[System.NODES]),
        float(system[System.EDGES]),
        float(obs["executors"][:, Executor.RUNNING].sum()),
    )


def soonest_dispatch(obs: Observation, state: State = "aware") -> int:
    """Return the legal dispatch that is over first (`completion_s`); the last action if there is none."""
    rows, legal = legal_placements(obs)
    if rows.size == 0:
        return len(obs["action_mask"]) - 1
    executors, seconds = soonest(completion_s(obs, rows, state), legal)
    i = int(seconds.argmin())
    return int(rows[i] * legal.shape[1] + executors[i])


def tool_starts(obs: Observation, order: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return the tool tasks that start: in order, each where its inputs are nearest."""
    table, placements = obs["candidates"], obs["placements"]
    taken = np.zeros(len(obs["executors"]), np.bool_)
    starts = []
    for row in order[table[order, Candidate.KIND] == StageKind.REGULAR].tolist():
        shown = placements[row]
        free = np.flatnonzero((shown[:, Placement.LEGAL] > 0) & ~taken)
        nearest = free[np.argsort(shown[free, Placement.FETCH_S], kind="stable")]
        for e in nearest[: int(table[row, Candidate.TASKS_WAITING])].tolist():
            taken[e] = True
            starts.append((row, e, 1))
    return starts
