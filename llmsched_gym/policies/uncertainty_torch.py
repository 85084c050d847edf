"""The uncertainty network in torch, for its gradients; `uncertainty_network` is its compiled inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmsched_gym.policies.graph_batch import GraphBatch
from llmsched_gym.policies.uncertainty_examples import TREES
from llmsched_gym.policies.uncertainty_features import N_FEATURES, N_NODE_FEATURES, NodeNumbers
from llmsched_gym.policies.uncertainty_network import N_OUTPUTS, SLOPE

LAYERS = ("own_1", "own_2", "message", "gather", "part_1", "part_2", "head_1", "head_2", "head_3")
"""Names of the layers, as in `llmsched_gym.policies.uncertainty_network.Weights`."""


class UncertaintyNetwork(nn.Module):
    """The network, with gradients.

    Args:
        width: Size of embeddings.
        hidden: Size of the head's layers.
        centre: float32 (N_FEATURES,). Subtracted from the features of stages.
        scale: float32 (N_FEATURES,). They are divided by it.
        graph: Whether the head sees embeddings.
    """

    def __init__(self, width: int, hidden: int, centre: Tensor, scale: Tensor, *, graph: bool = True) -> None:
        super().__init__()
        self.centre, self.scale, self.graph = centre, scale, graph
        self.identity = nn.Embedding(NodeNumbers(TREES).count, 2 * width)
        nn.init.normal_(self.identity.weight, std=0.3)
        self.own_1, self.own_2 = nn.Linear(N_NODE_FEATURES, 2 * width), nn.Linear(2 * width, width)
        self.message, self.gather = nn.Linear(width, width), nn.Linear(width, width)
        self.part_1, self.part_2 = nn.Linear(width, width), nn.Linear(width, width)
        self.head_1, self.head_2 = nn.Linear(N_FEATURES + 2 * width, hidden), nn.Linear(hidden, hidden)
        self.head_3 = nn.Linear(hidden, N_OUTPUTS)
        nn.init.zeros_(self.head_3.weight)
        nn.init.zeros_(self.head_3.bias)

    def embed(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embed graphs whose last column holds the template nodes.

        Returns:
            float32 (n, width), embeddings of nodes in the order before `levels`; float32 (g, width), of jobs.
        """
        rows = torch.from_numpy(batch.nodes)
        own = self.own_2(_rectify(self.own_1(rows[:, :-1]) + self.identity(rows[:, -1].long()))).split(batch.sizes)
        embedded = [own[0] + _rectify(self.gather(torch.zeros_like(own[0])))]
        messages = []
        for height, (parent, child) in enumerate(batch.levels, start=1):
            messages.append(_rectify(self.message(embedded[-1])))
            sent = torch.cat(messages)[torch.from_numpy(child)]
            received = torch.zeros_like(own[height]).index_add(0, torch.from_numpy(parent), sent)
            embedded.append(own[height] + _rectify(self.gather(received)))
        nodes = torch.cat(embedded)
        parts = self.part_2(_rectify(self.part_1(nodes)))
        jobs = parts.new_zeros(batch.n_graphs, parts.shape[1]).index_add(0, torch.from_numpy(batch.owner), parts)
        return nodes[torch.from_numpy(batch.place)], torch.sign(jobs) * torch.log1p(jobs.abs())

    def forward(self, features: Tensor, nodes: Tensor, jobs: Tensor) -> Tensor:
        """Predict from features of stages (c, N_FEATURES) and embeddings of their nodes and jobs (c, width)."""
        if not self.graph:
            nodes, jobs = torch.zeros_like(nodes), torch.zeros_like(jobs)
        joined = torch.cat(((features - self.centre) / self.scale, nodes, jobs), dim=1)
        return self.head_3(_rectify(self.head_2(_rectify(self.head_1(joined)))))

    @torch.no_grad()
    def exported(self) -> dict[str, Tensor]:
        """Return the tensors that the compiled inference reads; scaling becomes part of the head's first layer."""
        tensors = {"identity": self.identity.weight.clone()}
        for name in LAYERS:
            layer: nn.Linear = getattr(self, name)
            weight, bias = layer.weight.clone(), layer.bias.clone()
            if name == "head_1":
                weight[:, :N_FEATURES] /= self.scale
                bias -= weight[:, :N_FEATURES] @ self.centre
                if not self.graph:
                    weight[:, N_FEATURES:] = 0.0
            tensors |= {f"{name}.weight": weight.T.contiguous(), f"{name}.bias": bias}
        return tensors


def _rectify(values: Tensor) -> Tensor:
    return nn.functional.leaky_relu(values, SLOPE)
