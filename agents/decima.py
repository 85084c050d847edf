"""Train Decima (SIGCOMM 2019): REINFORCE with input-dependent baselines on graph observations.

    python agents/decima.py --config configs/agents/decima.yaml [--seed 1] [--iterations 50] [--output runs/decima]
    tensorboard --logdir runs/decima
    llmsched-gym compare --policies "fcfs,srtf,decima?weights=runs/decima/decima.safetensors"

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

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

try:
    import torch
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; expected: pip install -e '.[sb3]', in the checkout")

from llmsched_gym import training
from llmsched_gym.cli.options import File
from llmsched_gym.config import Real, Whole
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.policies.choices import forced
from llmsched_gym.policies.decima_actor import EmbeddedGraphs
from llmsched_gym.policies.decima_network import DecimaNetwork
from llmsched_gym.policies.decima_options import Options, options
from llmsched_gym.policies.decima_scores import Flat, evaluate, flatten, sample
from llmsched_gym.policies.graph_batch import GraphBatch
from llmsched_gym.policies.learned import file_digest, load_weights, save_weights
from llmsched_gym.policies.returns import advantages, return_curve
from llmsched_gym.training import Count, Fraction, Point, Positive, Seed, Share, Size, policy_spec, validation_jct_s

VALIDATION_SEEDS = range(1_000_000, 1_000_006)
"""Seeds of the train split that training itself never reaches."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    jobs: dict[str, Count] = field(
        default_factory=lambda: {"mixed": 60, "predefined": 30, "chain": 150, "planning": 150}
    )
    """Scenarios to train on, and the mean number of arrivals in an episode at the end of the curriculum."""
    discount_s: dict[str, Positive] = field(
        default_factory=lambda: {"mixed": 200.0, "predefined": 300.0, "chain": 30.0, "planning": 50.0}
    )
    """Time constant of the returns, by scenario."""
    rollouts: Annotated[Whole, Field(ge=2, le=1000)] = 8
    """Rollouts per job sequence; their mean is what each is compared with."""
    iterations: Count = 80
    """Job sequences per scenario, in all."""
    curriculum: Share = 0.5
    """Share of the iterations over which episodes grow."""
    growth: Annotated[Real, Field(ge=1)] = 4.0
    """How many times they grow."""
    epochs: Count = 20
    """Optimiser steps per iteration, at most."""
    target_kl: Positive = 0.015
    """No further step of an iteration is taken once the policy is that far from the one that played."""
    clip: Annotated[Positive, Field(lt=1)] = 0.2
    """Greatest change of a probability ratio that is rewarded."""
    learning_rate: Fraction = 3e-3
    """At the beginning; falls linearly to a tenth."""
    entropy: tuple[Positive, Positive] = (0.01, 0.0001)
    """Weight of the entropy at the beginning and at the end; falls geometrically."""
    gradient_norm: Positive = 0.5
    """Longer gradients are shortened to it."""
    seed: Seed = 0
    """Of the first weights, the jobs and the choices."""
    start: File = None
    """Weights to begin with (``.safetensors``) instead of random ones."""
    workers: Size = 1
    """Processes that play; the result does not depend on it, and more than scenarios are of no use."""
    validate_every: Count = 16
    """Iterations between checks against FCFS on jobs that training does not reach."""
    output: Path = Path("runs/decima")
    """Folder of weights, checkpoint, learning curve and TensorBoard logs."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that the weights depend on."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("workers", "output")}
        return kept | {"start": None if self.start is None else file_digest(self.start)}


class Choice(NamedTuple):
    """One decision of a rollout."""

    time_s: float
    jobs: NDArray[np.int64]
    """Graphs of all jobs in the system."""
    options: Options
    stage: int
    """Index of the chosen option; `tasks` of it, from 1 to the option's room, were started."""
    tasks: int
    log_probability: float


class Rollout:
    """One episode of the policy, cut at the last arrival."""

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
    cpu_s: float
    """CPU time that playing took."""


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
    started = time.process_time()
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
    average = jobs if average is None else average
    curves = [return_curve(one.times_s, one.costs, one.horizon_s, average, discount_s) for one in rollouts]
    moments = [[choice.time_s for choice in one.choices] for one in rollouts]
    gain = np.concatenate(advantages(curves, moments))
    flat = flatten([choice.options for choice in choices], [choice.jobs for choice in choices])
    return Experience(
        graphs.store.batch(0, network.depth),
        flat,
        flat.first + torch.tensor([choice.stage for choice in choices]),
        torch.tensor([choice.tasks for choice in choices]),
        torch.tensor([choice.log_probability for choice in choices]),
        torch.from_numpy(gain / max(float(gain.std()), 1e-9)).float(),
        jobs,
        time.process_time() - started,
    )


