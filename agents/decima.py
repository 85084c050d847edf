"""Train Decima (SIGCOMM 2019): REINFORCE with input-dependent baselines on graph observations.

    python agents/decima.py --config configs/agents/decima.yaml [--seed 1] [--iterations 50] [--output runs/decima]
    tensorboard --logdir runs/decima
    llmsched-gym compare --policies fcfs,srtf,"decima?weights=runs/decima/decima.safetensors"

Given again, the same command goes on from the last checkpoint. Each iteration draws one job sequence per scenario from
the ``train`` split and lets several rollouts of the present policy schedule it. As in the paper:

- all rollouts of a sequence share its jobs and its horizon, and the baseline of a decision at time t is the mean over
  these rollouts of the return from t on, so that the luck of the arrivals cancels;
- the horizon is random (geometric, in arrivals) and its mean grows over the curriculum, so that nothing can be
  put off to an end that is known;
- rewards are differential: minus the number of jobs in the system, relative to its average over recent iterations;
- an entropy bonus, normalised by the logarithm of the number of choices, fades;
- time that passes without a choice counts for the choice before it; what cannot be chosen is not among the options.

Where it differs: returns fade with time (``discount_s``), since what a choice changes wears off with its busy period
while the noise of all later choices does not (the public PyTorch port does the same); advantages are scaled to unit
variance per scenario, so that one network learns from all workloads at once; a batch of rollouts serves several
optimiser steps under a clipped ratio (as in that port), because collecting it takes most of the time. The policy is
described in ``llmsched_gym/policies/decima.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from llmsched_gym.errors import InputError, from_validation
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.choices import forced
from llmsched_gym.policies.decima import Options, options
from llmsched_gym.policies.decima_actor import EmbeddedGraphs
from llmsched_gym.policies.decima_network import DecimaNetwork, Embedding, compress, segment_log_softmax
from llmsched_gym.policies.fcfs import FCFS
from llmsched_gym.policies.learned import save_weights
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.registration import ENVIRONMENTS

VALIDATION_SEEDS = (1_000_000, 1_000_001)
"""Seeds of the train split that training itself never reaches."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    jobs: dict[str, int] = field(default_factory=lambda: {"mixed": 60, "predefined": 30, "chain": 150, "planning": 150})
    """Scenarios to train on, and the mean number of arrivals in an episode at the end of the curriculum."""
    discount_s: dict[str, float] = field(
        default_factory=lambda: {"mixed": 200.0, "predefined": 300.0, "chain": 30.0, "planning": 50.0}
    )
    """Time constant of the returns, by scenario."""
    rollouts: int = 8
    """Rollouts per job sequence."""
    iterations: int = 300
    curriculum: float = 0.5
    """Share of the iterations over which episodes grow."""
    growth: float = 4.0
    """How many times they grow."""
    epochs: int = 20
    """Optimiser steps per iteration, at most."""
    target_kl: float = 0.015
    """No further step of an iteration is taken once the policy is that far from the one that played."""
    clip: float = 0.2
    """Greatest change of a probability ratio that is rewarded."""
    learning_rate: float = 3e-3
    """At the beginning; falls linearly to a tenth."""
    entropy: tuple[float, float] = (0.01, 0.0001)
    """Weight of the entropy at the beginning and at the end; falls geometrically."""
    gradient_norm: float = 0.5
    """Longer gradients are shortened to it."""
    seed: int = 0
    validate_every: int = 25
    """Iterations between checks against FCFS on jobs that training does not reach."""
    output: Path = Path("runs/decima")
    """Folder of weights, checkpoint and TensorBoard logs."""


class Choice(NamedTuple):
    """One decision of a rollout."""

    time_s: float
    jobs: NDArray[np.int64]
    """Graphs of all jobs in the system."""
    options: Options
    stage: int
    """Index of the chosen option."""
    tasks: int
    """Tasks that were started, from 1 to the option's room."""
    log_probability: float


