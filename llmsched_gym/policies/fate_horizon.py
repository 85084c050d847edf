"""Horizon of a planner: what a decision does to the stages that come after, within a few hops.

Every stage that is ready or runs is followed along its edges for a number of hops. What is found there is *demand*: a
stage that asks for a model, discounted by gamma to the hop. Four terms follow from it, all in seconds:

- *residency*: what each later stage would need at best to be loaded and run somewhere, before and after an executor
  takes up a model; what it evicts for that is read from the reload seconds that ``placements`` shows;
- *locality*: what a child need not fetch, if it finds its model where its parent ran;
- *prefix*: prompt tokens of the parent that a child with the same model need not compute again, if it stays;
- *reachability*: how much later the best executor for each later stage of others could be had, if it is held.

Assumed: a link carries ``gb_per_s`` (links are not in the observation); a child's prompt begins with its parent's; a
child fetches nothing if its model is resident where its parent ran; each model will be asked for once more, one hop
beyond the horizon; later stages come when those before them are expected to be over, one stage after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np

from llmsched_gym.envs.columns import Ahead, Node, Placement, Residency, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.fate_frontier import Candidates, Floats, Frontier, Ints

_TYPICAL_TOKENS: Final = 100.0
"""Output tokens assumed of a stage of a model that no known stage asks for."""

_FAR_S: Final = 1e6
"""Stands for never, so that differences stay finite."""


@dataclass(frozen=True)
class Demand:
    """What is asked for within the horizon, with discounts.

    Attributes:
        own: float64 (N, M). By descendants of each stage of the frontier.
        children: float64 (N, M). By its children alone.
        output_bytes: float64 (N,). What it leaves for them.
        all: float64 (M,). By all stages to come.
        comes_s: float64 (M,). Seconds until it is, on average.
        tokens: float64 (M,). Output tokens of such a stage, on average.
    """

    own: Floats
    children: Floats
    output_bytes: Floats
    all: Floats
    comes_s: Floats
    tokens: Floats


def look_ahead(obs: Observation, frontier: Frontier, horizon: int, gamma: float, presence: Floats) -> Demand:
    """Follow the edges of the graph.

    Args:
        obs: A graph observation.
        frontier: The stages whose own descendants are told apart.
        horizon: Hops.
        gamma: Discount per hop.
        presence: float64 (nodes,). How much of a stage is expected to be there.
    """
    n_models = frontier.models.shape[1]
    count, n_edges = int(obs["system"][System.NODES]), int(obs["system"][System.EDGES])
    nodes, edges, ahead = obs["nodes"][:count], obs["edges"][:n_edges], obs["ahead"][:count]
    model = ahead[:, Ahead.MODEL].astype(np.int64)
    row_of = np.full(len(obs["candidates"]), -1)
    listed = np.flatnonzero(nodes[:, Node.CANDIDATE] >= 0)
    row_of[nodes[listed, Node.CANDIDATE].astype(np.int64)] = listed
    mine = row_of[frontier.rows]
    outputs = np.where(mine >= 0, ahead[mine, Ahead.OUTPUT_BYTES], 0.0) if count else np.zeros(len(mine))
    first_edge = np.searchsorted(edges[:, 0], np.arange(count + 1))
    own, children = np.zeros((2, len(mine), n_models))
    total, late, tokens = np.zeros((3, n_models))
    position = np.flatnonzero(mine >= 0)
    at = mine[position]
    active = (nodes[:, Node.CANDIDATE] >= 0) | (nodes[:, Node.TASKS_RUNNING] > 0)
    seen = active.copy()
    front = np.flatnonzero(active)
    over_s = np.zeros(count)
    over_s[front] = nodes[front, Node.DURATION_S]
    met = position * count + at
    for hop in range(1, horizon + 1):
        weight = gamma**hop
        position, at = _step(position, at, first_edge, edges[:, 1])
        key, unique = np.unique(position * count + at, return_index=True)
        unique = unique[~np.isin(key, met)]
        position, at = position[unique], at[unique]
        met = np.concatenate((met, position * count + at))
        asks = model[at] >= 0
        np.add.at(own, (position[asks], model[at[asks]]), weight * presence[at[asks]])
        if hop == 1:
            np.add.at(children, (position[asks], model[at[asks]]), weight * presence[at[asks]])
        parents, reached = _step(front, front, first_edge, edges[:, 1])
        comes_s = np.zeros(count)
        np.maximum.at(comes_s, reached, over_s[parents])
        front = np.unique(reached)
        front = front[~seen[front]]
        seen[front] = True
        over_s[front] = comes_s[front] + nodes[front, Node.DURATION_S]
        asking = front[model[front] >= 0]
        weights = weight * presence[asking]
        total += np.bincount(model[asking], weights, n_models)
        late += np.bincount(model[asking], weights * comes_s[asking], n_models)
        tokens += np.bincount(model[asking], weights * ahead[asking, Ahead.OUTPUT_TOKENS], n_models)
    some = np.maximum(total, 1e-9)
    tokens = np.where(total > 0, tokens / some, _TYPICAL_TOKENS)
    return Demand(own, children, outputs.astype(np.float64), total, late / some, tokens)


def _step(position: Ints, at: Ints, first_edge: Ints, child: Ints) -> tuple[Ints, Ints]:
    """Follow all edges from nodes: what stands beside them is repeated for each child."""
    begin, fan = first_edge[at], first_edge[at + 1] - first_edge[at]
    offset = np.arange(fan.sum()) - np.repeat(np.cumsum(fan) - fan, fan)
    return np.repeat(position, fan), child[np.repeat(begin, fan) + offset].astype(np.int64)


@dataclass(frozen=True)
class Reach:
    """How soon each model could be had where, (E, M), in seconds.

    Attributes:
        load_s: To load it; `_FAR_S` where it is not served.
        held_s: Until tasks of another model are over.
        run_s: To run a stage of it.
    """

    load_s: Floats
    held_s: Floats
    run_s: Floats


def reach(frontier: Frontier, demand: Demand) -> Reach:
    """Read off how soon each model could be had."""
    models = frontier.models
    serves = models[..., Residency.SERVES] > 0
    resident = models[..., Residency.RESIDENT] > 0
    load_s = np.where(resident, models[..., Residency.LOADING_S], models[..., Residency.LOAD_S])
    others = (models[..., Residency.ACTIVE] <= 0) & (frontier.running > 0)[:, None]
    return Reach(
        load_s=np.where(serves, load_s, _FAR_S),
        held_s=np.where(others, frontier.drained_s[:, None], 0.0),
        run_s=demand.tokens * models[..., Residency.STEP_S],
    )


def opening_s(frontier: Frontier, demand: Demand, soon: Reach, tail: float) -> Floats:
    """Return what residency gains by each executor taking up each model, float64 (E, M); losses are negative.

    It is worked out for models that the frontier asks for.

    Args:
        frontier: The stages.
        demand: What is asked for.
        soon: How soon models could be had.
        tail: Demand for each model beyond the horizon.
    """
    wanted = demand.all + tail
    cost = soon.load_s + soon.run_s
    ranked = np.sort(cost, axis=0)
    best, second = ranked[0], ranked[1] if len(ranked) > 1 else np.full_like(ranked[0], _FAR_S)
    gains = np.zeros(cost.shape)
    models = frontier.models
    columns = np.broadcast_to(np.arange(cost.shape[0]), frontier.model.shape)
    asked = (frontier.model >= 0) & (at_model(frontier, Residency.RESIDENT) <= 0)
    for e, m in sorted(set(zip(columns[asked].tolist(), frontier.model[asked].tolist(), strict=True))):
        gains[e, m] += wanted[m] * max(best[m] - soon.run_s[e, m], 0.0)
        for victim in _victims(frontier, e, m):
            elsewhere = second[victim] if cost[e, victim] <= best[victim] else best[victim]
            reloaded = models[e, victim, Residency.LOAD_S] + soon.run_s[e, victim]
            gains[e, m] -= wanted[victim] * max(min(elsewhere, reloaded) - best[victim], 0.0)
    return gains


def _victims(frontier: Frontier, executor: int, model: int) -> tuple[int, ...]:
    """Return the models that an executor would evict: those whose reloads take as long together as is shown."""
    asking = np.flatnonzero(frontier.model[:, executor] == model)
    if len(asking) == 0:
        return ()
    evict_s = round(float(frontier.shown[asking[0], executor, Placement.EVICT_S]), 3)
    mine = frontier.models[executor]
    resident = np.flatnonzero(mine[:, Residency.RESIDENT] > 0)
    loads = tuple(round(float(load_s), 3) for load_s in mine[resident, Residency.LOAD_S])
    return tuple(int(resident[k]) for k in _subset(loads, evict_s))


@lru_cache(maxsize=4096)
def _subset(loads: tuple[float, ...], total: float) -> tuple[int, ...]:
    """Return the positions of the numbers whose sum is nearest to a total; of equal ones the fewest, then the first."""
    sets = [which for size in range(len(loads) + 1) for which in combinations(range(len(loads)), size)]
    return min(sets, key=lambda which: (round(abs(sum(loads[k] for k in which) - total), 2), len(which), which))


def locality_s(frontier: Frontier, demand: Demand, candidates: Candidates, gb_per_s: float) -> Floats:
    """Return what children need not fetch, float64 (C,)."""
    seconds = demand.output_bytes / (gb_per_s * 1e9)
    here = demand.children @ (frontier.models[..., Residency.RESIDENT] > 0).T
    taken = np.take_along_axis(demand.children, np.maximum(frontier.model, 0), axis=1)
    already = at_model(frontier, Residency.RESIDENT) > 0
    stays = here + np.where(already | ~frontier.serves, 0.0, taken)
    s = candidates.stage
    return (_parts(candidates) * stays[s]).sum(axis=1) * seconds[s]


def prefix_s(frontier: Frontier, demand: Demand, soon: Reach, candidates: Candidates) -> Floats:
    """Return the prefill that children need not do again, float64 (C,).

    A child with the same model either stays or goes where it is over sooner, so that a prefix on a slow executor is
    worth less than its prefill.
    """
    model, serves = np.maximum(frontier.model, 0), frontier.serves
    executors = np.arange(model.shape[1])
    missing_s = np.where(serves, frontier.prefill_s, 0.0)
    run_s = soon.run_s[executors, model]
    anew_s = np.where(serves, soon.load_s[executors, model] + run_s + missing_s, _FAR_S)
    ranked = np.sort(anew_s, axis=1)
    next_s = ranked[:, 1:2] if len(executors) > 1 else np.full((len(model), 1), _FAR_S)
    elsewhere_s = np.where(np.arange(len(executors)) == anew_s.argmin(axis=1)[:, None], next_s, ranked[:, :1])
    gained_s = np.minimum(elsewhere_s, run_s + missing_s) - np.minimum(elsewhere_s, run_s)
    gained_s *= np.take_along_axis(demand.children, model, axis=1)
    s = candidates.stage
    return (_parts(candidates) * gained_s[s]).sum(axis=1)


def _parts(candidates: Candidates) -> Floats:
    """Return the share of a stage's tasks that each executor has, (C, E)."""
    return candidates.share / np.maximum(candidates.share.sum(axis=1, keepdims=True), 1)


