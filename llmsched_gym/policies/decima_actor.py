"""Decima's decisions: embeddings are kept for jobs to which nothing has happened. Imports torch."""

from __future__ import annotations

import numpy as np
import torch

from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.decima_network import COLUMNS, DecimaNetwork, Embedding, compress
from llmsched_gym.policies.decima_options import options
from llmsched_gym.policies.graph_batch import GraphStore, Growing, Seen

_MOST_NODES = 200_000
"""Nodes that an actor keeps before it forgets everything: some 20 MB."""


class EmbeddedGraphs:
    """Every state of a job that was seen, with its embedding under fixed weights.

    Args:
        network: The network.
    """

    def __init__(self, network: DecimaNetwork) -> None:
        self.network = network
        self.store = GraphStore(COLUMNS)
        self._arrays = [Growing(np.zeros((0, size), np.float32)) for size in network.sizes]
        self._embedded = 0

    def add(self, obs: Observation) -> Seen:
        """Take over the graphs of an observation; `embedding` has them after the next `update`."""
        return self.store.add(obs)

    def update(self) -> None:
        """Embed what is new, in one pass of the network."""
        if len(self.store) == self._embedded:
            return
        with torch.inference_mode():
            found = self.network.embed(self.store.batch(self._embedded, self.network.depth))
        for array, tensor in zip(self._arrays, found, strict=True):
            array.extend(tensor.numpy())
        self._embedded = len(self.store)

    @property
    def embedding(self) -> Embedding:
        """Embedding of all graphs, without gradients."""
        return Embedding(*(torch.from_numpy(array.filled) for array in self._arrays))


class DecimaActor:
    """Decides one observation at a time, by the highest probabilities.

    Args:
        network: The network; its weights must not change between calls of `forget`.
    """

    def __init__(self, network: DecimaNetwork) -> None:
        self.network = network
        self.forget()

    def forget(self) -> None:
        """Forget all jobs."""
        self._graphs = EmbeddedGraphs(self.network)

    def choose(self, obs: Observation) -> tuple[int, int]:
        """Choose a stage and how many of its tasks to start.

        Args:
            obs: Graph observation in which something can start.

        Returns:
            Row of ``obs["candidates"]``, and number of tasks, at least 1.
        """
        if self._graphs.store.n_nodes > _MOST_NODES:
            self.forget()
        seen = self._graphs.add(obs)
        self._graphs.update()
        found = options(obs, seen)
        if found.rows.size == 0:  # what can start belongs to jobs beyond the window of the graph
            return int(obs["action_mask"].argmax()), 1
        with torch.inference_mode():
            features, nodes, jobs, shares = self._graphs.embedding
            system = compress(shares[torch.from_numpy(seen.graphs)].sum(dim=0))
            at_node, at_graph = torch.from_numpy(found.nodes), torch.from_numpy(found.graphs)
            features, jobs = features[at_node], jobs[at_graph]
            systems, free = system.expand(len(found.rows), -1), torch.from_numpy(found.free)
            best = int(self.network.stage_logits(features, nodes[at_node], jobs, systems, free).argmax())
            room, row = int(found.room[best]), int(found.rows[best])
            if room == 1:
                return row, 1
            limits = features[best, 0] * self.network.tasks_scale + torch.arange(1, room + 1)
            logits = self.network.limit_logits(
                features[best].expand(room, -1),
                jobs[best].expand(room, -1),
                system.expand(room, -1),
                free[best].expand(room),
                limits,
            )
            return row, int(logits.argmax()) + 1
