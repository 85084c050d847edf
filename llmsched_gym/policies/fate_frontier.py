"""The ready frontier of a planner: what each ready stage would cost where, and the candidates to choose from.

Costs are state-conditional: they are read from ``placements``, which tells what the executors' present state makes of
them. For k tasks of a stage on one executor,

    cost = wait + max(load, fetch) + task + (k - 1) * prefill,

since tasks that are batched decode together, but their prompts are computed one after another; where an executor has
fewer than k free slots, ``task`` is counted again for each further round. ``prefill`` leaves out what is cached. A
stage that is split costs what its slowest shard costs.

Assumed: all waiting tasks of a stage are like the next one, as only that one is shown; a stage is split evenly, with
larger shards on quicker executors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Placement, Residency, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.workloads.template import StageKind

MOST_STAGES: Final = 50
"""Ready stages that a plan looks at, those of the oldest jobs."""

MOST_CANDIDATES: Final = 8
"""Candidates of each of them, the cheapest."""

_SPLIT_AMONG: Final = 4
"""Executors that a stage may be split among: the cheapest."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Frontier:
    """N ready LLM stages on E executors, with M models.

    Attributes:
        rows: int (N,). Their rows in ``candidates``.
        shown: float64 (N, E, len(Placement)). What ``placements`` tells.
        models: float64 (E, M, len(Residency)).
        model: int (N, E). The model that would serve it; -1 where none does.
        waiting: int (N,). Tasks to start.
        prompt: float64 (N,). Prompt tokens of the next one.
        ready_s: float64 (N,). How long it has been ready.
        free: int (E,). Free slots.
        running: int (E,). Tasks that an executor holds.
        drained_s: float64 (E,). Seconds until it holds none, as far as is shown.
    """

    rows: Ints
    shown: Floats
    models: Floats
    model: Ints
    waiting: Ints
    prompt: Floats
    ready_s: Floats
    free: Ints
    running: Ints
    drained_s: Floats

    @cached_property
    def legal(self) -> NDArray[np.bool_]:
        """Where its next task may be dispatched now, bool (N, E)."""
        return self.shown[..., Placement.LEGAL] > 0

    @cached_property
    def serves(self) -> NDArray[np.bool_]:
        """Where it may be at all, bool (N, E)."""
        return self.model >= 0

    @cached_property
    def prefill_s(self) -> Floats:
        """Seconds of prefill of one task, (N, E)."""
        per_token = self.models[np.arange(len(self.free)), self.model, Residency.PREFILL_S]
        return np.maximum(self.prompt[:, None] - self.shown[..., Placement.CACHED_TOKENS], 1.0) * per_token

    def cost_s(self, tasks: Ints) -> Floats:
        """Return the seconds until so many tasks of each stage would be over on each executor.

        Args:
            tasks: int (..., N, E) or what can be broadcast to that.

        Returns:
            float64 (..., N, E): infinite where it is not served.
        """
        begin_s, task_s, prefill_s, slots = self._costs
        rounds = -(-tasks // slots)
        return np.where(self.serves, begin_s + rounds * task_s + np.maximum(tasks - 1, 0) * prefill_s, np.inf)

    @cached_property
    def _costs(self) -> tuple[Floats, Floats, Floats, Ints]:
        """Seconds until tasks begin, of one task, of one prefill, (N, E); and slots, at least 1."""
        shown = self.shown
        begin = shown[..., Placement.WAIT_S] + np.maximum(shown[..., Placement.LOAD_S], shown[..., Placement.FETCH_S])
        slots = np.maximum(np.where(self.legal, self.free, self.free + self.running), 1)
        return begin, shown[..., Placement.TASK_S], self.prefill_s, slots


def look(obs: Observation, most: int = MOST_STAGES) -> Frontier:
    """Read the frontier from an observation."""
    shown_rows = int(obs["system"][System.CANDIDATES])
    table = obs["candidates"][:shown_rows]
    rows = np.flatnonzero(table[:, Candidate.KIND] == StageKind.LLM)[:most]
    shown = obs["placements"][rows].astype(np.float64)
    serves = shown[..., Placement.SERVES] > 0
    model = np.where(serves, shown[..., Placement.MODEL], -1).astype(np.int64)
    executors = obs["executors"]
    running = executors[:, Executor.RUNNING].astype(np.int64)
    everyone = obs["placements"][:shown_rows]
    blocked = np.where(everyone[..., Placement.LEGAL] > 0, 0.0, everyone[..., Placement.WAIT_S])
    return Frontier(
        rows=rows,
        shown=shown,
        models=obs["models"].astype(np.float64),
        model=model,
        waiting=table[rows, Candidate.TASKS_WAITING].astype(np.int64),
        prompt=table[rows, Candidate.PROMPT_TOKENS].astype(np.float64),
        ready_s=table[rows, Candidate.READY_S].astype(np.float64),
        free=executors[:, Executor.SLOTS].astype(np.int64) - running,
        running=running,
        drained_s=blocked.max(axis=0, initial=0.0).astype(np.float64),
    )


@dataclass(frozen=True)
class Candidates:
    """What may be chosen, by stage.

    Attributes:
        stage: int (C,). Position in the frontier, ascending.
        share: int (C, E). Tasks on each executor, of all that wait; 0 where it has no shard.
        cost_s: float64 (C,).
    """

    stage: Ints
    share: Ints
    cost_s: Floats


def enumerate_candidates(frontier: Frontier, allowed: NDArray[np.bool_], shards: int) -> Candidates:
    """List the cheapest candidates of each stage.

    Args:
        frontier: The stages.
        allowed: bool (N, E). Executors that a stage may go to.
        shards: Most executors that one stage is split among.
    """
    n, executors = frontier.model.shape
    each = np.arange(n)
    waiting = frontier.waiting
    order = np.argsort(np.where(allowed, frontier.cost_s(waiting[:, None]), np.inf), axis=1, kind="stable")
    order = order[:, :MOST_CANDIDATES]
    groups: list[tuple[int, ...]] = [(k,) for k in range(order.shape[1])]
    for size in range(2, min(shards, order.shape[1], int(waiting.max(initial=0))) + 1):
        groups += combinations(range(min(_SPLIT_AMONG, order.shape[1])), size)
    share = np.zeros((len(groups), n, executors), np.int64)
    for i, group in enumerate(groups):
        for position, k in enumerate(group):
            share[i, each, order[:, k]] = (waiting + len(group) - 1 - position) // len(group)
    cost = np.where(share > 0, np.where(allowed, frontier.cost_s(share), np.inf), 0.0).max(axis=2)
    sizes = np.array([len(group) for group in groups])
    cost[sizes[:, None] > waiting] = np.inf
    cheapest = np.argsort(cost, axis=0, kind="stable")[:MOST_CANDIDATES].T
    stage, group = np.repeat(each, cheapest.shape[1]), cheapest.ravel()
    found = np.isfinite(cost[group, stage])
    stage, group = stage[found], group[found]
    return Candidates(stage, share[group, stage], cost[group, stage])