class Rollout:
    """One episode of the policy, cut at its horizon.

    Args:
        env: Environment with the episode's jobs.
        seed: Seed of the jobs.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self.env = env
        self.obs, _ = env.reset(seed=seed)
        workload = env.get_wrapper_attr("workload")
        self.n_jobs = workload.n_jobs
        self.horizon_s = float(workload.jobs["arrival_ns"].max()) * 1e-9
        self.times_s, self.costs = [float(self.obs["system"][0])], [0.0]
        self.choices: list[Choice] = []
        self.over = False

    def run_to_choice(self) -> None:
        """Do what is forced until there is a choice or the episode is over."""
        while not self.over and (action := forced(self.obs)) >= 0:
            self.step(action)

    def step(self, action: int) -> None:
        """Take one step of the environment, and note what it cost: jobs in the system, integrated over time."""
        self.obs, reward, done, _, _ = self.env.step(action)
        now_s = float(self.obs["system"][0])
        cost = self.costs[-1] - float(reward) * self.n_jobs
        if now_s > self.times_s[-1]:
            self.times_s.append(now_s)
            self.costs.append(cost)
        else:
            self.costs[-1] = cost
        self.over = done or now_s >= self.horizon_s

    def returns(self, average: float, discount_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the times at which the cost is known, and the discounted differential return from each on.

        Args:
            average: Average number of jobs in the system, which rewards are relative to.
            discount_s: Time constant.
        """
        times = np.array([*self.times_s[:-1], min(self.times_s[-1], self.horizon_s)])
        costs = np.interp(times, self.times_s, self.costs)
        length = np.diff(times)
        rate = np.diff(costs) / np.maximum(length, 1e-12) - average
        faded = np.exp(-(times - times[0]) / discount_s)
        pieces = rate * discount_s * (faded[:-1] - faded[1:])
        after = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
        return times, -after / faded


class Flat(NamedTuple):
    """Options of many choices, one after another.

    Attributes:
        job_choice: int64 (j,). Choice of each (choice, job in the system).
        job_graph: int64 (j,). Graph of that job.
        choice: int64 (c,). Choice of each option.
        node: int64 (c,). Node of each option.
        graph: int64 (c,). Graph of each option.
        free: float32 (c,). Free slots for each option.
        n_choices: Number of choices.
    """

    job_choice: Tensor
    job_graph: Tensor
    choice: Tensor
    node: Tensor
    graph: Tensor
    free: Tensor
    n_choices: int


class Limits(NamedTuple):
    """Limits of the choices that have several, one after another.

    Attributes:
        choice: int64 (k,). Choice of each limit.
        option: int64 (k,). The chosen option, among all options.
        limit: float32 (k,). Tasks that the job may run.
    """

    choice: Tensor
    option: Tensor
    limit: Tensor


def flatten(offered: list[Options], jobs: list[NDArray[np.int64]]) -> Flat:
    """Put the options of choices one after another."""
    choices = torch.arange(len(offered))

    def each(counts: list[int]) -> Tensor:
        return choices.repeat_interleave(torch.tensor(counts))

    node, graph, free = (
        torch.from_numpy(np.concatenate(parts))
        for parts in zip(*((one.nodes, one.graphs, one.free) for one in offered), strict=True)
    )
    return Flat(
        each([len(one) for one in jobs]),
        torch.from_numpy(np.concatenate(jobs)),
        each([len(one.rows) for one in offered]),
        node,
        graph,
        free,
        len(offered),
    )


