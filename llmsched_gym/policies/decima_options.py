"""What Decima chooses between at a decision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Node
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.graph_batch import Seen

Ints = NDArray[np.int64]


class Options(NamedTuple):
    """The stages that a decision is between.

    Attributes:
        rows: int64 (c,). Rows of ``obs["candidates"]``.
        nodes: int64 (c,). Nodes of the store.
        graphs: int64 (c,). Graphs of their jobs in the store.
        free: float32 (c,). Free slots for each.
        room: int64 (c,). Tasks of it that can start now.
    """

    rows: Ints
    nodes: Ints
    graphs: Ints
    free: NDArray[np.float32]
    room: Ints


def options(obs: Observation, seen: Seen) -> Options:
    """Return the stages that can start and are shown with their nodes.

    Args:
        obs: The observation.
        seen: Where its graphs are in the store.
    """
    nodes = obs["nodes"][: len(seen.nodes)]
    candidates = nodes[:, Node.CANDIDATE].astype(np.int64)
    listed = np.flatnonzero((candidates >= 0) & (obs["action_mask"][candidates] > 0))
    rows = candidates[listed]
    stages = obs["candidates"][rows]
    free, waiting = stages[:, Candidate.FREE_SLOTS], stages[:, Candidate.TASKS_WAITING]
    graphs = seen.graphs[nodes[listed, Node.JOB].astype(np.int64)]
    return Options(rows, seen.nodes[listed], graphs, free, np.minimum(free, waiting).astype(np.int64))
