"""Graphs of jobs: each state is kept once, and levels carry messages as plain recursion does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Node
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.graph_batch import GraphStore, levels, ranges

COLUMNS = (Node.KIND, Node.TASKS_WAITING, Node.WORK_S)
Observe = Callable[..., dict[str, NDArray[Any]]]


def chain(job: int, *works: float) -> list[dict[str, float]]:
    return [{"job": job, "node": i, "work_s": work} for i, work in enumerate(works)]


def test_a_state_is_recognised_whatever_stands_before_it(observe: Observe) -> None:
    store = GraphStore(COLUMNS)
    alone = store.add(observe([], [{}], nodes=chain(0, 1, 2, 3), edges=[(0, 1), (1, 2)]))
    nodes = [*chain(0, 7), *chain(1, 1, 2, 3)]
    behind = store.add(observe([], [{}, {}], nodes=nodes, edges=[(1, 2), (2, 3)]))
    assert len(store) == 2
    assert behind.graphs[1] == alone.graphs[0]
    np.testing.assert_array_equal(behind.nodes[1:], alone.nodes)
    np.testing.assert_array_equal(store.nodes[behind.nodes, 2], [7, 1, 2, 3])


def test_states_that_differ_are_kept_apart(observe: Observe) -> None:
    store = GraphStore(COLUMNS)
    nodes = chain(0, 1, 2, 3)
    store.add(observe([], [{}], nodes=nodes, edges=[(0, 1), (1, 2)]))
    store.add(observe([], [{}], nodes=nodes, edges=[(0, 1), (0, 2)]))  # other edges
    store.add(observe([], [{}], nodes=chain(0, 1, 2, 4), edges=[(0, 1), (1, 2)]))  # other work
    store.add(observe([], [{}], nodes=chain(0, 2, 1, 3), edges=[(0, 1), (1, 2)]))  # other order
    store.add(observe([], [{}], nodes=[{**node, "tasks_running": 9} for node in nodes], edges=[(0, 1), (1, 2)]))
    assert len(store) == 4  # the column that is not kept does not count


def test_two_jobs_in_one_state_are_one_graph(observe: Observe) -> None:
    store = GraphStore(COLUMNS)
    nodes = [*chain(0, 5, 6), *chain(1, 5, 6)]
    seen = store.add(observe([], [{}, {}], nodes=nodes, edges=[(0, 1), (2, 3)]))
    assert len(store) == 1
    assert seen.graphs.tolist() == [0, 0]
    assert seen.nodes.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("scenario", ["mixed", "chain", "planning"])
def test_all_rows_of_real_observations_are_found_again(scenario: str) -> None:
    env = SchedulingEnv(scenario, observation="graph", jobs=15, load=2.0, profiler=False)
    store = GraphStore(COLUMNS)
    obs, _ = env.reset(seed=0)
    done, rows, graphs = False, 0, 0
    while not done:
        seen = store.add(obs)
        valid = obs["nodes"][: len(seen.nodes)]
        np.testing.assert_array_equal(store.nodes[seen.nodes], valid[:, list(COLUMNS)])
        rows, graphs = rows + len(valid), graphs + len(seen.graphs)
        obs, _, done, _, _ = env.step(int(obs["action_mask"].argmax()))
    assert store.n_nodes < rows / 3  # most of what is seen was seen before
    assert len(store) < graphs / 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [2, 8])
def test_levels_carry_messages_as_recursion_does(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(12, 0.25, seed=seed, directed=True)
    graph.remove_edges_from([(parent, child) for parent, child in graph.edges if parent >= child])
    values = rng.random((12, 1)).astype(np.float32)
    heights = np.zeros(12, np.int64)
    for node in reversed(range(12)):
        heights[node] = max((heights[child] + 1 for child in graph.successors(node)), default=0)
    edges = np.array(sorted(graph.edges), np.int64).reshape(-1, 2)
    batch = levels(values, np.zeros(12, np.int64), heights, edges, 1, depth)

    def expected(node: int) -> float:
        received = 0.0 if heights[node] > depth else sum(2.0 * expected(child) for child in graph.successors(node))
        return float(values[node, 0]) + received

    sums = batch.nodes[:, 0].astype(np.float64)
    first = 0
    for size, level in zip(batch.sizes, [None, *batch.levels], strict=False):
        if level is not None:
            np.add.at(sums, first + level.parent, 2.0 * sums[level.child])
        first += size
    np.testing.assert_allclose(sums[batch.place], [expected(node) for node in range(12)], rtol=1e-6)
    assert sum(batch.sizes) == 12


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([], np.int64), np.array([], np.int64)).tolist() == []
