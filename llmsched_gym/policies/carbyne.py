"""Carbyne: altruistic scheduling, which trades the slots that a job can do without for others' completion times.

Source: Grandl, Chowdhury, Akella and Ananthanarayanan, "Altruistic Scheduling in Multi-Resource Clusters", OSDI 2016.
Its three schedulers, at every instant at which a slot is free:

1. *Inter-job scheduling*: dominant-resource fairness. A task takes one LLM slot or one regular executor, so the share
   of each of N jobs is 1/N of both kinds, and at least one slot; the next slot is offered to the job with the smallest
   dominant share.
2. *Intra-job scheduling* (altruism): the job plans its remaining DAG within its share backwards from the time at which
   it would finish with that share, starts only what the plan has running now, and gives the rest of its share up.
3. *Leftover scheduling*: what is left goes to jobs in the order of shortest remaining work, each starting whatever it
   can with it, longest path first, until nothing is left.

Assumed: durations are the historical means that SJF gets, as in LLMSched's comparison; all jobs are fully altruistic;
a sub-DAG that is not planned yet is one task that needs no slot; a stage that may turn out to be skipped counts with
its expected work. What is decided for an instant is computed once and replayed, since only this policy's own
dispatches change the state within an instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Executor, Job, Node, System
from llmsched_gym.policies.base import Observation, ObservationMode, Policy
from llmsched_gym.policies.carbyne_plan import tasks_due_now
from llmsched_gym.workloads.template import StageKind

_SLOT_KINDS = 2  # LLM slots and regular executors, numbered as in StageKind
_UNLIMITED = 1 << 30


class Carbyne(Policy):
    """Fair shares, altruistic plans, leftovers to the shortest job."""

    name = "carbyne"
    observation: ObservationMode = "graph"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget what was decided."""
        self._instant: tuple[float, ...] = ()
        self._starts: list[tuple[int, int]] = []

    def act(self, obs: Observation) -> int:
        """Start the next task that was decided for this instant."""
        instant = _fingerprint(obs)
        if instant != self._instant:
            self._starts = decide(obs)
            self._starts.reverse()
        mask, nodes = obs["action_mask"], obs["nodes"]
        action = int(mask.argmax())  # of a stage beyond the window of the graph; otherwise waits
        while self._starts:
            row, tasks = self._starts.pop()
            candidate = int(nodes[row, Node.CANDIDATE])
            if candidate >= 0 and mask[candidate]:
                if tasks > 1:
                    self._starts.append((row, tasks - 1))
                action = candidate
                break
        # One more running task is all that changes before the next decision of the same instant.
        self._instant = (*instant[:-1], instant[-1] + 1)
        return action


def _fingerprint(obs: Observation) -> tuple[float, ...]:
    """Return what tells instants apart: the time, the graph's size, and last the number of running tasks."""
    system = obs["system"]
    size = (system[System.JOBS], system[System.NODES], system[System.EDGES])
    return (
        float(system[System.TIME_S]),
        *map(float, size),
        int(obs["executors"][:, Executor.RUNNING].astype(int).sum()),
    )


def decide(obs: Observation) -> list[tuple[int, int]]:
    """Decide which tasks start now, by the three steps.

    Args:
        obs: A graph observation.

    Returns:
        (row of ``nodes``, number of tasks), in the order in which they start. It may list more than there are free
        slots: what the mask no longer allows is to be left out.
    """
    graph = _Graph(obs)
    granted = _altruistic_starts(graph)
    leftover = graph.waiting.copy()
    starts = []
    for row in granted:
        leftover[row] -= 1
        starts.append((row, 1))
    shortest_first = np.lexsort((-graph.path[graph.ready], graph.remaining[graph.job[graph.ready]]))
    starts += [(int(row), int(leftover[row])) for row in graph.ready[shortest_first] if leftover[row] > 0]
    return starts