@torch.inference_mode()
def collect(rollouts: list[Rollout], graphs: EmbeddedGraphs, noise: torch.Generator) -> None:
    """Play all rollouts side by side; one pass of the network decides for all of them."""
    while True:
        for rollout in rollouts:
            rollout.run_to_choice()
        playing = [rollout for rollout in rollouts if not rollout.over]
        if not playing:
            return
        seen = [graphs.add(rollout.obs) for rollout in playing]
        graphs.update()
        offered = [options(rollout.obs, one) for rollout, one in zip(playing, seen, strict=True)]
        beyond = [rollout for rollout, offer in zip(playing, offered, strict=True) if len(offer.rows) == 0]
        for rollout in beyond:  # all that can start is outside the window of the graph: the oldest first
            rollout.step(int(rollout.obs["action_mask"].argmax()))
        if beyond:
            continue
        flat = flatten(offered, [one.graphs for one in seen])
        chosen, tasks, chances = sample(graphs.network, graphs.embedding, flat, noise)
        decided = zip((chosen - flat.first).tolist(), tasks.tolist(), chances.tolist(), strict=True)
        for rollout, one, offer, decision in zip(playing, seen, offered, decided, strict=True):
            rollout.choices.append(Choice(rollout.times_s[-1], one.graphs, offer, *decision))
            for _ in range(decision[1]):
                rollout.step(int(offer.rows[decision[0]]))


class Learner:
    """Network, optimiser and what a checkpoint holds besides."""

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.network = DecimaNetwork()
        if config.start is not None:
            load_weights(self.network, config.start)
        self.optimiser = torch.optim.Adam(self.network.parameters(), config.learning_rate)
        self.iteration = 0
        self.averages: dict[str, float] = {}
        self.cpu_s = 0.0
        self.points: list[Point] = []

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
        """Take the optimiser steps of one iteration, every scenario with the same weight; return what to log."""
        config = self.config
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = config.learning_rate * (1.0 - 0.9 * self._progress())
        logs: dict[str, float] = {}
        fade = config.entropy[0] * (config.entropy[1] / config.entropy[0]) ** self._progress()
        for name, experience in played.items():
            old = self.averages.get(name, experience.jobs_in_system)
            self.averages[name] = 0.9 * old + 0.1 * experience.jobs_in_system
            logs |= {f"choices/{name}": experience.flat.n_choices, f"jobs_in_system/{name}": self.averages[name]}
        for _ in range(config.epochs if played else 0):
            self.optimiser.zero_grad()
            for name, experience in played.items():
                objective, logs[f"kl/{name}"], spread = self._objective(experience)
                logs[f"entropy/{name}"] = float(spread.detach())
                (-(objective + fade * spread) / len(played)).backward()
            logs["kl/mean"] = float(np.mean([logs[f"kl/{name}"] for name in played]))
            if logs["kl/mean"] > config.target_kl:
                break
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
            self.optimiser.step()
        return logs

    def _objective(self, played: Experience) -> tuple[Tensor, float, Tensor]:
        """Return the clipped objective, the divergence from the policy that played, and the normalised entropy."""
        known = self.network.embed(played.graphs)
        chance, spread = evaluate(self.network, known, played.flat, played.chosen, played.tasks)
        change = chance - played.log_probabilities
        ratio = change.exp()
        clipped = ratio.clamp(1.0 - self.config.clip, 1.0 + self.config.clip)
        objective = torch.minimum(ratio * played.advantages, clipped * played.advantages)
        return objective.mean(), float((ratio - 1.0 - change).detach().mean()), spread.mean()

    def _progress(self) -> float:
        """Share of the iterations that are done."""
        return self.iteration / max(self.config.iterations - 1, 1)


def make_env(scenario: str, jobs: int) -> gym.Env[Any, Any]:
    """Return a training environment; Decima reads none of the profiler's columns."""
    settings = {"scenario": scenario, "jobs": jobs, "observation": "graph", "profiler": False, "max_candidates": 32}
    return gym.make("LLMSched/Mixed-v0", disable_env_checker=True, **settings)


