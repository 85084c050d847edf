"""Decima's network against plain recursion, and the softmax over segments against torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch

from llmsched_gym.envs.columns import Node
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.decima_network import COLUMNS, DecimaNetwork, compress
from llmsched_gym.policies.decima_scores import segment_draw, segment_entropy, segment_log_softmax
from llmsched_gym.policies.graph_batch import GraphStore
from llmsched_gym.workloads.template import StageKind

Observe = Callable[..., dict[str, NDArray[Any]]]


def some_observation(scenario: str, steps: int) -> dict[str, NDArray[Any]]:
    env = SchedulingEnv(scenario, observation="graph", jobs=20, load=3.0, profiler=False)
    obs, _ = env.reset(seed=2)
    for _ in range(steps):
        obs, *_ = env.step(int(obs["action_mask"].argmax()))
    return obs


def by_recursion(network: DecimaNetwork, obs: dict[str, NDArray[Any]]) -> tuple[list[Any], list[Any]]:
    """Return node embeddings and job summaries, one node after another as the paper writes them."""
    n_nodes, n_edges = int(obs["system"][5]), int(obs["system"][6])
    rows, edges = obs["nodes"][:n_nodes], obs["edges"][:n_edges]
    jobs = rows[:, Node.JOB].astype(int)
    children: list[list[int]] = [[] for _ in range(n_nodes)]
    for parent, child in edges.tolist():
        children[parent].append(child)
    heights, embedded = [0] * n_nodes, [torch.zeros(0)] * n_nodes
    features = []
    for i, row in enumerate(rows):
        running = rows[jobs == jobs[i], Node.TASKS_RUNNING].sum()
        work, kind = float(row[Node.WORK_S]), int(row[Node.KIND])
        tasks = row[Node.TASKS_WAITING] + row[Node.TASKS_RUNNING]
        kinds = (kind == StageKind.LLM, kind == StageKind.REGULAR)
        values = (running / 20.0, tasks / 20.0, work / 10.0, np.log1p(work), *kinds)
        features.append(torch.tensor([float(value) for value in values]))
    for i in reversed(range(n_nodes)):
        heights[i] = max((heights[child] + 1 for child in children[i]), default=0)
        embedded[i] = network.own(features[i])
        if 0 < heights[i] <= network.depth:
            received = torch.stack([network.message(embedded[child]) for child in children[i]]).sum(0)
            embedded[i] = embedded[i] + network.gather(received)
    summaries = []
    for job in range(jobs.max() + 1):
        parts = [network.job(torch.cat((features[i], embedded[i]))) for i in np.flatnonzero(jobs == job)]
        summaries.append(compress(torch.stack(parts).sum(0)))
    return embedded, summaries


@pytest.mark.parametrize(("scenario", "steps"), [("mixed", 150), ("chain", 40), ("planning", 40)])
def test_embeddings_equal_plain_recursion(scenario: str, steps: int) -> None:
    torch.manual_seed(1)
    network, obs, store = DecimaNetwork(), some_observation(scenario, steps), GraphStore(COLUMNS)
    seen = store.add(obs)
    with torch.no_grad():
        found = network.embed(store.batch(0, network.depth))
        nodes, jobs = by_recursion(network, obs)
        torch.testing.assert_close(found.nodes[torch.from_numpy(seen.nodes)], torch.stack(nodes), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.jobs[torch.from_numpy(seen.graphs)], torch.stack(jobs), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.shares, network.system(found.jobs))


def test_descendants_within_reach_tell_and_others_do_not(observe: Observe) -> None:
    torch.manual_seed(1)
    network = DecimaNetwork(depth=2)

    def first_node(works: list[float]) -> Any:
        nodes = [{"node": i, "work_s": work} for i, work in enumerate(works)]
        store = GraphStore(COLUMNS)
        store.add(observe([], [{}], nodes=nodes, edges=[(i, i + 1) for i in range(len(works) - 1)]))
        return network.embed(store.batch(0, 2)).nodes[0]

    assert not torch.equal(first_node([1, 1, 1]), first_node([1, 1, 9]))
    torch.testing.assert_close(first_node([1, 1, 1, 1]), first_node([1, 1, 1, 9]))  # three edges away


def test_every_weight_learns() -> None:
    torch.manual_seed(1)
    network, store = DecimaNetwork(), GraphStore(COLUMNS)
    seen = store.add(some_observation("mixed", 150))
    known = network.embed(store.batch(0, network.depth))
    at, graph = torch.from_numpy(seen.nodes[:6]), torch.from_numpy(seen.graphs[:6])
    system = compress(known.shares.sum(0)).expand(6, -1)
    free = torch.ones(6)
    stages = network.stage_logits(known.features[at], known.nodes[at], known.jobs[graph], system, free)
    limits = network.limit_logits(known.features[at], known.jobs[graph], system, free, torch.arange(6.0))
    (stages.square().sum() + limits.square().sum()).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().sum()) > 0.0, name


def test_segment_log_softmax_equals_torch() -> None:
    torch.manual_seed(0)
    logits = 50.0 * torch.randn(9)
    segment = torch.tensor([0, 0, 0, 1, 3, 3, 3, 3, 3])  # segment 2 is empty
    found = segment_log_softmax(logits, segment, 4)
    for one in (0, 1, 3):
        torch.testing.assert_close(found[segment == one], torch.log_softmax(logits[segment == one], 0))
    assert segment_log_softmax(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 2).shape == (0,)


def test_segment_entropy_is_normalised() -> None:
    logits = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0])
    segment = torch.tensor([0, 0, 0, 0, 2])
    found = segment_entropy(segment_log_softmax(logits, segment, 3), segment, 3)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.0]))


def test_segment_draw_follows_the_probabilities() -> None:
    noise = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.2, 0.3, 0.5, 1.0]).log()
    segment = torch.tensor([1, 1, 1, 2])
    drawn = torch.stack([segment_draw(logits, segment, 4, noise) for _ in range(4000)])
    assert drawn[0, 0] == drawn[0, 3] == -1
    assert bool((drawn[:, 2] == 3).all())
    shares = torch.bincount(drawn[:, 1], minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.3, 0.5]), atol=0.03, rtol=0.0)
