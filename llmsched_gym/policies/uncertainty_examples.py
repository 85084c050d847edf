"""Examples to train the uncertainty network on: what can be seen of ready stages, with the truth about their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Node, System, Truth
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.base import Observation, Policy
from llmsched_gym.policies.graph_batch import GraphBatch, Growing, index_jobs, levels, ranges
from llmsched_gym.policies.uncertainty_features import (
    N_FEATURES,
    N_NODE_FEATURES,
    NodeNumbers,
    PromptMemory,
    read_nodes,
    read_rows,
)
from llmsched_gym.workloads.applications import APPLICATIONS

TREES: Final = [(name, len(application.template.nodes)) for name, application in APPLICATIONS.items()]
"""Name and number of template nodes of the applications."""

_HEIGHT: Final = 64  # no graph is higher: every node gets the messages of its children


class Examples(NamedTuple):
    """Ready stages at sampled decisions, and the graphs of their jobs.

    Attributes:
        nodes: float32 (n, N_NODE_FEATURES). Nodes of all graphs.
        numbers: int64 (n,). Their template nodes.
        heights: int64 (n,). Longest way to a leaf.
        edges: int64 (m, 2). Parent and child, counted from the first node of their graph.
        ends: int64 (graphs + 1, 2). Nodes and edges before each graph.
        features: float32 (k, N_FEATURES). Of the stages.
        left_s: float32 (k,). True remaining slot time of the job.
        graph: int64 (k,). Graph of the job.
        place: int64 (k,). Node of the stage in it.
        app: int64 (k,). Position of the application in `TREES`.
        held_out: bool (k,). Whether it is for validation.

    Seconds, as everywhere, at batch size 1.
    """

    nodes: NDArray[Any]
    numbers: NDArray[Any]
    heights: NDArray[Any]
    edges: NDArray[Any]
    ends: NDArray[Any]
    features: NDArray[Any]
    left_s: NDArray[Any]
    graph: NDArray[Any]
    place: NDArray[Any]
    app: NDArray[Any]
    held_out: NDArray[Any]

    def batch(self, graphs: NDArray[np.int64]) -> tuple[GraphBatch, NDArray[np.int64]]:
        """Return some graphs, ready for message passing.

        Args:
            graphs: int64 (g,). Each once.

        Returns:
            The graphs; the last column of their nodes is the number of the template node. And int64 (g,), the first
            node of each, in the order that ``place`` of the batch restores.
        """
        starts = self.ends[graphs]
        counts = self.ends[graphs + 1] - starts
        rows, links = ranges(starts[:, 0], counts[:, 0]), ranges(starts[:, 1], counts[:, 1])
        first = np.cumsum(counts[:, 0]) - counts[:, 0]
        nodes = np.concatenate([self.nodes[rows], self.numbers[rows][:, None].astype(np.float32)], axis=1)
        edges = self.edges[links] + np.repeat(first, counts[:, 1])[:, None]
        owner = np.repeat(np.arange(len(graphs)), counts[:, 0])
        return levels(nodes, owner, self.heights[rows], edges, len(graphs), _HEIGHT), first


def joined(parts: Sequence[Examples]) -> Examples:
    """Return all examples of several collections."""
    if len(parts) == 1:
        return parts[0]
    graphs = np.cumsum([0, *(len(part.ends) - 1 for part in parts)])
    before = np.cumsum([np.zeros(2, np.int64), *(part.ends[-1] for part in parts)], axis=0)
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Examples._fields}
    arrays["graph"] = np.concatenate([part.graph + first for part, first in zip(parts, graphs, strict=False)])
    ends = [part.ends[1:] + first for part, first in zip(parts, before, strict=False)]
    arrays["ends"] = np.concatenate([before[:1], *ends])
    return Examples(**arrays)


class Collector:
    """Gathers examples from privileged graph observations."""

    def __init__(self) -> None:
        empty = Examples(
            nodes=np.zeros((0, N_NODE_FEATURES), np.float32),
            numbers=np.zeros(0, np.int64),
            heights=np.zeros(0, np.int64),
            edges=np.zeros((0, 2), np.int64),
            ends=np.zeros((1, 2), np.int64),
            features=np.zeros((0, N_FEATURES), np.float32),
            left_s=np.zeros(0, np.float32),
            graph=np.zeros(0, np.int64),
            place=np.zeros(0, np.int64),
            app=np.zeros(0, np.int64),
            held_out=np.zeros(0, np.bool_),
        )
        self._grown = {name: Growing(array) for name, array in empty._asdict().items()}
        self._numbers = NodeNumbers(TREES)

    @property
    def examples(self) -> Examples:
        """What was gathered so far."""
        return Examples(**{name: one.filled for name, one in self._grown.items()})

    def play(self, env: SchedulingEnv, policy: Policy, seed: int, share: float, held_out: bool) -> None:
        """Gather from one episode of a policy, at a share of its decisions."""
        rng = np.random.default_rng(seed)
        obs, info = env.reset(seed=seed)
        policy.reset(info)
        memory, done = PromptMemory(), False
        while not done:
            prompts = memory.update(obs)
            if rng.random() < share:
                self._take(obs, info["applications"], prompts, held_out)
            obs, _, done, _, _ = env.step(policy.act(obs))

    def _take(self, obs: Observation, names: tuple[str, ...], prompts: NDArray[Any], held_out: bool) -> None:
        system = obs["system"]
        n, ready = int(system[System.NODES]), int(system[System.CANDIDATES])
        nodes, edges = obs["nodes"][:n], obs["edges"][: int(system[System.EDGES])]
        numbers, node_features = np.empty(n, np.int64), np.zeros((n, N_NODE_FEATURES), np.float32)
        read_nodes(nodes, self._numbers.table(names), numbers, node_features)
        at, features = np.empty((ready, 2), np.int64), np.empty((ready, N_FEATURES), np.float32)
        wanted = np.ones(len(obs["candidates"]), np.int8)
        count = read_rows(nodes, obs["candidates"], obs["jobs"], prompts, wanted, at, features)
        rows, places = at[:count].T
        if not count:
            return
        n_jobs = int(nodes[-1, Node.JOB]) + 1
        ends, heights = np.zeros((n_jobs + 1, 2), np.int64), np.zeros(n, np.int64)
        index_jobs(
            nodes, nodes.view(np.uint32), edges, np.zeros(0, np.int64), np.zeros(n_jobs, np.uint64), ends, heights
        )
        jobs, graph = np.unique(nodes[places, Node.JOB].astype(np.int64), return_inverse=True)
        counts = ends[jobs + 1] - ends[jobs]
        mine, links = ranges(ends[jobs, 0], counts[:, 0]), ranges(ends[jobs, 1], counts[:, 1])
        before = self._grown["ends"].filled
        order = np.array([[name for name, _ in TREES].index(name) for name in names])
        taken = Examples(
            nodes=node_features[mine],
            numbers=numbers[mine],
            heights=heights[mine],
            edges=edges[links] - np.repeat(ends[jobs, 0], counts[:, 1])[:, None],
            ends=before[-1] + np.cumsum(counts, axis=0),
            features=features[:count],
            left_s=obs["truth"][rows, Truth.JOB_REMAINING_S],
            graph=len(before) - 1 + graph,
            place=places - ends[jobs[graph], 0],
            app=order[obs["candidates"][rows, Candidate.APP].astype(np.int64)],
            held_out=np.full(count, held_out),
        )
        for name, array in taken._asdict().items():
            self._grown[name].extend(array)
