"""Graphs of jobs in arrays: every state of a job once, however many observations show it, and no loops over nodes.

The nodes and edges of a job in a graph observation change only when something happens to that job. A `GraphStore`
therefore recognises the state of a job by a digest and keeps each state once, so that a network embeds it once: a
policy embeds only what has changed since its last decision, a learner every state of its rollouts once.

Nodes are processed by height: leaves first, then the nodes all of whose children are leaves, and so on. `GraphStore`
finds heights, `levels` sorts a batch by them, and message passing from children to parents is then one gather and one
indexed sum per level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.envs.columns import Node, System

_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_HIGH: Final = np.uint64(31)

Ints = NDArray[np.int64]


class Level(NamedTuple):
    """Edges into the nodes of one height.

    Attributes:
        parent: int64 (e,). Parents, counted from the first node of that height.
        child: int64 (e,). Children, counted from the first node of the batch.
    """

    parent: Ints
    child: Ints


class GraphBatch(NamedTuple):
    """Some graphs, their nodes sorted by height.

    Attributes:
        nodes: float32 (n, columns). Rows of `Node` columns as the store was asked to keep.
        owner: int64 (n,). Graph that each node belongs to, from 0.
        sizes: Nodes of height 0, 1, .., and last the nodes that are higher than messages travel.
        levels: Edges into the nodes of height 1, 2, ..
        place: int64 (n,). Where each node stands in `nodes`, in the store's order.
        n_graphs: Number of graphs.
    """

    nodes: NDArray[np.float32]
    owner: Ints
    sizes: tuple[int, ...]
    levels: tuple[Level, ...]
    place: Ints
    n_graphs: int


class Seen(NamedTuple):
    """Where the graphs of one observation are in a store.

    Attributes:
        graphs: int64 (jobs,). Graph of each job that the observation lists with its nodes.
        nodes: int64 (n,). Node of the store for each valid row of ``obs["nodes"]``.
    """

    graphs: Ints
    nodes: Ints


class GraphStore:
    """Every state of a job that was seen, once.

    Args:
        columns: Columns of ``obs["nodes"]`` to keep. Two states are the same if these and the edges are.
    """

    def __init__(self, columns: Sequence[Node]) -> None:
        self._columns = np.array(columns, np.int64)
        self._rows = Growing(np.zeros((0, len(columns)), np.float32))
        self._heights = Growing(np.zeros(0, np.int64))
        self._edges = Growing(np.zeros((0, 2), np.int64))
        self._ends = Growing(np.zeros((1, 2), np.int64))
        self._known: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._known)

    @property
    def n_nodes(self) -> int:
        """Number of nodes of all graphs together."""
        return len(self._rows.filled)

    @property
    def nodes(self) -> NDArray[np.float32]:
        """float32 (n_nodes, columns): the kept columns of all nodes."""
        return self._rows.filled

    def add(self, obs: Mapping[str, NDArray[Any]]) -> Seen:
        """Take over the graphs of a graph observation that are not known yet.

        Args:
            obs: The observation.

        Returns:
            Where its graphs and nodes are.
        """
        system = obs["system"]
        n_nodes, n_edges = int(system[System.NODES]), int(system[System.EDGES])
        nodes, edges = obs["nodes"][:n_nodes], obs["edges"][:n_edges]
        n_jobs = int(nodes[-1, Node.JOB]) + 1 if n_nodes else 0
        digests = np.zeros(n_jobs, np.uint64)
        ends = np.zeros((n_jobs + 1, 2), np.int64)
        heights = np.zeros(n_nodes, np.int64)
        index_jobs(nodes, nodes.view(np.uint32), edges, self._columns, digests, ends, heights)
        keys = digests.tolist()
        known = self._known
        new = [job for job, key in enumerate(keys) if key not in known]
        for job in new:
            known.setdefault(keys[job], len(known))
        graphs = np.array([known[key] for key in keys], np.int64)
        if new:
            self._append(np.array(new), nodes, edges, ends, heights, graphs)
        shift = self._ends.filled[graphs, 0] - ends[:-1, 0]
        return Seen(graphs, np.arange(n_nodes) + np.repeat(shift, ends[1:, 0] - ends[:-1, 0]))

    def _append(
        self,
        jobs: Ints,
        nodes: NDArray[np.float32],
        edges: NDArray[np.int32],
        ends: Ints,
        heights: Ints,
        graphs: Ints,
    ) -> None:
        """Copy the graphs of some jobs, of which two may be the same."""
        jobs = jobs[np.unique(graphs[jobs], return_index=True)[1]]
        counts = ends[jobs + 1] - ends[jobs]
        rows = ranges(ends[jobs, 0], counts[:, 0])
        links = ranges(ends[jobs, 1], counts[:, 1])
        first = self._ends.filled[-1] + np.cumsum(counts, axis=0) - counts
        shift = np.repeat(first[:, 0] - ends[jobs, 0], counts[:, 1])
        self._rows.extend(nodes[rows][:, self._columns])
        self._heights.extend(heights[rows])
        self._edges.extend(edges[links] + shift[:, None])
        self._ends.extend(first + counts)

    def batch(self, first: int = 0, depth: int = 8) -> GraphBatch:
        """Return the graphs from number `first` on, ready for message passing.

        Args:
            first: Number of the first graph.
            depth: Greatest height of a node that receives messages.
        """
        ends = self._ends.filled
        node, edge = ends[first]
        counts = ends[first + 1 :, 0] - ends[first:-1, 0]
        return levels(
            self._rows.filled[node:],
            np.repeat(np.arange(len(counts)), counts),
            self._heights.filled[node:],
            self._edges.filled[edge:] - node,
            len(counts),
            depth,
        )


class Growing:
    """An array that grows at its end.

    Args:
        start: First rows.
    """

    def __init__(self, start: NDArray[Any]) -> None:
        self._size = len(start)
        self._space = np.zeros((max(2 * self._size, 64), *start.shape[1:]), start.dtype)
        self._space[: self._size] = start

    @property
    def filled(self) -> NDArray[Any]:
        """View of the rows so far."""
        return self._space[: self._size]

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        size = self._size + len(rows)
        if size > len(self._space):
            space = np.zeros((2 * size, *self._space.shape[1:]), self._space.dtype)
            space[: self._size] = self.filled
            self._space = space
        self._space[self._size : size] = rows
        self._size = size


def levels(
    nodes: NDArray[np.float32], owner: Ints, heights: Ints, edges: Ints, n_graphs: int, depth: int
) -> GraphBatch:
    """Sort nodes by height, and edges by the height of their parents.

    Args:
        nodes: float32 (n, columns).
        owner: int64 (n,). Graph of each node.
        heights: int64 (n,). Longest way from each node to a leaf, in edges.
        edges: int64 (m, 2). Parent and child, as rows of `nodes`.
        n_graphs: Number of graphs.
        depth: Greatest height of a node that receives messages; edges into higher ones are left out.
    """
    capped = np.minimum(heights, depth + 1)
    order = np.argsort(capped, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sizes = np.bincount(capped, minlength=depth + 2)
    top = int(np.flatnonzero(sizes[: depth + 1]).max(initial=0))
    starts = np.cumsum(sizes) - sizes
    heights_of_parents = capped[edges[:, 0]]
    by_height = np.argsort(heights_of_parents, kind="stable")
    cuts = np.searchsorted(heights_of_parents[by_height], np.arange(1, top + 2))
    parents, children = place[edges[by_height, 0]], place[edges[by_height, 1]]
    per_level = tuple(
        Level(parents[cuts[height - 1] : cuts[height]] - starts[height], children[cuts[height - 1] : cuts[height]])
        for height in range(1, top + 1)
    )
    counted = (*(int(size) for size in sizes[: top + 1]), int(sizes[depth + 1]))
    return GraphBatch(nodes[order], owner[order], counted, per_level, place, n_graphs)


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Return the whole numbers from each start on, as many as its count, one after another: int64 (sum,)."""
    total = int(counts.sum())
    shift = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return np.arange(total) + shift


