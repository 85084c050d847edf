"""Random networks, and their joint distributions by enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.profiler.profile import SLICES, Profile, Variable
from llmsched_gym.workloads.template import StageKind

Floats = NDArray[np.float64]


def variable(name: str, node: int, states: int, rng: np.random.Generator) -> Variable:
    """A variable with a random kind, times that grow with its state, and perhaps an absent state."""
    absent = bool(states > 1 and rng.random() < 0.5)
    slices = np.cumsum(rng.random((states, SLICES)).ravel() / SLICES + 0.001).reshape(states, SLICES)
    if absent:
        slices[0] = 0.0
    edges = np.concatenate([[0.0], slices[absent + 1 :, 0] - 0.0005, [np.inf]])
    kind = (StageKind.LLM, StageKind.REGULAR)[int(rng.integers(2))]
    return Variable(name, node, absent, edges, slices, kind)


def random_profile(
    rng: np.random.Generator, variables: int, most_states: int, in_degree: int = 3, zeros: float = 0.0
) -> Profile:
    """A network with random edges to earlier variables; a share `zeros` of the table entries is impossible."""
    states = rng.integers(1, most_states + 1, variables)
    parents: list[tuple[int, ...]] = []
    tables: list[Floats] = []
    for v in range(variables):
        count = int(rng.integers(0, min(v, in_degree) + 1))
        chosen = tuple(sorted(rng.permutation(v)[:count].tolist()))
        shape = [*(int(states[p]) for p in chosen), int(states[v])]
        weights = rng.random(shape) ** 2 + 1e-3
        weights *= rng.random(shape) >= zeros
        weights[..., 0] += 1e-3 * (weights.sum(axis=-1) == 0)
        parents.append(chosen)
        tables.append(weights / weights.sum(axis=-1, keepdims=True))
    names = tuple(f"v{v}" for v in range(variables))
    return Profile(
        application="random",
        nodes=names,
        variables=tuple(variable(name, v, int(states[v]), rng) for v, name in enumerate(names)),
        parents=tuple(parents),
        tables=tuple(tables),
        latency=LatencyProfile("none", 0, 0, 0, 0),
    )


def pgmpy_network(profile: Profile) -> Any:
    """The same network in pgmpy; its nodes are named v0, v1, ..."""
    models = pytest.importorskip("pgmpy.models")
    factors = pytest.importorskip("pgmpy.factors.discrete")
    sizes = profile.states.tolist()
    model = models.DiscreteBayesianNetwork()
    model.add_nodes_from(f"v{v}" for v in range(len(sizes)))
    model.add_edges_from((f"v{p}", f"v{v}") for v, parents in enumerate(profile.parents) for p in parents)
    for v, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        values = np.moveaxis(table, -1, 0).reshape(sizes[v], -1)
        names = [f"v{p}" for p in parents]
        model.add_cpds(factors.TabularCPD(f"v{v}", sizes[v], values, names, [sizes[p] for p in parents]))
    return model


def random_masks(profile: Profile, rng: np.random.Generator, known: float = 0.3) -> NDArray[np.uint16]:
    """Evidence that one job of the network can show: finished stages, partial exclusions, and nothing known."""
    state: list[int] = []
    for parents, table in zip(profile.parents, profile.tables, strict=True):
        row = table[tuple(state[p] for p in parents)]
        state.append(int(min(np.searchsorted(np.cumsum(row), rng.random(), side="right"), np.flatnonzero(row)[-1])))
    masks = np.empty(len(state), dtype=np.uint16)
    for v, (own, count) in enumerate(zip(state, profile.states.tolist(), strict=True)):
        u = rng.random()
        if u < known:
            masks[v] = 1 << own
        elif u < 2 * known:
            masks[v] = int(rng.integers(1 << count)) | 1 << own
        else:
            masks[v] = 0xFFFF
    return masks


def joint(profile: Profile, masks: NDArray[np.uint16]) -> Floats:
    """Unnormalised joint distribution within the masks: one axis per variable."""
    n = len(profile.variables)
    result = np.ones([int(s) for s in profile.states])
    for v, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        axes = [*parents, v]
        order = np.argsort(axes)
        shape = [1] * n
        for axis in axes:
            shape[axis] = int(profile.states[axis])
        result = result * table.transpose(order).reshape(shape)
    for v in range(n):
        allowed = np.array([bool(masks[v] >> s & 1) for s in range(int(profile.states[v]))])
        result = result * allowed.reshape([-1 if axis == v else 1 for axis in range(n)])
    return result


def entropy_of(distribution: Floats) -> float:
    """Entropy in nats."""
    positive = distribution[distribution > 0]
    return float(-(positive * np.log(positive)).sum())