def reachability_s(frontier: Frontier, demand: Demand, soon: Reach, candidates: Candidates) -> Floats:
    """Return how much later the stages of others could be over at best, float64 (C,)."""
    rest_s = soon.load_s + soon.run_s
    ends = np.maximum(soon.held_s - demand.comes_s, 0.0) + rest_s
    best = ends.min(axis=0)
    only = ends.argmin(axis=0)
    second = np.sort(ends, axis=0)[1] if len(ends) > 1 else np.full_like(best, _FAR_S)
    s = candidates.stage
    others = np.maximum(demand.all - demand.own[s], 0.0)
    total = np.zeros(len(s))
    for m in np.flatnonzero(demand.all > 0):
        e = int(only[m])
        held = (candidates.share[:, e] > 0) & (frontier.model[s, e] != m)
        later = np.maximum(np.maximum(candidates.cost_s, soon.held_s[e, m]) - demand.comes_s[m], 0.0) + rest_s[e, m]
        rise = np.maximum(np.minimum(later, second[m]) - best[m], 0.0)
        total += np.where(held, others[:, m] * rise, 0.0)
    return total


def at_model(frontier: Frontier, column: Residency) -> Floats:
    """Return what ``models`` tells of the model that would serve each stage on each executor, (N, E)."""
    return frontier.models[np.arange(len(frontier.free)), np.maximum(frontier.model, 0), column]
