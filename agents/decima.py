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
variance per scenario and scenarios take turns in the optimiser, so that one network learns from all workloads at once;
a batch of rollouts serves several steps under a clipped ratio (as in that port), because collecting it takes most of
the time. The policy is described in ``llmsched_gym/policies/decima.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
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
from llmsched_gym.policies.decima_network import DecimaNetwork
from llmsched_gym.policies.decima_scores import (
    Flat,
    flatten,
    list_limits,
    score_limits,
    score_stages,
    segment_draw,
    segment_entropy,
)
from llmsched_gym.policies.fcfs import FCFS
from llmsched_gym.policies.graph_batch import GraphBatch
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
        default_factory=lambda: {"mixed": 120.0, "predefined": 150.0, "chain": 15.0, "planning": 30.0}
    )
    """Time constant of the returns, by scenario."""
    rollouts: int = 8
    """Rollouts per job sequence."""
    iterations: int = 120
    curriculum: float = 0.5
    """Share of the iterations over which episodes grow."""
    growth: float = 4.0
    """How many times they grow."""
    epochs: int = 20
    """Optimiser steps per iteration and scenario, at most."""
    target_kl: float = 0.015
    """A scenario's steps end once the policy is that far from the one that played."""
    clip: float = 0.2
    """Greatest change of a probability ratio that is rewarded."""
    learning_rate: float = 2e-3
    """At the beginning; falls linearly to a tenth."""
    entropy: tuple[float, float] = (0.01, 0.0001)
    """Weight of the entropy at the beginning and at the end; falls geometrically."""
    gradient_norm: float = 0.5
    """Longer gradients are shortened to it."""
    seed: int = 0
    workers: int = 1
    """Processes that play; the result does not depend on it."""
    validate_every: int = 20
    """Iterations between checks against FCFS on jobs that training does not reach."""
    output: Path = Path("runs/decima")
    """Folder of weights, checkpoint and TensorBoard logs."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that the weights depend on."""
        return {name: value for name, value in asdict(self).items() if name not in ("workers", "output")}


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
    """One episode of the policy, cut at the last arrival.

    Args:
        scenario: Its name.
        arrivals: Number of jobs.
        seed: Seed of the jobs.
    """

    def __init__(self, scenario: str, arrivals: int, seed: int) -> None:
        self.env = make_env(scenario, arrivals)
        self.obs, _ = self.env.reset(seed=seed)
        workload = self.env.get_wrapper_attr("workload")
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
        times = np.minimum(self.times_s, self.horizon_s)
        costs = np.interp(times, self.times_s, self.costs)
        rate = np.diff(costs) / np.maximum(np.diff(times), 1e-12) - average
        faded = np.exp(-(times - times[0]) / discount_s)
        pieces = rate * discount_s * (faded[:-1] - faded[1:])
        after = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
        return times, -after / faded


class Experience(NamedTuple):
    """What rollouts of one job sequence teach."""

    graphs: GraphBatch
    flat: Flat
    chosen: Tensor
    """Option that was chosen, among all options."""
    tasks: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    """Return less its mean over the rollouts at that time, scaled to unit variance."""
    jobs_in_system: float
    """Average over time."""


