"""Decima's graph network and its two heads (SIGCOMM 2019), in plain PyTorch. Imports torch: load it on demand.

What differs from the paper is told in `llmsched_gym.policies.decima`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from llmsched_gym.envs.columns import Node
from llmsched_gym.policies.graph_batch import GraphBatch
from llmsched_gym.workloads.template import StageKind

COLUMNS: Final = (Node.KIND, Node.TASKS_WAITING, Node.TASKS_RUNNING, Node.WORK_S)
"""Columns of a node that the network reads."""

_KIND, _WAITING, _RUNNING, _WORK = range(len(COLUMNS))
_FEATURES: Final = 6
_LIMIT_FEATURES: Final = (0, 4, 5)  # the job's running tasks and the two kinds
_SLOPE: Final = 0.2


class Embedding(NamedTuple):
    """What the network knows of some graphs (jobs).

    Attributes:
        features: float32 (n, 6). Scaled features of each node.
        nodes: float32 (n, d). Embedding of each node: of what it and its descendants hold.
        jobs: float32 (g, d). Summary of each job.
        shares: float32 (g, d). What each job adds to the summary of the system.
    """

    features: Tensor
    nodes: Tensor
    jobs: Tensor
    shares: Tensor


class DecimaNetwork(nn.Module):
    """Embeds jobs, scores stages and scores limits.

    Args:
        tasks_scale: Numbers of tasks and slots are divided by it.
        work_scale_s: Seconds of work are divided by it.
        width: Size of embeddings and summaries.
        depth: Greatest height of a node that receives messages from its children.
    """

    def __init__(self, tasks_scale: float = 20.0, work_scale_s: float = 10.0, width: int = 8, depth: int = 8) -> None:
        super().__init__()
        self.tasks_scale, self.work_scale_s, self.width, self.depth = tasks_scale, work_scale_s, width, depth
        self.own = _perceptron(_FEATURES, 16, 8, width)
        self.message = _perceptron(width, 16, 8, width)
        self.gather = _perceptron(width, 16, 8, width)
        self.job = _perceptron(_FEATURES + width, 16, 8, width)
        self.system = _perceptron(width, 16, 8, width)
        self.stage_head = _perceptron(_FEATURES + 3 * width + 1, 32, 16, 8, 1)
        self.limit_head = _perceptron(len(_LIMIT_FEATURES) + 2 * width + 2, 32, 16, 8, 1)

    @property
    def arguments(self) -> dict[str, float]:
        """Arguments that make a network of this shape, with these scales."""
        return {
            "tasks_scale": self.tasks_scale,
            "work_scale_s": self.work_scale_s,
            "width": self.width,
            "depth": self.depth,
        }

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Widths of the four parts of an `Embedding`."""
        return _FEATURES, self.width, self.width, self.width

    def features(self, nodes: Tensor, owner: Tensor, n_graphs: int) -> Tensor:
        """Scale the columns of nodes.

        Args:
            nodes: float32 (n, 4). `COLUMNS`.
            owner: int64 (n,). Graph of each node.
            n_graphs: Number of graphs.

        Returns:
            float32 (n, 6): tasks that the job runs, unfinished tasks of the stage, their expected slot time linear and
            as log(1 + s), whether an LLM executor runs it, whether a regular one does.
        """
        running = nodes[:, _RUNNING]
        of_job = running.new_zeros(n_graphs).index_add_(0, owner, running)[owner]
        work, kind = nodes[:, _WORK], nodes[:, _KIND]
        return torch.stack(
            (
                of_job / self.tasks_scale,
                (nodes[:, _WAITING] + running) / self.tasks_scale,
                work / self.work_scale_s,
                torch.log1p(work),
                (kind == int(StageKind.LLM)).float(),
                (kind == int(StageKind.REGULAR)).float(),
            ),
            dim=1,
        )

    def embed(self, batch: GraphBatch) -> Embedding:
        """Embed graphs; message passing takes one step per height, from the leaves up.

        Args:
            batch: The graphs, made with this network's `depth`.

        Returns:
            Their embedding, nodes in the order of the store that the batch is of.
        """
        owner = torch.from_numpy(batch.owner)
        features = self.features(torch.from_numpy(batch.nodes), owner, batch.n_graphs)
        own = self.own(features).split(batch.sizes)
        embedded, messages = [own[0]], []
        for height, (parent, child) in enumerate(batch.levels, start=1):
            messages.append(self.message(embedded[-1]))
            sent = torch.cat(messages)[torch.from_numpy(child)]
            received = torch.zeros_like(own[height]).index_add(0, torch.from_numpy(parent), sent)
            embedded.append(own[height] + self.gather(received))
        nodes = torch.cat((*embedded, own[-1]))
        parts = self.job(torch.cat((features, nodes), dim=1))
        jobs = compress(parts.new_zeros(batch.n_graphs, self.width).index_add(0, owner, parts))
        place = torch.from_numpy(batch.place)
        return Embedding(features[place], nodes[place], jobs, self.system(jobs))

    def stage_logits(self, features: Tensor, nodes: Tensor, jobs: Tensor, system: Tensor, free: Tensor) -> Tensor:
        """Score stages.

        Args:
            features: float32 (c, 6). Features of each stage's node.
            nodes: float32 (c, d). Its embedding.
            jobs: float32 (c, d). Summary of its job.
            system: float32 (c, d). Summary of the system, compressed.
            free: float32 (c,). Free slots for it.

        Returns:
            float32 (c,).
        """
        slots = free[:, None] / self.tasks_scale
        return self.stage_head(torch.cat((features, nodes, jobs, system, slots), dim=1))[:, 0]

    def limit_logits(self, features: Tensor, jobs: Tensor, system: Tensor, free: Tensor, limits: Tensor) -> Tensor:
        """Score limits of the number of tasks that the chosen job runs.

        The limit is an input, so that the weights do not depend on the size of the cluster.

        Args:
            features: float32 (k, 6). Features of the chosen stage's node, for each limit.
            jobs: float32 (k, d). Summary of its job.
            system: float32 (k, d). Summary of the system, compressed.
            free: float32 (k,). Free slots for it.
            limits: float32 (k,). The limits.

        Returns:
            float32 (k,).
        """
        scaled = torch.stack((free, limits), dim=1) / self.tasks_scale
        return self.limit_head(torch.cat((features[:, _LIMIT_FEATURES], jobs, system, scaled), dim=1))[:, 0]


def compress(values: Tensor) -> Tensor:
    """Return sign(v)·log(1 + |v|), which keeps sums over jobs of very different sizes comparable."""
    return torch.sign(values) * torch.log1p(values.abs())


def _perceptron(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers[:-1])
