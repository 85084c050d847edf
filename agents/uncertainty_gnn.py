"""Train the uncertainty network: distil an oracle's knowledge, then refine the ranking by policy gradients.

    python agents/uncertainty_gnn.py --config configs/agents/uncertainty_gnn.yaml [--seed 1] [--output runs/ours]
    tensorboard --logdir runs/ours
    llmsched-gym compare --policies 'llmsched,uncertainty_gnn?weights=runs/ours/uncertainty_gnn.safetensors'

Given again, the same command goes on where it stopped. Three steps, all on the ``train`` split:

1. *Collect.* A behaviour policy plays episodes in privileged environments. At sampled decisions, what can be seen of
   every ready stage is kept with the truth about its job's remaining slot time, as an oracle sees it.
2. *Distil.* The network learns mean (gamma deviance, which is consistent for means and weighs all sizes alike) and
   quantiles (pinball loss of logarithms) of the truth, relative to the profiler's posterior mean. Its last layer begins
   at zero: untrained, it is posterior SRTF.
3. *Refine.* The few numbers that turn predictions into decisions (`UncertaintyGNN.ranking`, ``reserve_s``) follow the
   policy gradient with parameter-based exploration (PGPE, Sehnke et al. 2010): pairs of opposite steps play the same
   jobs, so that the luck of the arrivals cancels, and a mean JCT counts relative to that of the centre.

The inference of the policy is compiled (``llmsched_gym/policies/uncertainty_network.py``); the network here is the same
in torch, for its gradients.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.graph_batch import GraphBatch
from llmsched_gym.policies.learned import save_weights
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.policies.uncertainty_examples import TREES, Collector, Examples
from llmsched_gym.policies.uncertainty_features import N_FEATURES, N_NODE_FEATURES, PROMPTS, SMALLEST_S, NodeNumbers
from llmsched_gym.policies.uncertainty_gnn import RANKINGS, UncertaintyGNN
from llmsched_gym.policies.uncertainty_network import LEVELS, N_OUTPUTS, SLOPE
from llmsched_gym.scenario import load_scenario
from llmsched_gym.training import commit, read_settings
from llmsched_gym.workloads.files import write_atomic

COLLECT_SEEDS, REFINE_SEEDS = 100_000, 200_000
"""First seeds of episodes that are collected, and of those that the ranking is refined on."""

_FADE = np.array([[0.8], [0.95]])
"""Of the moments of the policy gradient, per iteration."""

LAYERS = ("own_1", "own_2", "message", "gather", "part_1", "part_2", "head_1", "head_2", "head_3")


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    episodes: dict[str, int] = field(
        default_factory=lambda: {"chain": 60, "planning": 80, "mixed": 14, "predefined": 9}
    )
    """Episodes to collect, by scenario. Every sixth is kept for validation."""
    sampled: dict[str, float] = field(
        default_factory=lambda: {"chain": 0.2, "planning": 0.2, "mixed": 0.04, "predefined": 0.03}
    )
    """Share of the decisions that are kept."""
    loads: tuple[float, ...] = (0.7, 0.9, 1.1)
    """Loads of the episodes, in turn."""
    jobs: int = 300
    """Jobs per episode."""
    behaviour: str = "llmsched"
    """Policy that plays them."""
    epochs: int = 5
    """Passes over the examples."""
    batch: int = 1024
    """Examples per step."""
    learning_rate: float = 4e-3
    """Greatest one; rises over the first tenth of the steps and falls to zero."""
    width: int = 16
    """Size of embeddings."""
    hidden: int = 64
    """Size of the head's layers."""
    prompts: bool = True
    """Whether the network sees the lengths of prompts."""
    graph: bool = True
    """Whether it sees the graph."""
    index: str = "blend"
    """Ranking to begin with (`RANKINGS`)."""
    reserve_s: float = 4.0
    """Reserve to begin with."""
    refine: int = 0
    """Iterations of the policy gradient."""
    refine_jobs: dict[str, int] = field(
        default_factory=lambda: {"chain": 150, "planning": 150, "mixed": 100, "predefined": 40}
    )
    """Jobs per episode there."""
    pairs: int = 6
    """Pairs of opposite steps per iteration."""
    spread: float = 0.15
    """Standard deviation of these steps."""
    step: float = 0.03
    """Length of an iteration's step, per parameter."""
    seed: int = 0
    output: Path = Path("runs/uncertainty_gnn")
    """Folder of examples, weights, checkpoint and TensorBoard logs."""


