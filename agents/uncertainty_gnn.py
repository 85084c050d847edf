"""Train the uncertainty network: distil an oracle's knowledge, then refine the ranking by policy gradients.

    python agents/uncertainty_gnn.py --config configs/agents/uncertainty_gnn.yaml [--seed 1] [--output runs/ours]
    tensorboard --logdir runs/ours
    llmsched-gym compare --policies 'llmsched,uncertainty_gnn?weights=runs/ours/uncertainty_gnn.safetensors'

Given again, the same command goes on where it stopped. Three steps, all on the ``train`` split:

1. *Collect.* A behaviour policy plays episodes in privileged environments. At sampled decisions, what can be seen of
   every ready stage is kept with the truth about its job's remaining slot time, as an oracle sees it. LLMSched plays
   the first round, the policy itself those that follow (DAgger, Ross et al. 2011): it learns where it will be.
2. *Distil.* The network learns mean (gamma deviance, which is consistent for means and weighs all sizes alike) and
   quantiles (pinball loss of logarithms) of the truth, relative to the profiler's posterior mean. Its last layer begins
   at zero: untrained, it is posterior SRTF. ``losses.csv`` tells what it does not know of held-out episodes.
3. *Refine.* The few numbers that turn predictions into decisions (`UncertaintyGNN.ranking`, ``reserve_s``) follow the
   policy gradient with parameter-based exploration (PGPE, Sehnke et al. 2010): pairs of opposite steps play the same
   jobs, so that the luck of the arrivals cancels, and a mean JCT counts relative to that of the centre. They are kept
   if the mean JCT of validation episodes, relative to that without refinement, is below 1 on average over workloads.

The network is ``llmsched_gym/policies/uncertainty_torch.py``; the policy runs its compiled form, without torch.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.progress import track

try:
    import torch
    from safetensors.torch import load_file
    from torch import Tensor, nn
    from torch.utils.tensorboard import SummaryWriter
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; expected: pip install -e '.[sb3]', in the checkout")

from llmsched_gym import training
from llmsched_gym.config import Real, Whole
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError, Plain, RunError, suggest
from llmsched_gym.evaluation.store import read_json, write_json
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.learned import read_card, save_weights
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.policies.uncertainty_examples import TREES, Collector, Examples, joined
from llmsched_gym.policies.uncertainty_features import PROMPTS, SMALLEST_S
from llmsched_gym.policies.uncertainty_gnn import RANKINGS, Floats64, UncertaintyGNN
from llmsched_gym.policies.uncertainty_network import LEVELS
from llmsched_gym.policies.uncertainty_torch import UncertaintyNetwork
from llmsched_gym.scenario import load_scenario
from llmsched_gym.training import Count, Fraction, Positive, Seed, Size
from llmsched_gym.workloads.files import write_atomic

COLLECT_SEEDS, REFINE_SEEDS, VALIDATE_SEEDS = 100_000, 200_000, 300_000
"""First seeds of episodes that are collected, that the ranking is refined on, and that it is validated on."""

ROUND_SEEDS = 10_000
"""Seeds for each round of collecting."""

VALIDATE_JOBS = 300
"""Jobs of an episode that the ranking is validated on."""

_FADE = np.array([[0.8], [0.95]])
"""Of the moments of the policy gradient, per iteration."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    episodes: dict[str, Annotated[Whole, Field(ge=2, le=ROUND_SEEDS)]] = field(
        default_factory=lambda: {"chain": 120, "planning": 120, "mixed": 40, "predefined": 28}
    )
    """Episodes to collect per round, by scenario. Every seventh is held out."""
    sampled: dict[str, Fraction] = field(
        default_factory=lambda: {"chain": 0.2, "planning": 0.2, "mixed": 0.04, "predefined": 0.03}
    )
    """Share of the decisions that are kept."""
    loads: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.9, 0.6, 1.2, 0.75, 1.05)
    """Loads of the episodes, in turn."""
    jobs: Annotated[tuple[Count, ...], Field(min_length=1)] = (300, 100, 400, 200)
    """Jobs of the episodes, in turn."""
    behaviour: str = "llmsched"
    """Policy that plays them in the first round."""
    rounds: Annotated[Count, Field(le=(REFINE_SEEDS - COLLECT_SEEDS) // ROUND_SEEDS)] = 2
    """Rounds of collecting and distilling."""
    epochs: Count = 10
    """Passes over the examples."""
    batch: Count = 1024
    """Examples per step."""
    learning_rate: Fraction = 4e-3
    """Greatest one; rises over the first tenth of the steps and falls to zero."""
    width: Size = 16
    """Size of embeddings."""
    hidden: Size = 64
    """Size of the head's layers."""
    prompts: bool = True
    """Whether the network sees the lengths of prompts."""
    graph: bool = True
    """Whether it sees the graph."""
    index: str = "blend"
    """Ranking to begin with (`RANKINGS`)."""
    reserve_s: Annotated[Real, Field(ge=0)] = 4.0
    """Reserve to begin with."""
    refine: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """Iterations of the policy gradient."""
    refine_jobs: Annotated[dict[str, Count], Field(min_length=1, max_length=10)] = field(
        default_factory=lambda: {"chain": 150, "planning": 150, "mixed": 100, "predefined": 40}
    )
    """Jobs per episode there."""
    pairs: Count = 6
    """Pairs of opposite steps per iteration."""
    spread: Positive = 0.15
    """Standard deviation of these steps."""
    step: Positive = 0.03
    """Length of the first iteration's step, per parameter; it falls with the square root of their number."""
    validate: Annotated[dict[str, Count], Field(min_length=1)] = field(
        default_factory=lambda: {"chain": 60, "planning": 60, "mixed": 30, "predefined": 12}
    )
    """Episodes to validate the refinement with, by scenario, of 300 jobs at load 0.9."""
    seed: Seed = 0
    """Of the first weights, the order of the examples and the steps of the refinement."""
    output: Path = Path("runs/uncertainty_gnn")
    """Folder of examples, weights, checkpoint and TensorBoard logs."""


class Run:
    """A training run on disk: examples, weights, checkpoint of the refinement and logs in one folder.

    Args:
        config: Settings; those of a run that goes on must be the ones that it began with.

    Raises:
        InputError: Settings do not fit together, or the folder holds a run with others.
    """

    def __init__(self, config: Config) -> None:
        _check(config)
        self.config = config
        self.weights = config.output / "uncertainty_gnn.safetensors"
        self._checkpoint = config.output / "refined.json"
        self._losses = config.output / "losses.csv"
        self._settings = config.output / "settings.json"
        if self._settings.exists():
            training.check_settings(self._settings, read_json(self._settings), _identity(config))

    def train(self) -> None:
        """Carry out the steps that are left, and say where the weights are."""
        config, finished = self.config, self.weights.exists() and self._refined() >= self.config.refine
        if not finished:
            training.begin_run(config.output)
            write_json(self._settings, _identity(config))
            with SummaryWriter(str(config.output)) as self._logs:
                if not self.weights.exists():
                    self.learn()
                if self._refined() < config.refine:
                    self.refine()
        training.tell_finished(self.weights, next(iter(config.episodes)), already=finished)

    def learn(self) -> None:
        """Carry out the rounds of collecting and distilling that are left."""
        config = self.config
        behaviour, data = load_policy(config.behaviour), list[Examples]()
        for number in range(1, config.rounds + 1):
            last = number == config.rounds
            weights = self.weights if last else config.output / f"round_{number}.safetensors"
            data.append(self.collect(number, behaviour))
            if not weights.exists():
                self.distil(number, joined(data), weights)
            if not last:
                behaviour = load_policy("uncertainty_gnn", weights=str(weights))

    def _refined(self) -> int:
        """Return for how many iterations the finished weights have been refined."""
        settled = read_card(self.weights, "uncertainty_gnn").training["refined"]
        return settled["iterations"] if settled else 0

    def collect(self, number: int, behaviour: Policy) -> Examples:
        """Play the episodes of a round, or read what an earlier run kept of them."""
        kept = self.config.output / f"examples_{number}.npz"
        if kept.exists():
            with np.load(kept) as arrays:
                return Examples(**arrays)
        config, collector = self.config, Collector()
        for name, episodes in config.episodes.items():
            for k in track(range(episodes), f"round {number}, collecting {name}"):
                seed = COLLECT_SEEDS + (number - 1) * ROUND_SEEDS + k
                load, jobs = config.loads[k % len(config.loads)], config.jobs[k % len(config.jobs)]
                env = make_env(name, jobs, load, seed, privileged=True)
                collector.play(env, behaviour, seed, config.sampled[name], held_out=k % 7 == 0)
        part = kept.with_suffix(".part.npz")
        np.savez(part, **collector.examples._asdict())
        part.replace(kept)
        return collector.examples

    def distil(self, number: int, data: Examples, path: Path) -> None:
        """Fit the network to the truth, and write its weights and losses."""
        config = self.config
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        features = data.features.copy()
        base_s = np.exp(features[:, 0])
        if not config.prompts:
            features[:, PROMPTS : PROMPTS + 3] = 0.0
        taught, held_out = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
        if not (len(taught) and len(held_out)):
            raise RunError("the episodes gave no examples to learn from or to hold out; more episodes or sampled helps")
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
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=config.epochs * steps, pct_start=0.1
        )
        lines = self._losses.read_text().splitlines() if number > 1 else ["round,epoch,application,mean,quantiles"]
        lines = [line for line in lines if not line.startswith(f"{number},")]
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
            for app, (name, _) in enumerate(TREES):
                of_app = found[data.app[held_out] == app]
                mean, quantiles = of_app.sum(axis=0) / max(len(of_app), 1)
                self._logs.add_scalar(f"round_{number}_mean/{name}", mean, epoch)
                self._logs.add_scalar(f"round_{number}_quantiles/{name}", quantiles, epoch)
                lines.append(f"{number},{epoch + 1},{name},{mean:.4f},{quantiles:.4f}")
            print(f"epoch {epoch + 1}: held-out loss of mean and quantiles {found.mean(axis=0).round(4)}", flush=True)
        write_atomic(self._losses, ("\n".join(lines) + "\n").encode())
        tensors = network.exported()
        if not config.prompts:
            tensors["head_1.weight"][PROMPTS : PROMPTS + 3] = 0.0  # never learned: the policy sees prompts
        self.save(path, tensors, RANKINGS[config.index], config.reserve_s, number)

    def refine(self) -> None:
        """Follow the policy gradient of ranking and reserve for the iterations that are left; validate the result."""
        config = self.config
        policy = load_policy("uncertainty_gnn", weights=str(self.weights))
        assert isinstance(policy, UncertaintyGNN)
        distilled = np.append(RANKINGS[config.index].ravel(), np.log(max(config.reserve_s, 1e-3)))
        done, centre, moments = 0, distilled, np.zeros((2, len(distilled)))
        if self._checkpoint.exists():
            kept = json.loads(self._checkpoint.read_text())
            done, centre, moments = kept["done"], np.array(kept["centre"]), np.array(kept["moments"])
        with training.progress_bar("refining", config.refine, done) as show:
            for iteration in range(done, config.refine):
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
                step = config.step / np.sqrt(1.0 + iteration / 10.0)
                centre = centre - step * mean / (np.sqrt(square) + 1e-6)
                self._logs.add_scalar("refine/gradient", float(np.abs(gradient).mean()), iteration)
                kept = {"done": iteration + 1, "centre": centre.tolist(), "moments": moments.tolist()}
                write_atomic(self._checkpoint, json.dumps(kept).encode())
                show(iteration + 1, time.process_time())
        found = {name: self.validate(policy, name, (distilled, centre)) for name in config.validate}
        kept = float(np.mean(list(found.values()))) < 1.0
        print(f"refined: mean JCT relative to before {found}; {'kept' if kept else 'not kept'}", flush=True)
        chosen = _unpack(centre) if kept else (RANKINGS[config.index], config.reserve_s)
        refined = {
            "iterations": config.refine,
            "validated": found,
            "kept": kept,
            "centre": centre.round(4).tolist(),
        }
        self.save(self.weights, load_file(self.weights), *chosen, config.rounds, refined)

    def validate(self, policy: UncertaintyGNN, name: str, numbers: tuple[Floats64, Floats64]) -> float:
        """Return the mean JCT under the second numbers, relative to the first, on the validation episodes."""
        totals = np.zeros(2)
        for k in track(range(self.config.validate[name]), f"validating on {name}"):
            envs = [make_env(name, VALIDATE_JOBS, 0.9, VALIDATE_SEEDS + k)]
            totals += [cost(policy, one, envs)[0] for one in numbers]
        return round(float(totals[1] / totals[0]), 5)

    def save(
        self,
        path: Path,
        tensors: dict[str, Tensor],
        ranking: Floats64,
        reserve_s: float,
        rounds: int,
        refined: dict[str, Any] | None = None,
    ) -> None:
        """Write weights and their card."""
        config, most = self.config, max(self.config.episodes.values())
        starts = [COLLECT_SEEDS + number * ROUND_SEEDS for number in range(rounds)]
        seeds = [f"{start} to {start + most - 1}" for start in starts]
        if refined:
            seeds.append(f"{REFINE_SEEDS} to {REFINE_SEEDS + config.refine * len(config.refine_jobs) - 1}")
            seeds.append(f"{VALIDATE_SEEDS} to {VALIDATE_SEEDS + max(config.validate.values()) - 1}")
        network = {"applications": TREES, "ranking": ranking.round(4).tolist(), "reserve_s": round(reserve_s, 3)}
        origin = {
            "recipe": "agents/uncertainty_gnn.py",
            "split": "train",
            "seeds": ", ".join(seeds),
            "commit": training.commit(),
            "torch": torch.__version__,
            "config": _identity(config),
            "refined": refined,
        }
        save_weights(path, "uncertainty_gnn", tensors, network, origin)


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


def cost(policy: UncertaintyGNN, numbers: Floats64, envs: list[SchedulingEnv]) -> Floats64:
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


def _check(config: Config) -> None:
    """Make sure that settings fit together.

    Raises:
        InputError: They do not.
    """
    if config.sampled.keys() != config.episodes.keys() or not config.episodes:
        allowed = f"the scenarios in episodes, at least one: {[*config.episodes]}"
        raise InputError("settings", "sampled", Plain(f"{[*config.sampled]}"), allowed)
    for most in config.jobs:
        training.check_scenarios(dict.fromkeys(config.episodes, most))
    training.check_scenarios(config.refine_jobs)
    training.check_scenarios(dict.fromkeys(config.validate, VALIDATE_JOBS))
    if config.index not in RANKINGS:
        raise InputError("settings", "index", config.index, suggest(config.index, RANKINGS))
    load_policy(config.behaviour)


def _unpack(numbers: Floats64) -> tuple[Floats64, float]:
    return numbers[:-1].reshape(2, -1), float(np.exp(numbers[-1]))


def _identity(config: Config) -> dict[str, Any]:
    """Return all settings that decide what is learned but the number of refinements, of which more can be asked for."""
    return {key: value for key, value in asdict(config).items() if key not in ("output", "refine")}


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    return training.run_recipe(Config, __doc__, lambda config: Run(config).train())


if __name__ == "__main__":
    sys.exit(main())
