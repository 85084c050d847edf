"""Halo-style: a beam search over the stages in sight, by work and by what switching models costs.

After the search scheduler of Halo's public demonstration (``mlsys-io/Halo_demo``, ``halo/schedulers/search.py``), not
its paper's dynamic program: hence *Halo-style*, a proxy. As there: step by step, every device gets one of the operators
whose parents have been placed, those with the most children first, of equal ones those with the longest tail. If there
are fewer than devices, the heaviest is replicated and its queries are sharded. Orders of a step are a greedy one, which
gives each device what costs it least, and the same with two neighbours swapped. What a device does costs its work, more
if it changes models and less if it goes on with the same. States are rated by the device that is over last, plus the
work that is left, over all devices; the best ``width`` are kept.

Ours, where jobs arrive and devices differ:

- an operator is a stage of LLM tasks, and its tasks are the queries. A device may do what it serves, and a stage has
  at most as many shards as it has tasks;
- *work* is queries * tokens * billions of parameters there. Here it is slot time: tasks times the seconds of one on
  that device, by ``placements``, and before a stage is ready its expected work on the first executor that serves its
  model, times how much slower the device generates. Batches are not counted, as there;
- *switching* costs 300 units of that work there, going on saves 80. A model of 8 billion parameters takes 6.4 ms per
  token on an H100, a unit is then 0.8 ms: ``switch_s`` 0.24 and ``saving_s`` 0.064. Loading takes longer than that,
  which is nothing that this search knows;
- a shard costs its share of the work, where the original charges each with the whole;
- a device begins with the model that is active, when it is expected to be free of others;
- the search ends when all that is ready has been placed, and is made anew at every event. What is ready starts where
  the search has put it, in that order, or waits for it; nothing is held back for what waits;
- stages of tools take no device and no time; their tasks start in order of arrival, where their inputs are nearest;
- a sub-DAG that is not planned yet, and a stage that runs, are as if they were placed.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Ahead, Candidate, Executor, Node, Placement, Residency, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.parameters import real, whole
from llmsched_gym.policies.plan_follower import PlanFollower, Start, named, tool_starts
from llmsched_gym.workloads.template import StageKind

_UNIT_S: Final = 0.8e-3
"""Seconds of a token per billion parameters: of an 8B model on an H100."""


class Operators(NamedTuple):
    """The LLM stages that are not running yet, in a topological order, on D devices.

    Attributes:
        work_s: By operator and device: slot time; infinite where it is not served.
        least_s: (n,) the smallest of these.
        tasks: (n,) to start, at least 1.
        model: (n,) column of ``models``.
        rank: (n,) place in the order of out-degree, then tail.
        parents: (n,) how many of the others it waits for.
        children: Of each, the others that wait for it.
        row: (n,) row of ``candidates``; -1 where it is not ready.
        executor: (D,) row of ``executors``.
        last_model: (D,) that each device runs; -1 for none.
        begin_s: (D,) when each is free.
    """

    work_s: list[list[float]]
    least_s: list[float]
    tasks: list[int]
    model: list[int]
    rank: list[int]
    parents: list[int]
    children: list[list[int]]
    row: list[int]
    executor: list[int]
    last_model: list[int]
    begin_s: list[float]


class _State(NamedTuple):
    """Part of a plan.

    Attributes:
        busy_s: By device.
        model: By device: the last one.
        parents: By operator: how many are not placed.
        left_s: Work of what is not placed.
        waiting: Operators that may be placed.
        steps: What was placed: (operator, device, tasks).
    """

    busy_s: list[float]
    model: list[int]
    parents: list[int]
    left_s: float
    waiting: set[int]
    steps: list[tuple[int, int, int]]


class _Step(NamedTuple):
    """What may be placed next.

    Attributes:
        score: When the plan would be over at best.
        before: What was placed already.
        order: By device: its operator, or -1.
        busy_s: By device, afterwards.
        left_s: Work of what is not placed then.
    """

    score: float
    before: _State
    order: tuple[int, ...]
    busy_s: list[float]
    left_s: float


class Halo(PlanFollower):
    """Halo-style beam search.

    Args:
        width: States that are kept.
        switch_s: What changing models costs.
        saving_s: What going on with the same model saves.
    """

    name = "halo"

    def __init__(self, width: int = 4, switch_s: float = 300 * _UNIT_S, saving_s: float = 80 * _UNIT_S) -> None:
        self.width = whole(self.name, "width", width, 1, 64)
        self.switch_s = real(self.name, "switch_s", switch_s, 0.0, 1e6)
        self.saving_s = real(self.name, "saving_s", saving_s, 0.0, 1e6)
        self.reset({})

    def plan(self, obs: Observation) -> list[Start]:
        """Decide what starts now."""
        given = read_operators(obs)
        starts = [(given.row[i], given.executor[device], tasks) for i, device, tasks in self.search(given)]
        starts = [start for start in starts if start[0] >= 0]
        return named(obs, starts + tool_starts(obs, np.arange(int(obs["system"][System.CANDIDATES]))))

    def search(self, given: Operators) -> list[tuple[int, int, int]]:
        """Place operators until all that are ready are placed.

        Returns:
            (operator, device, tasks), in the order in which they were placed.
        """
        everything = range(len(given.tasks))
        first = {i for i in everything if given.parents[i] == 0}
        ready = {i for i in everything if given.row[i] >= 0}
        beam = [_State(given.begin_s, given.last_model, given.parents, sum(given.least_s), first, [])]
        while not any(ready.isdisjoint(state.waiting) for state in beam):
            steps = [step for state in beam for step in self._steps(given, state)]
            steps.sort(key=lambda step: step.score)
            beam = [_after(given, step) for step in steps[: self.width]]
        return next(state for state in beam if ready.isdisjoint(state.waiting)).steps

    def _steps(self, given: Operators, state: _State) -> list[_Step]:
        """Return what may be placed next."""
        devices = len(state.busy_s)
        chosen = sorted(state.waiting, key=given.rank.__getitem__)[:devices]
        shards = dict.fromkeys(chosen, 1)
        heaviest = max(chosen, key=given.least_s.__getitem__)
        shards[heaviest] += min(devices - len(chosen), given.tasks[heaviest] - 1)
        left = [i for i in chosen for _ in range(shards[i])]
        order = [-1] * devices
        for device in range(devices):
            costs = [self._cost_s(given, state, i, device, shards[i]) for i in left]
            least_s = min(costs, default=math.inf)
            if least_s < math.inf:
                order[device] = left.pop(costs.index(least_s))
        orders = {tuple(order): None}
        for a in range(min(self.width, devices) - 1):
            swapped = (*order[:a], order[a + 1], order[a], *order[a + 2 :])
            if all(i < 0 or given.work_s[i][device] < math.inf for device, i in enumerate(swapped)):
                orders[swapped] = None
        steps = []
        for one in orders:
            counts = Counter(one)
            left_s = state.left_s - sum(given.least_s[i] for i in counts if i >= 0)
            busy_s = [
                busy if i < 0 else busy + self._cost_s(given, state, i, device, counts[i])
                for device, (busy, i) in enumerate(zip(state.busy_s, one, strict=True))
            ]
            steps.append(_Step(max(busy_s) + left_s / devices, state, one, busy_s, left_s))
        return steps

    def _cost_s(self, given: Operators, state: _State, operator: int, device: int, shards: int) -> float:
        """Return what a shard of an operator adds to a device."""
        work_s, last = given.work_s[operator][device] / shards, state.model[device]
        if last < 0:
            return work_s
        return work_s - self.saving_s if last == given.model[operator] else work_s + self.switch_s


def _after(given: Operators, step: _Step) -> _State:
    """Return the state after a step."""
    before, counts = step.before, Counter(step.order)
    model, parents, waiting, steps = before.model.copy(), before.parents.copy(), before.waiting.copy(), [*before.steps]
    for device, operator in enumerate(step.order):
        if operator < 0:
            continue
        model[device] = given.model[operator]
        part = step.order[:device].count(operator)
        tasks = (given.tasks[operator] + counts[operator] - 1 - part) // counts[operator]
        steps.append((operator, device, tasks))
        if part == 0:
            waiting.remove(operator)
            for child in given.children[operator]:
                parents[child] -= 1
                if parents[child] == 0:
                    waiting.add(child)
    return _State(step.busy_s, model, parents, step.left_s, waiting, steps)


def read_operators(obs: Observation) -> Operators:
    """Read the operators and devices from a graph observation."""
    system, table = obs["system"], obs["candidates"]
    count = int(system[System.NODES])
    nodes, ahead = obs["nodes"][:count], obs["ahead"][:count]
    executors = np.flatnonzero(obs["executors"][:, Executor.KIND] == StageKind.LLM)
    models = obs["models"][executors]
    rows = np.flatnonzero(table[: int(system[System.CANDIDATES]), Candidate.KIND] == StageKind.LLM)
    shown = obs["placements"][rows][:, executors]
    ready = np.full((len(table), len(executors)), np.inf)
    serves = shown[..., Placement.SERVES] > 0
    waiting = table[rows, Candidate.TASKS_WAITING]
    ready[rows] = np.where(serves, shown[..., Placement.TASK_S] * waiting[:, None], np.inf)
    row_of = nodes[:, Node.CANDIDATE].astype(np.int64)
    idle = (row_of >= 0) | (nodes[:, Node.TASKS_RUNNING] == 0)
    at = np.flatnonzero((nodes[:, Node.KIND] == StageKind.LLM) & idle)
    work_s = np.where(row_of[at, None] >= 0, ready[row_of[at]], _expected_s(nodes[at], ahead[at], models))
    served = np.isfinite(work_s).any(axis=1)
    at, work_s = at[served], work_s[served]
    beyond = np.setdiff1d(rows, row_of[at])  # of jobs that the graph leaves out
    beyond = beyond[np.isfinite(ready[beyond]).any(axis=1)]
    row = np.concatenate((row_of[at], beyond))
    work_s = np.concatenate((work_s, ready[beyond]))
    children_of = np.bincount(obs["edges"][: int(system[System.EDGES]), 0], minlength=count)
    fan = np.concatenate((children_of[at], np.zeros(len(beyond), np.int64)))
    tail_s = np.concatenate((nodes[at, Node.PATH_S], table[beyond, Candidate.PATH_S]))
    rank = np.empty(len(row), np.int64)
    rank[np.lexsort((-tail_s, -fan))] = np.arange(len(row))
    tasks = np.concatenate((nodes[at, Node.TASKS_WAITING], table[beyond, Candidate.TASKS_WAITING]))
    model = np.concatenate((ahead[at, Ahead.MODEL], obs["placements"][beyond, :, Placement.MODEL].max(axis=1)))
    waits_for = _waits_for(obs, at)
    children: list[list[int]] = [[] for _ in row]
    for child, parents in enumerate(waits_for):
        for parent in sorted(parents):
            children[parent].append(child)
    active = models[..., Residency.ACTIVE] > 0
    return Operators(
        work_s=work_s.tolist(),
        least_s=work_s.min(axis=1, initial=np.inf).tolist(),
        tasks=np.maximum(np.rint(tasks), 1).astype(np.int64).tolist(),
        model=model.astype(np.int64).tolist(),
        rank=rank.tolist(),
        parents=[*map(len, waits_for), *(0 for _ in beyond)],
        children=children,
        row=row.tolist(),
        executor=executors.tolist(),
        last_model=np.where(active.any(axis=1), active.argmax(axis=1), -1).tolist(),
        begin_s=shown[..., Placement.WAIT_S].max(axis=0, initial=0.0).tolist(),
    )


def _expected_s(nodes: NDArray[np.float32], ahead: NDArray[np.float32], models: NDArray[np.float32]) -> Any:
    """Return the expected slot time of stages that are not ready on each device, float64 (n, D)."""
    model = ahead[:, Ahead.MODEL].astype(np.int64)
    step_s = models[:, model, Residency.STEP_S].T.astype(np.float64)
    serves = (models[:, model, Residency.SERVES].T > 0) | (model < 0)[:, None]  # any will do
    reference_s = step_s[np.arange(len(model)), serves.argmax(axis=1)]
    slower = np.where((model >= 0) & (reference_s > 0), step_s.T / np.maximum(reference_s, 1e-12), 1.0).T
    return np.where(serves, nodes[:, Node.WORK_S, None] * slower, np.inf)


def _waits_for(obs: Observation, at: NDArray[np.int64]) -> list[set[int]]:
    """Return the operators that each waits for, directly or through stages that are none.

    Args:
        obs: A graph observation.
        at: (n,) rows of ``nodes`` that are operators.
    """
    count, n_edges = int(obs["system"][System.NODES]), int(obs["system"][System.EDGES])
    operator = dict(zip(at.tolist(), range(len(at)), strict=True))
    before: list[set[int]] = [set() for _ in range(count)]
    for parent, child in obs["edges"][:n_edges].tolist():  # parents ascend: what is before a parent is complete
        if parent in operator:
            before[child].add(operator[parent])
        else:
            before[child] |= before[parent]
    return [before[v] for v in at.tolist()]