@kernel
def index_jobs(
    nodes: NDArray[np.float32],
    bits: NDArray[np.uint32],
    edges: NDArray[np.int32],
    columns: Ints,
    digests: NDArray[np.uint64],
    ends: Ints,
    heights: Ints,
) -> None:
    """Find each job's rows, digest and heights in a graph observation.

    Nodes and edges are grouped by job, and a parent stands before its children.

    Args:
        nodes: float32 (n, len(Node)). Valid rows.
        bits: The same memory as uint32.
        edges: int32 (m, 2). Valid rows.
        columns: int64 (c,). Columns that the digest covers.
        digests: uint64 (jobs,), zeros. Filled with digests of nodes and edges.
        ends: int64 (jobs + 1, 2), zeros. Filled with the number of nodes and of edges before each job.
        heights: int64 (n,), zeros. Filled with the longest way from each node to a leaf.
    """
    for i in range(len(nodes)):
        job = int(nodes[i, Node.JOB])
        ends[job + 1, 0] = i + 1
        state = digests[job]
        for column in columns:
            state = (state ^ np.uint64(bits[i, column])) * _MIX_1 + _STEP
            state ^= state >> _HIGH
        digests[job] = state
    for job in range(len(digests)):
        ends[job + 1, 0] = max(ends[job + 1, 0], ends[job, 0])
    for k in range(len(edges)):
        job = int(nodes[edges[k, 0], Node.JOB])
        ends[job + 1, 1] = k + 1
        # Counted from the job's first node: the same whatever jobs stand before it.
        parent, child = edges[k, 0] - ends[job, 0], edges[k, 1] - ends[job, 0]
        state = (digests[job] ^ np.uint64(parent)) * _MIX_2 + np.uint64(child) * _STEP
        digests[job] = state ^ (state >> _HIGH)
    for job in range(len(digests)):
        ends[job + 1, 1] = max(ends[job + 1, 1], ends[job, 1])
    for k in range(len(edges) - 1, -1, -1):
        parent, child = edges[k, 0], edges[k, 1]
        heights[parent] = max(heights[parent], heights[child] + 1)