def score_stages(network: DecimaNetwork, known: Embedding, flat: Flat) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each option, and the summary of the system at each choice."""
    sums = known.shares.new_zeros(flat.n_choices, network.width)
    system = compress(sums.index_add(0, flat.job_choice, known.shares[flat.job_graph]))
    logits = network.stage_logits(
        known.features[flat.node], known.nodes[flat.node], known.jobs[flat.graph], system[flat.choice], flat.free
    )
    return segment_log_softmax(logits, flat.choice, flat.n_choices), system


def score_limits(network: DecimaNetwork, known: Embedding, flat: Flat, system: Tensor, limits: Limits) -> Tensor:
    """Return the log-probability of each limit."""
    at = limits.option
    logits = network.limit_logits(
        known.features[flat.node[at]],
        known.jobs[flat.graph[at]],
        system[limits.choice],
        flat.free[at],
        limits.limit,
    )
    return segment_log_softmax(logits, limits.choice, flat.n_choices)


def list_limits(network: DecimaNetwork, known: Embedding, flat: Flat, option: Tensor, room: Tensor) -> Limits:
    """Return the limits of choices with these options, of which `room` tasks can start."""
    several = torch.nonzero(room > 1)[:, 0]
    counts = room[several]
    first = counts.cumsum(0) - counts
    tasks = torch.arange(int(counts.sum())) - first.repeat_interleave(counts) + 1
    at = option[several].repeat_interleave(counts)
    running = known.features[flat.node[at], 0] * network.tasks_scale
    return Limits(several.repeat_interleave(counts), at, running + tasks)


def draw(log_probabilities: Tensor, segment: Tensor, n_segments: int, noise: torch.Generator) -> Tensor:
    """Draw one entry of each segment; return its index, or -1 for segments without entries."""
    uniform = torch.rand(len(segment), generator=noise).clamp_min(1e-12)
    keys = log_probabilities - torch.log(-torch.log(uniform))
    highest = torch.full((n_segments,), -torch.inf).scatter_reduce(0, segment, keys, "amax")
    drawn = torch.full((n_segments,), -1)
    won = torch.nonzero(keys == highest[segment])[:, 0]
    drawn[segment[won]] = won
    return drawn


@torch.inference_mode()
def collect(network: DecimaNetwork, rollouts: list[Rollout], graphs: EmbeddedGraphs, noise: torch.Generator) -> None:
    """Let the present policy play all rollouts side by side; one pass of the network decides for all of them."""
    while True:
        for rollout in rollouts:
            rollout.run_to_choice()
        playing = [rollout for rollout in rollouts if not rollout.over]
        if not playing:
            return
        seen = [graphs.add(rollout.obs) for rollout in playing]
        graphs.update()
        known = graphs.embedding
        offered = [options(rollout.obs, one) for rollout, one in zip(playing, seen, strict=True)]
        flat = flatten(offered, [one.graphs for one in seen])
        stages, system = score_stages(network, known, flat)
        stage = draw(stages, flat.choice, flat.n_choices, noise)
        room = torch.from_numpy(np.concatenate([one.room for one in offered]))[stage]
        limits = list_limits(network, known, flat, stage, room)
        tasks, chances = torch.ones_like(room), stages[stage]
        if len(limits.choice):
            logarithms = score_limits(network, known, flat, system, limits)
            limit = draw(logarithms, limits.choice, flat.n_choices, noise)
            at = torch.nonzero(limit >= 0)[:, 0]
            start = torch.searchsorted(limits.choice, at)
            tasks[at] = limit[at] - start + 1
            chances[at] += logarithms[limit[at]]
        first = torch.searchsorted(flat.choice, torch.arange(flat.n_choices))
        chosen = zip(playing, seen, offered, (stage - first).tolist(), tasks.tolist(), chances.tolist(), strict=True)
        for rollout, one, offer, index, count, chance in chosen:
            rollout.choices.append(Choice(rollout.times_s[-1], one.graphs, offer, index, count, chance))
            for _ in range(count):
                rollout.step(int(offer.rows[index]))


def advantages(rollouts: list[Rollout], average: float, discount_s: float) -> list[NDArray[np.float64]]:
    """Return the advantage of every choice of rollouts that share their jobs: return less the mean at that time."""
    curves = [rollout.returns(average, discount_s) for rollout in rollouts]
    found = []
    for rollout, (times, values) in zip(rollouts, curves, strict=True):
        at = np.array([choice.time_s for choice in rollout.choices])
        baseline = np.mean([np.interp(at, *curve) for curve in curves], axis=0)
        found.append(np.interp(at, times, values) - baseline)
    return found


class Learner:
    """Network, optimiser and what a checkpoint holds besides.

    Args:
        config: Settings of the run.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.network = DecimaNetwork()
        self.optimiser = torch.optim.Adam(self.network.parameters(), config.learning_rate)
        self.iteration = 0
        self.averages: dict[str, float] = {}
        self.seconds = 0.0

    def progress(self) -> float:
        """Share of the iterations that are done."""
        return self.iteration / max(self.config.iterations - 1, 1)

    def play(self) -> tuple[dict[str, list[Rollout]], EmbeddedGraphs]:
        """Collect the rollouts of one iteration, by scenario."""
        config = self.config
        rng = np.random.default_rng((config.seed, self.iteration))
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        grown = config.growth ** min(self.progress() / max(config.curriculum, 1e-9) - 1.0, 0.0)
        groups: dict[str, list[Rollout]] = {}
        for name, jobs in config.jobs.items():
            mean = max(jobs * grown, 1.0)
            arrivals = int(np.clip(rng.geometric(1.0 / mean), 0.3 * mean, 3.0 * mean)) + 1
            seed = int(rng.integers(VALIDATION_SEEDS[0]))
            groups[name] = [Rollout(make_env(name, arrivals), seed) for _ in range(config.rollouts)]
        graphs = EmbeddedGraphs(self.network)
        collect(self.network, [rollout for group in groups.values() for rollout in group], graphs, noise)
        return groups, graphs

    def learn(self, groups: dict[str, list[Rollout]], graphs: EmbeddedGraphs) -> dict[str, float]:
        """Take the optimiser steps of one iteration; return what to log."""
        config = self.config
        choices: list[Choice] = []
        gains, weights = [], []
        for name, group in groups.items():
            seconds = sum(rollout.times_s[-1] for rollout in group)
            jobs = sum(rollout.costs[-1] for rollout in group) / max(seconds, 1e-9)
            average = self.averages[name] = 0.9 * self.averages.get(name, jobs) + 0.1 * jobs
            found = np.concatenate(advantages(group, average, config.discount_s[name]))
            if found.size:
                gains.append(found / max(float(found.std()), 1e-9))
                weights.append(np.full(found.size, 1.0 / found.size))
                choices += [choice for rollout in group for choice in rollout.choices]
        gain = torch.from_numpy(np.concatenate(gains)).float()
        weight = torch.from_numpy(np.concatenate(weights)).float() / len(weights)
        flat = flatten([choice.options for choice in choices], [choice.jobs for choice in choices])
        stage = torch.searchsorted(flat.choice, torch.arange(len(choices))) + torch.tensor([c.stage for c in choices])
        room = torch.tensor([int(choice.options.room[choice.stage]) for choice in choices])
        limits = list_limits(self.network, graphs.embedding, flat, stage, room)
        several = torch.unique_consecutive(limits.choice)
        tasks = torch.tensor([choice.tasks for choice in choices])
        limit = torch.searchsorted(limits.choice, several) + tasks[several] - 1
        before = torch.tensor([choice.log_probability for choice in choices])
        fade = config.entropy[0] * (config.entropy[1] / config.entropy[0]) ** self.progress()
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = config.learning_rate * (1.0 - 0.9 * self.progress())
        batch = graphs.store.batch(0, self.network.depth)
        logs: dict[str, float] = {"choices": len(choices), "graphs": len(graphs.store)}
        for epoch in range(config.epochs):
            known = self.network.embed(batch)
            stages, system = score_stages(self.network, known, flat)
            spread = normalised_entropy(stages, flat.choice, len(choices))
            chance = stages[stage]
            if len(several):
                logarithms = score_limits(self.network, known, flat, system, limits)
                chance = chance.index_add(0, several, logarithms[limit])
                spread = spread + normalised_entropy(logarithms, limits.choice, len(choices))
            change = chance - before
            ratio = change.exp()
            logs["kl"] = float((weight * (ratio - 1.0 - change).detach()).sum())
            if logs["kl"] > config.target_kl:
                break
            clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
            objective = torch.minimum(ratio * gain, clipped * gain)
            loss = -(weight * (objective + fade * spread)).sum()
            self.optimiser.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
            self.optimiser.step()
            logs |= {
                "entropy": float((weight * spread.detach()).sum()),
                "gradient_norm": float(norm),
                "epochs": epoch + 1,
            }
        return logs