class _Graph:
    """The valid rows of a graph observation, as whole numbers where they are.

    Attributes:
        present: Jobs in the system.
        ready: Rows of ``nodes`` whose next task can be dispatched.
        slots: Slots of each kind.
        free: Free slots of each kind.
        running_of: int (jobs, kinds). Running tasks of each job by kind.
    """

    def __init__(self, obs: Observation) -> None:
        system = obs["system"]
        nodes = obs["nodes"][: int(system[System.NODES])]
        executors = obs["executors"].astype(np.int64)
        self.present = int(system[System.JOBS])
        n_jobs = int(system[System.JOB_ROWS])
        self.job = nodes[:, Node.JOB].astype(np.int64)
        self.kind = nodes[:, Node.KIND].astype(np.int64)
        self.path = nodes[:, Node.PATH_S]
        self.remaining = obs["jobs"][:n_jobs, Job.REMAINING_S]
        self.running = nodes[:, Node.TASKS_RUNNING].astype(np.int64)
        # Before a stage is ready its number of tasks is an expectation; its work is spread over at least one task.
        self.waiting = np.rint(nodes[:, Node.TASKS_WAITING]).astype(np.int64)
        self.tasks = np.maximum(self.waiting + self.running, 1)
        slotless = self.kind == StageKind.DYNAMIC
        self.seconds = np.where(slotless, nodes[:, Node.DURATION_S], nodes[:, Node.WORK_S] / self.tasks).astype(float)
        self.edges = obs["edges"][: int(system[System.EDGES])]
        self.first_node = np.searchsorted(self.job, np.arange(n_jobs + 1))
        self.first_edge = np.searchsorted(self.edges[:, 0], self.first_node)
        candidate = nodes[:, Node.CANDIDATE].astype(np.int64)
        self.ready = np.flatnonzero((candidate >= 0) & (obs["action_mask"][candidate] > 0))
        self.first_ready = np.searchsorted(self.ready, self.first_node)
        holders = [executors[executors[:, Executor.KIND] == kind] for kind in range(_SLOT_KINDS)]
        self.slots = np.array([rows[:, Executor.SLOTS].sum() for rows in holders])
        self.free = self.slots - np.array([rows[:, Executor.RUNNING].sum() for rows in holders])
        self.running_of = np.zeros((n_jobs, len(StageKind)), np.int64)
        np.add.at(self.running_of, (self.job, self.kind), self.running)

    def due(self, job: int, quota: NDArray[np.int64]) -> list[int]:
        """Return the tasks that a job's plan within `quota` starts now, as rows of ``nodes``, longest path first."""
        first, last = self.first_node[job], self.first_node[job + 1]
        nodes = slice(first, last)
        edges = self.edges[self.first_edge[job] : self.first_edge[job + 1]] - np.int32(first)
        planned = tasks_due_now(self.tasks[nodes], self.seconds[nodes], self.kind[nodes], edges, quota)
        rows = self.ready[self.first_ready[job] : self.first_ready[job + 1]]
        due = np.minimum(planned[rows - first] - self.running[rows], self.waiting[rows])
        order = np.argsort(-self.path[rows], kind="stable")
        return [int(row) for i, row in zip(order, rows[order], strict=True) for _ in range(due[i])]


def _altruistic_starts(graph: _Graph) -> list[int]:
    """Steps 1 and 2: offer free slots by dominant share, and let each job take only what its plan starts now."""
    quota = np.append(np.maximum(-(-graph.slots // max(graph.present, 1)), 1), _UNLIMITED)
    free, slots = graph.free.tolist(), graph.slots.tolist()
    running_of = graph.running_of.tolist()
    kind = graph.kind
    kinds_of: dict[int, set[int]] = {}
    for job, k in zip(graph.job[graph.ready].tolist(), kind[graph.ready].tolist(), strict=True):
        kinds_of.setdefault(job, set()).add(k)

    def share(job: int) -> float:
        return max(running_of[job][k] / slots[k] for k in range(_SLOT_KINDS) if slots[k])

    offers = [(share(job), job) for job in kinds_of]
    heapify(offers)
    plans: dict[int, list[int]] = {}
    starts = []
    while offers and any(free):
        _, job = heappop(offers)
        if not any(free[k] > 0 and running_of[job][k] < quota[k] for k in kinds_of[job]):
            continue  # its share is used up, or there is nothing of what it could use
        if job not in plans:
            plans[job] = graph.due(job, quota)
        for i, row in enumerate(plans[job]):
            k = kind[row]
            if free[k] > 0 and running_of[job][k] < quota[k]:
                del plans[job][i]
                free[k] -= 1
                running_of[job][k] += 1
                starts.append(row)
                heappush(offers, (share(job), job))
                break
    return starts