def play(
    weights: dict[str, NDArray[np.float32]],
    arguments: dict[str, Any],
    job_sequence: tuple[str, int, int],
    n_rollouts: int,
    average: float | None,
    discount_s: float,
    seed: int,
) -> Experience | None:
    """Let a policy play one job sequence (scenario, arrivals, seed) several times; None if nothing was to be chosen."""
    torch.set_num_threads(1)
    network = DecimaNetwork(**arguments)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    rollouts = [Rollout(*job_sequence) for _ in range(n_rollouts)]
    graphs = EmbeddedGraphs(network)
    collect(rollouts, graphs, torch.Generator().manual_seed(seed))
    jobs = sum(rollout.costs[-1] for rollout in rollouts) / sum(rollout.times_s[-1] for rollout in rollouts)
    choices = [choice for rollout in rollouts for choice in rollout.choices]
    if not choices:
        return None
    gain = np.concatenate(advantages(rollouts, jobs if average is None else average, discount_s))
    flat = flatten([choice.options for choice in choices], [choice.jobs for choice in choices])
    return Experience(
        graphs.store.batch(0, network.depth),
        flat,
        flat.first + torch.tensor([choice.stage for choice in choices]),
        torch.tensor([choice.tasks for choice in choices]),
        torch.tensor([choice.log_probability for choice in choices]),
        torch.from_numpy(gain / max(float(gain.std()), 1e-9)).float(),
        jobs,
    )


@torch.inference_mode()
def collect(rollouts: list[Rollout], graphs: EmbeddedGraphs, noise: torch.Generator) -> None:
    """Play all rollouts side by side; one pass of the network decides for all of them."""
    network = graphs.network
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
        chosen = segment_draw(stages, flat.choice, flat.n_choices, noise)
        tasks, chances = torch.ones_like(chosen), stages[chosen]
        limits = list_limits(network, known, flat, chosen)
        if len(limits.choice):
            logarithms = score_limits(network, known, flat, system, limits)
            drawn = segment_draw(logarithms, limits.choice, flat.n_choices, noise)
            at = torch.nonzero(drawn >= 0)[:, 0]
            tasks[at] = drawn[at] - torch.searchsorted(limits.choice, at) + 1
            chances[at] += logarithms[drawn[at]]
        decided = zip((chosen - flat.first).tolist(), tasks.tolist(), chances.tolist(), strict=True)
        for rollout, one, offer, decision in zip(playing, seen, offered, decided, strict=True):
            rollout.choices.append(Choice(rollout.times_s[-1], one.graphs, offer, *decision))
            for _ in range(decision[1]):
                rollout.step(int(offer.rows[decision[0]]))


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

    def assignments(self) -> dict[str, tuple[Any, ...]]:
        """Return the arguments of `play` for this iteration, by scenario."""
        config = self.config
        rng = np.random.default_rng((config.seed, self.iteration))
        grown = config.growth ** min(self._progress() / max(config.curriculum, 1e-9) - 1.0, 0.0)
        weights = {name: tensor.numpy().copy() for name, tensor in self.network.state_dict().items()}
        found = {}
        for name, jobs in config.jobs.items():
            mean = max(jobs * grown, 1.0)
            arrivals = int(np.clip(rng.geometric(1.0 / mean), 0.3 * mean, 3.0 * mean)) + 1
            sequence = (name, arrivals, int(rng.integers(VALIDATION_SEEDS[0])))
            discount_s, average, seed = config.discount_s[name], self.averages.get(name), int(rng.integers(2**31))
            found[name] = (weights, self.network.arguments, sequence, config.rollouts, average, discount_s, seed)
        return found

    def learn(self, played: dict[str, Experience]) -> dict[str, float]:
        """Take the optimiser steps of one iteration, scenarios in turn; return what to log."""
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = self.config.learning_rate * (1.0 - 0.9 * self._progress())
        logs: dict[str, float] = {}
        active = dict(played)
        for name, experience in played.items():
            old = self.averages.get(name, experience.jobs_in_system)
            self.averages[name] = 0.9 * old + 0.1 * experience.jobs_in_system
            logs |= {f"choices/{name}": experience.flat.n_choices, f"jobs_in_system/{name}": self.averages[name]}
        for _ in range(self.config.epochs):
            for name, experience in list(active.items()):
                logs |= {f"{key}/{name}": value for key, value in self._step(experience).items()}
                if logs[f"kl/{name}"] > self.config.target_kl:
                    del active[name]
        return logs

    def _step(self, played: Experience) -> dict[str, float]:
        """Take one optimiser step, unless the policy has moved too far already."""
        config, flat, n = self.config, played.flat, played.flat.n_choices
        known = self.network.embed(played.graphs)
        stages, system = score_stages(self.network, known, flat)
        spread = segment_entropy(stages, flat.choice, n)
        chance = stages[played.chosen]
        limits = list_limits(self.network, known, flat, played.chosen)
        if len(limits.choice):
            several = torch.unique_consecutive(limits.choice)
            logarithms = score_limits(self.network, known, flat, system, limits)
            taken = torch.searchsorted(limits.choice, several) + played.tasks[several] - 1
            chance = chance.index_add(0, several, logarithms[taken])
            spread = spread + segment_entropy(logarithms, limits.choice, n)
        change = chance - played.log_probabilities
        ratio = change.exp()
        logs = {"kl": float((ratio - 1.0 - change).detach().mean()), "entropy": float(spread.detach().mean())}
        if logs["kl"] > config.target_kl:
            return logs
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        objective = torch.minimum(ratio * played.advantages, clipped * played.advantages)
        fade = config.entropy[0] * (config.entropy[1] / config.entropy[0]) ** self._progress()
        self.optimiser.zero_grad()
        (-(objective + fade * spread).mean()).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
        self.optimiser.step()
        return logs

    def _progress(self) -> float:
        """Share of the iterations that are done."""
        return self.iteration / max(self.config.iterations - 1, 1)