def normalised_entropy(log_probabilities: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Return the entropy of each segment over the logarithm of its number of entries; 0 where there is one at most."""
    counts = torch.bincount(segment, minlength=n_segments).clamp_min(2).float()
    terms = -log_probabilities.exp() * log_probabilities
    return terms.new_zeros(n_segments).index_add(0, segment, terms) / counts.log()


def make_env(scenario: str, jobs: int) -> gym.Env[Any, Any]:
    """Return a training environment; Decima reads none of the profiler's columns."""
    name = next(name for name, one in ENVIRONMENTS.items() if one == scenario)
    return gym.make(name, jobs=jobs, observation="graph", profiler=False, max_candidates=48, disable_env_checker=True)


def mean_jct_s(policy: Policy, scenario: str, jobs: int) -> float:
    """Return the mean JCT of a policy on the validation seeds."""
    found = []
    for seed in VALIDATION_SEEDS:
        env = make_env(scenario, jobs)
        obs, info = env.reset(seed=seed)
        policy.reset(info)
        done = False
        while not done:
            obs, _, done, _, info = env.step(policy.act(obs))
        found.append(info["result"]["jct_s"].mean())
    return float(np.mean(found))


class Run:
    """A training run on disk: weights, their card, a checkpoint and logs in one folder.

    Args:
        config: Settings; those of a run that goes on must be the ones that it began with.

    Raises:
        InputError: The folder holds a run with other settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.learner = Learner(config)
        self.weights = config.output / "decima.safetensors"
        self._checkpoint = config.output / "checkpoint.pt"
        config.output.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._resume()
        else:
            self.save(config.output / "decima_untrained.safetensors")
        self._logs = SummaryWriter(str(config.output), purge_step=self.learner.iteration)
        self._fcfs = {name: mean_jct_s(FCFS(), name, jobs) for name, jobs in config.jobs.items()}

    def train(self) -> None:
        """Run the iterations that are left."""
        learner, config = self.learner, self.config
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[text]}")) as bar:
            task = bar.add_task("training", total=config.iterations, completed=learner.iteration, text="")
            while learner.iteration < config.iterations:
                started = time.perf_counter()
                groups, graphs = learner.play()
                collected = time.perf_counter()
                logs = learner.learn(groups, graphs)
                learner.seconds += time.perf_counter() - started
                logs |= {"seconds/collect": collected - started, "seconds/all": learner.seconds}
                logs |= {f"jobs_in_system/{name}": average for name, average in learner.averages.items()}
                learner.iteration += 1
                if learner.iteration % config.validate_every == 0 or learner.iteration == config.iterations:
                    logs |= self.validate()
                for name, value in logs.items():
                    self._logs.add_scalar(name, value, learner.iteration)
                text = f"entropy {logs['entropy']:.2f} kl {logs['kl']:.4f} {learner.seconds:.0f} s"
                bar.update(task, completed=learner.iteration, text=text)
        self._logs.close()

    def validate(self) -> dict[str, float]:
        """Save, and compare with FCFS on jobs that training does not reach; print and return mean JCT below it."""
        self.save(self.weights)
        self._save_checkpoint()
        found = {}
        for name, jobs in self.config.jobs.items():
            policy = load_policy("decima", weights=str(self.weights))
            found[f"below_fcfs_pct/{name}"] = 100.0 * (1.0 - mean_jct_s(policy, name, jobs) / self._fcfs[name])
        line = ", ".join(f"{name.partition('/')[2]} {value:.1f} %" for name, value in found.items())
        print(f"iteration {self.learner.iteration}: below FCFS {line}", flush=True)
        return found

    def save(self, path: Path) -> None:
        """Write the present weights with their card."""
        network = self.learner.network
        settings = {name: value for name, value in asdict(self.config).items() if name != "output"}
        training = {
            "recipe": "agents/decima.py",
            "split": "train",
            "seeds": f"drawn below {VALIDATION_SEEDS[0]}, from seed {self.config.seed}",
            "commit": commit(),
            "iterations": self.learner.iteration,
            "seconds": round(self.learner.seconds),
            "torch": torch.__version__,
            "config": settings,
        }
        save_weights(path, "decima", network.state_dict(), network.arguments, training)

    def _save_checkpoint(self) -> None:
        learner = self.learner
        state = {
            "network": learner.network.state_dict(),
            "optimiser": learner.optimiser.state_dict(),
            "iteration": learner.iteration,
            "averages": learner.averages,
            "seconds": learner.seconds,
            "config": self._identity(),
        }
        part = self._checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._checkpoint)

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        if state["config"] != self._identity():
            allowed = f"the settings that the run in it began with, {state['config']}; or another folder"
            raise InputError(self._checkpoint, "settings", self._identity(), allowed)
        learner = self.learner
        learner.network.load_state_dict(state["network"])
        learner.optimiser.load_state_dict(state["optimiser"])
        learner.iteration, learner.averages = state["iteration"], state["averages"]
        learner.seconds = state["seconds"]

    def _identity(self) -> str:
        return str({name: value for name, value in asdict(self.config).items() if name != "output"})


def commit() -> str:
    """Return the commit of the sources, with a mark if they have changed since."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def read_config() -> Config:
    """Read the settings: those of the file given by ``--config``, with what the command line says instead.

    Raises:
        InputError: The file has a setting that does not exist, or a value that is not possible.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", type=Path)
    known, rest = first.parse_known_args()
    if known.config is None:
        return tyro.cli(Config, args=rest, description=__doc__)
    try:
        content = yaml.safe_load(known.config.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError("--config", "", str(known.config), f"a YAML file that can be read ({error})") from error
    try:
        default = TypeAdapter(Config).validate_python(content)
    except ValidationError as error:
        raise from_validation(known.config, error, content) from error
    return tyro.cli(Config, default=default, args=rest, description=__doc__)


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    try:
        Run(read_config()).train()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