class UncertaintyNetwork(nn.Module):
    """The network of `llmsched_gym.policies.uncertainty_network`, with gradients.

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


class Run:
    """A training run on disk: examples, weights, checkpoint of the refinement and logs in one folder.

    Args:
        config: Settings; those of a run that goes on must be the ones that it began with.

    Raises:
        InputError: The folder holds a run with other settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.weights = config.output / "uncertainty_gnn.safetensors"
        self._examples, self._checkpoint = config.output / "examples.npz", config.output / "refined.json"
        config.output.mkdir(parents=True, exist_ok=True)
        settings, kept = config.output / "settings.json", json.dumps(_identity(config), indent=1)
        if settings.exists() and settings.read_text() != kept:
            raise InputError(settings, "settings", "others", "the settings of this run; or another --output")
        settings.write_text(kept)
        self._logs = SummaryWriter(str(config.output))

    def train(self) -> None:
        """Carry out the steps that are left."""
        if not self.weights.exists():
            self.distil(self.collect())
        self.refine()
        self._logs.close()

    def collect(self) -> Examples:
        """Play the episodes, or read what an earlier run kept of them."""
        if self._examples.exists():
            with np.load(self._examples) as kept:
                return Examples(**kept)
        config, collector = self.config, Collector()
        behaviour = load_policy(config.behaviour)
        for name, episodes in config.episodes.items():
            for k in track(range(episodes), f"collecting {name}"):
                load, seed = config.loads[k % len(config.loads)], COLLECT_SEEDS + k
                env = make_env(name, config.jobs, load, seed, privileged=True)
                collector.play(env, behaviour, seed, config.sampled[name], held_out=k % 6 == 0)
        part = self._examples.with_suffix(".part.npz")
        np.savez(part, **collector.examples._asdict())
        part.replace(self._examples)
        return collector.examples

    def distil(self, data: Examples) -> None:
        """Fit the network to the truth, and write its weights."""
        config = self.config
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        features = data.features.copy()
        base_s = np.exp(features[:, 0])
        if not config.prompts:
            features[:, PROMPTS : PROMPTS + 3] = 0.0
        taught, held_out = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
        centre, scale = features[taught].mean(axis=0), features[taught].std(axis=0) + 0.05
        network = UncertaintyNetwork(
            config.width, config.hidden, torch.from_numpy(centre), torch.from_numpy(scale), graph=config.graph
        )
        seen = torch.from_numpy(features)
        truth = torch.from_numpy(np.stack([data.left_s / base_s, np.log((data.left_s + SMALLEST_S) / base_s)]))
        rarity = 1.0 / np.sqrt(np.bincount(data.app[taught], minlength=len(TREES)) + 1.0)
        weight = torch.from_numpy((rarity / rarity[data.app[taught]].mean()).astype(np.float32)[data.app])

        def losses(rows: NDArray[np.int64]) -> Tensor:
            graphs, mine = np.unique(data.graph[rows], return_inverse=True)
            batch, first = data.batch(graphs)
            nodes, jobs = network.embed(batch)
            at = torch.from_numpy(first[mine] + data.place[rows])
            outputs = network(seen[torch.from_numpy(rows)], nodes[at], jobs[torch.from_numpy(mine)])
            return loss(outputs, truth[:, torch.from_numpy(rows)])

        steps = max(len(taught) // config.batch, 1)
        optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * steps)
        for epoch in range(config.epochs):
            order = rng.permutation(taught)
            for k in track(range(steps), f"epoch {epoch + 1} of {config.epochs}"):
                rows = np.sort(order[k * config.batch : (k + 1) * config.batch])
                optimiser.zero_grad()
                (losses(rows).sum(dim=1) * weight[torch.from_numpy(rows)]).mean().backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                rates.step()
            with torch.no_grad():
                parts = np.array_split(held_out, len(held_out) // 8192 + 1)
                found = torch.cat([losses(rows) for rows in parts]).numpy()
            for number, (name, _) in enumerate(TREES):
                of_app = found[data.app[held_out] == number]
                for part, value in zip(("mean", "quantiles"), of_app.sum(axis=0) / max(len(of_app), 1), strict=True):
                    self._logs.add_scalar(f"held_out_{part}/{name}", value, epoch)
            print(f"epoch {epoch + 1}: held-out loss of mean and quantiles {found.mean(axis=0).round(4)}", flush=True)
        tensors = network.exported()
        if not config.prompts:
            tensors["head_1.weight"][PROMPTS : PROMPTS + 3] = 0.0  # never learned: the policy sees prompts
        self.save(tensors, RANKINGS[config.index], config.reserve_s, 0)

    def refine(self) -> None:
        """Follow the policy gradient of ranking and reserve for the iterations that are left."""
        config = self.config
        policy = load_policy("uncertainty_gnn", weights=str(self.weights))
        assert isinstance(policy, UncertaintyGNN)
        done, centre = 0, np.append(policy.ranking.ravel(), np.log(max(policy.reserve_s, 1e-3)))
        moments = np.zeros((2, len(centre)))
        if self._checkpoint.exists():
            kept = json.loads(self._checkpoint.read_text())
            done, centre, moments = kept["done"], np.array(kept["centre"]), np.array(kept["moments"])
        for iteration in track(range(done, config.refine), "refining"):
            rng = np.random.default_rng((config.seed, iteration))
            first = REFINE_SEEDS + iteration * len(config.refine_jobs)
            envs = [
                make_env(name, jobs, config.loads[iteration % len(config.loads)], first + k)
                for k, (name, jobs) in enumerate(config.refine_jobs.items())
            ]
            usual = cost(policy, centre, envs)
            gradient = np.zeros_like(centre)
            for _ in range(config.pairs):
                away = config.spread * rng.standard_normal(len(centre))
                more, less = (np.mean(cost(policy, centre + sign * away, envs) / usual) for sign in (1.0, -1.0))
                gradient += (more - less) / (2.0 * config.spread**2) * away / config.pairs
            moments = moments * _FADE + (1.0 - _FADE) * np.stack([gradient, gradient**2])
            mean, square = moments / (1.0 - _FADE ** (iteration + 1))
            centre = centre - config.step * mean / (np.sqrt(square) + 1e-6)
            self._logs.add_scalar("refine/gradient", float(np.abs(gradient).mean()), iteration)
            kept = {"done": iteration + 1, "centre": centre.tolist(), "moments": moments.tolist()}
            write_atomic(self._checkpoint, json.dumps(kept).encode())
        if config.refine > done:
            self.save(load_file(self.weights), *_unpack(centre), config.refine)

    def save(self, tensors: dict[str, Tensor], ranking: NDArray[np.float64], reserve_s: float, refined: int) -> None:
        """Write weights and their card."""
        seeds = f"{COLLECT_SEEDS} to {COLLECT_SEEDS + max(self.config.episodes.values()) - 1}"
        if refined:
            seeds += f", {REFINE_SEEDS} to {REFINE_SEEDS + refined * len(self.config.refine_jobs) - 1}"
        network = {"applications": TREES, "ranking": ranking.round(4).tolist(), "reserve_s": round(reserve_s, 3)}
        training = {
            "recipe": "agents/uncertainty_gnn.py",
            "split": "train",
            "seeds": seeds,
            "commit": commit(),
            "torch": torch.__version__,
            "config": _identity(self.config) | {"refine": refined},
        }
        save_weights(self.weights, "uncertainty_gnn", tensors, network, training)


def loss(outputs: Tensor, truth: Tensor) -> Tensor:
    """Return gamma deviance of the mean and pinball loss of the quantiles, float32 (c, 2).

    Args:
        outputs: float32 (c, N_OUTPUTS). Of the network.
        truth: float32 (2, c). What is left over its posterior mean, and the logarithm of it.
    """
    mean = truth[0].clamp(max=30.0) * torch.exp(-outputs[:, 0]) + outputs[:, 0]  # no single job may throw it off
    above = truth[1][:, None] - outputs[:, 1:]
    share = outputs.new_tensor(LEVELS)
    return torch.stack([mean, torch.maximum(share * above, (share - 1.0) * above).sum(dim=1)], dim=1)


def make_env(scenario: str, jobs: int, load: float, seed: int, *, privileged: bool = False) -> SchedulingEnv:
    """Return an environment with the jobs of one seed of the ``train`` split, in windows that show all of them."""
    chosen = load_scenario(scenario).replaced(jobs=jobs, load=load)
    workload = chosen.build("train", seed)
    return SchedulingEnv(
        chosen, workload=workload, observation="graph", privileged=privileged, max_candidates=None, max_jobs=None
    )


def cost(policy: UncertaintyGNN, numbers: NDArray[np.float64], envs: list[SchedulingEnv]) -> NDArray[np.float64]:
    """Return the mean JCT of each environment's jobs under a ranking and reserve."""
    policy.ranking, policy.reserve_s = _unpack(numbers)
    found = []
    for env in envs:
        (obs, info), done = env.reset(seed=0), False
        policy.reset(info)
        while not done:
            obs, _, done, _, info = env.step(policy.act(obs))
        found.append(info["result"]["jct_s"].mean())
    return np.array(found)


def _unpack(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    return numbers[:-1].reshape(2, -1), float(np.exp(numbers[-1]))


def _identity(config: Config) -> dict[str, Any]:
    """Return all settings that decide what is learned but the number of refinements, of which more can be asked for."""
    return {key: value for key, value in asdict(config).items() if key not in ("output", "refine")}


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    try:
        Run(read_settings(Config, __doc__)).train()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