def make_env(scenario: str, jobs: int) -> gym.Env[Any, Any]:
    """Return a training environment; Decima reads none of the profiler's columns."""
    name = next(name for name, one in ENVIRONMENTS.items() if one == scenario)
    return gym.make(name, jobs=jobs, observation="graph", profiler=False, max_candidates=32, disable_env_checker=True)


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


@contextmanager
def players(workers: int) -> Iterator[Any]:
    """Give a function that maps `play` over lists of its arguments, in this process or in several."""
    if workers == 1:
        yield lambda *arguments: list(map(play, *arguments))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield lambda *arguments: list(pool.map(play, *arguments))


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
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        with players(config.workers) as map_play, Progress(*columns) as bar:
            task = bar.add_task("training", total=config.iterations, completed=learner.iteration, text="")
            while learner.iteration < config.iterations:
                started = time.perf_counter()
                assigned = learner.assignments()
                found = map_play(*zip(*assigned.values(), strict=True))
                played = {name: one for name, one in zip(assigned, found, strict=True) if one is not None}
                collected = time.perf_counter()
                logs = learner.learn(played)
                learner.seconds += time.perf_counter() - started
                logs |= {"seconds/collect": collected - started, "seconds/all": learner.seconds}
                learner.iteration += 1
                if learner.iteration % config.validate_every == 0 or learner.iteration == config.iterations:
                    logs |= self.validate()
                for name, value in logs.items():
                    self._logs.add_scalar(name, value, learner.iteration)
                bar.update(task, completed=learner.iteration, text=f"{learner.seconds:.0f} s")
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
        training = {
            "recipe": "agents/decima.py",
            "split": "train",
            "seeds": f"drawn below {VALIDATION_SEEDS[0]}, from seed {self.config.seed}",
            "commit": commit(),
            "iterations": self.learner.iteration,
            "seconds": round(self.learner.seconds),
            "torch": torch.__version__,
            "config": self.config.identity(),
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
            "config": str(self.config.identity()),
        }
        part = self._checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._checkpoint)

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        if state["config"] != str(self.config.identity()):
            allowed = f"the settings that the run in it began with, {state['config']}; or another folder"
            raise InputError(self._checkpoint, "settings", str(self.config.identity()), allowed)
        learner = self.learner
        learner.network.load_state_dict(state["network"])
        learner.optimiser.load_state_dict(state["optimiser"])
        learner.iteration, learner.averages = state["iteration"], state["averages"]
        learner.seconds = state["seconds"]


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