class Run:
    """A training run on disk: weights, their card, a checkpoint and logs in one folder. A run there goes on.

    Args:
        config: Settings; those of a run that goes on must be the ones that it began with.

    Raises:
        InputError: Settings do not fit together, or the folder holds a run with others.
    """

    def __init__(self, config: Config) -> None:
        if config.jobs.keys() != config.discount_s.keys() or not config.jobs:
            allowed = f"the scenarios in jobs, at least one: {[*config.jobs]}"
            raise InputError("settings", "discount_s", Plain(f"{[*config.discount_s]}"), allowed)
        training.check_scenarios(config.jobs)
        if config.start is not None and not config.start.is_file():
            raise InputError("settings", "start", str(config.start), "a .safetensors file that exists")
        self.config = config
        self.learner = Learner(config)
        self.weights = config.output / "decima.safetensors"
        self._checkpoint = config.output / "checkpoint.pt"
        if self._checkpoint.exists():
            self._resume()

    def train(self) -> None:
        """Run the iterations that are left, and say where the weights are."""
        scenario, finished = next(iter(self.config.jobs)), self.learner.iteration >= self.config.iterations
        if not finished:
            training.begin_run(self.config.output)
            self._iterate()
        training.tell_finished(self.weights, scenario, already=finished)

    def _iterate(self) -> None:
        learner, config = self.learner, self.config
        if not learner.points:
            self.save(config.output / "decima_untrained.safetensors")
        fcfs_s = self._mean_jct_s("fcfs")
        if not learner.points:
            self.validate(fcfs_s)
        workers = min(config.workers, len(config.jobs))
        with (
            SummaryWriter(str(config.output), purge_step=learner.iteration) as writer,
            training.spread(play, workers) as map_play,
            training.progress_bar("training", config.iterations, learner.iteration) as show,
        ):
            while learner.iteration < config.iterations:
                assigned = learner.assignments()
                found = zip(assigned, map_play(*zip(*assigned.values(), strict=True)), strict=True)
                played = {name: one for name, one in found if one is not None}
                started = time.process_time()
                logs = learner.learn(played)
                learner.cpu_s += time.process_time() - started + sum(one.cpu_s for one in played.values())
                learner.iteration += 1
                if learner.iteration % config.validate_every == 0 or learner.iteration == config.iterations:
                    logs |= self.validate(fcfs_s)
                for name, value in (logs | {"cpu_s": learner.cpu_s}).items():
                    writer.add_scalar(name, value, learner.iteration)
                show(learner.iteration, learner.cpu_s)

    def validate(self, fcfs_s: Mapping[str, float]) -> dict[str, float]:
        """Note by how much mean JCT is below FCFS's on jobs that training does not reach, and save; return it."""
        self.save(self.weights)
        jct_s = self._mean_jct_s(policy_spec(self.weights))
        below = {name: 100.0 * (1.0 - jct_s[name] / fcfs) for name, fcfs in fcfs_s.items()}
        point = {name: {"fcfs": value} for name, value in below.items()}
        done, cpu_s = self.learner.iteration, self.learner.cpu_s
        self.learner.points.append({"done": done, "cpu_s": cpu_s, "below_pct": point})
        self._save_checkpoint()
        print(f"iteration {done}: below FCFS", *(f"{name} {value:.1f} %" for name, value in below.items()), flush=True)
        return {f"below_fcfs_pct/{name}": value for name, value in below.items()}

    def _mean_jct_s(self, policy: str) -> dict[str, float]:
        return {name: validation_jct_s(policy, name, n, VALIDATION_SEEDS) for name, n in self.config.jobs.items()}

    def save(self, path: Path) -> None:
        """Write the present weights with their card."""
        learner, config = self.learner, self.config
        seeds = f"drawn below {VALIDATION_SEEDS[0]}, from seed {config.seed}"
        done = {"iterations": learner.iteration, "cpu_seconds": round(learner.cpu_s)}
        card = training.provenance("agents/decima.py", seeds, config.identity(), done)
        save_weights(path, "decima", learner.network.state_dict(), learner.network.arguments, card)

    def _save_checkpoint(self) -> None:
        learner = self.learner
        state = {
            "network": learner.network.state_dict(),
            "optimiser": learner.optimiser.state_dict(),
            "iteration": learner.iteration,
            "averages": learner.averages,
            "cpu_s": learner.cpu_s,
            "points": learner.points,
        }
        training.save_checkpoint(self._checkpoint, state, self.config.identity())
        training.write_curve(self.config.output, "Decima", "iterations", self.config.identity(), learner.points)

    def _resume(self) -> None:
        learner, state = self.learner, training.load_checkpoint(self._checkpoint, self.config.identity())
        learner.network.load_state_dict(state["network"])
        learner.optimiser.load_state_dict(state["optimiser"])
        learner.iteration, learner.averages = state["iteration"], state["averages"]
        learner.cpu_s, learner.points = state["cpu_s"], state["points"]


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    return training.run_recipe(Config, __doc__, lambda config: Run(config).train())


if __name__ == "__main__":
    sys.exit(main())
