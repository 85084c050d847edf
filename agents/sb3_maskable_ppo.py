"""Train a scheduler with sb3-contrib's MaskablePPO on the default observation: the recipe to copy.

    python agents/sb3_maskable_ppo.py --config configs/agents/maskable_ppo.yaml [--seed 1] [--steps 200000]
    tensorboard --logdir runs/maskable_ppo
    llmsched-gym compare --policies fcfs,fair,srtf,"maskable_ppo?weights=runs/maskable_ppo/maskable_ppo.safetensors"

Given again, the same command goes on from the last checkpoint. What is special to this environment is here: the vector
environment, its mask, and a network that scores each candidate by itself (`llmsched_gym/policies/candidate_network.py`)
and so serves windows of any size. Everything else is Stable-Baselines3. Jobs are those of the ``train`` split.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import gymnasium as gym
import numpy as np
from pydantic import Field

try:
    import torch
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import Tensor, nn
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; expected: pip install -e '.[sb3]', in the checkout")

from llmsched_gym import training
from llmsched_gym.config import Real, Whole
from llmsched_gym.envs.normalise import scales_to_json
from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.policies.candidate_network import CandidateNetwork
from llmsched_gym.policies.learned import save_weights
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.training import CURVE, Count, Fraction, Point, Positive, Seed, Share, Size

VALIDATION_SEED = 2**40
"""First seed of the jobs of the train split that progress is measured on. Training draws below 2**31, and begins with
seeds that count up from ten million times its own."""

WEIGHTS, CHECKPOINT = "maskable_ppo.safetensors", "checkpoint.zip"
"""Files in the output folder."""

SEED_STRIDE = 10_000_000
"""How far apart the random numbers of two training seeds begin; a run that goes on begins as far on as it has come."""

MAX_SEED, MAX_STEPS = 400, 100_000_000
"""With them, what random numbers begin with is below 2**32, as Stable-Baselines3 wants it."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    scenario: str = "mixed"
    """Scenario to train on: its name, or a YAML file."""
    jobs: Count = 100
    """Jobs per episode."""
    window: Size = 32
    """Rows of candidates and of jobs that the network sees while training."""
    num_envs: Size = 32
    """Episodes that are played side by side."""
    steps: Annotated[Count, Field(le=MAX_STEPS)] = 500_000
    """Decisions in all."""
    n_steps: Size = 128
    """Decisions per sub-environment between updates."""
    batch_size: Annotated[Whole, Field(ge=2)] = 1024
    """Decisions per optimiser step."""
    epochs: Count = 6
    """Passes over the decisions per update."""
    learning_rate: Fraction = 3e-3
    """At the beginning; falls linearly to a tenth."""
    gamma: Share = 0.995
    """Discount per decision."""
    gae_lambda: Share = 0.98
    """Discount of advantage estimates, beside gamma."""
    entropy: Annotated[Real, Field(ge=0)] = 0.005
    """Weight of the entropy bonus."""
    reward_scale: Positive = 5.0
    """What rewards are multiplied by."""
    hidden: Size = 64
    """Width of the network's layers."""
    seed: Annotated[Seed, Field(le=MAX_SEED)] = 0
    """Of the first weights, the jobs and the choices."""
    validations: Count = 5
    """How often progress is measured, and a checkpoint written."""
    validation_seeds: Size = 6
    """Episodes that it is measured on."""
    output: Path = Path("runs/maskable_ppo")
    """Folder of weights, checkpoint, learning curve and TensorBoard logs."""


class Scores(BaseFeaturesExtractor):
    """Runs the network: one score per action, then the value. Waiting scores 0.

    Args:
        observation_space: The environment's.
        hidden: Width of the network.
    """

    def __init__(self, observation_space: gym.spaces.Dict, hidden: int) -> None:
        (n_actions,) = observation_space["action_mask"].shape or (0,)
        super().__init__(observation_space, features_dim=n_actions + 1)
        self.network = CandidateNetwork(hidden)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return (B, actions + 1)."""
        tables = {name: observations[name] for name in ("candidates", "jobs", "executors", "system")}
        scores, value = self.network(**tables, legal=observations["action_mask"][:, :-1] > 0)
        return torch.cat([scores, torch.zeros_like(value)[:, None], value[:, None]], dim=1)


class Columns(nn.Module):
    """Passes on some of the columns: scores to the action distribution, the value to the critic."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self._columns = columns

    def forward(self, features: Tensor) -> Tensor:
        """Return the columns."""
        return features[:, self._columns]


class CandidatePolicy(MaskableMultiInputActorCriticPolicy):
    """An actor and a critic that are the columns of `Scores`, with nothing behind them."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = Columns(slice(0, -1))  # pyright: ignore[reportAttributeAccessIssue] - a layer in SB3
        self.value_net = Columns(slice(-1, None))  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # pyright: ignore[reportCallIssue]


def mean_jct_s(spec: str, config: Config) -> np.ndarray:
    """Return the mean JCT of a policy on each of the validation seeds, played side by side."""
    seeds = [VALIDATION_SEED + i for i in range(config.validation_seeds)]
    envs = SchedulingVectorEnv(
        config.scenario,
        num_envs=len(seeds),
        jobs=config.jobs,
        autoreset_mode="Disabled",
        max_candidates=128,
        max_jobs=128,
    )
    seen, infos = envs.reset(seed=seeds)
    policies = [load_policy(spec) for _ in seeds]
    for i, policy in enumerate(policies):
        policy.reset({"policy_seed": int(infos["policy_seed"][i]), "applications": infos["applications"][i]})
    jct_s, left = np.zeros(len(seeds)), np.ones(len(seeds), np.bool_)
    while left.any():
        actions = [policy.act({name: table[i] for name, table in seen.items()}) for i, policy in enumerate(policies)]
        seen, _, over, _, infos = envs.step(np.array(actions))
        for i in np.flatnonzero(over & left):
            jct_s[i] = infos["result"]["jct_s"][i].mean()
            left[i] = False
        if over.any():  # they play on for nothing until the last one ends: all are stepped together
            seen, _ = envs.reset(options={"reset_mask": over})
    envs.close()
    return jct_s


class Progress(BaseCallback):
    """Measures the policy against FCFS and Fair now and then, and writes weights, checkpoint and learning curve.

    Args:
        config: Settings.
        points: What was measured before a checkpoint.
        show: Called with the decisions taken and the CPU time spent until now.
    """

    def __init__(self, config: Config, points: list[Point], show: Callable[[int, float], None]) -> None:
        super().__init__()
        self._config = config
        self._points = points
        self._show = show
        self._references = {name: mean_jct_s(name, config) for name in ("fcfs", "fair")}
        self._begun = time.process_time() - (points[-1]["cpu_s"] if points else 0.0)
        self._every = max(config.steps // config.validations, 1)

    def _on_training_start(self) -> None:
        if not self._points:
            self.measure()

    def _on_step(self) -> bool:
        self._show(self.num_timesteps, time.process_time() - self._begun)
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._points[-1]["done"] + self._every:
            self.measure()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._points[-1]["done"]:
            self.measure()

    def measure(self) -> None:
        """Save, play the validation jobs, and note how far mean JCT is below that of FCFS and Fair."""
        output = self._config.output
        training_s = time.process_time() - self._begun
        extractor = self.model.policy.features_extractor
        assert isinstance(extractor, Scores)
        weights, network = output / WEIGHTS, extractor.network
        seeds = f"drawn from seed {self._config.seed}"
        done = {"steps": self.num_timesteps, "cpu_seconds": round(training_s)}
        card = training.provenance("agents/sb3_maskable_ppo.py", seeds, settings(self._config), done)
        save_weights(weights, "maskable_ppo", network.state_dict(), network.arguments, card, scales_to_json())
        jct_s = mean_jct_s(training.policy_spec(weights), self._config)
        below = {name: float(100 * (1 - jct_s.mean() / other.mean())) for name, other in self._references.items()}
        by_name = {self._config.scenario: below}
        self._points.append({"done": self.num_timesteps, "cpu_s": training_s, "below_pct": by_name})
        for name, percent in below.items():
            self.logger.record(f"validation/below_{name}_pct", percent)
        self.logger.dump(self.num_timesteps)  # now: the next rollout would show it where that ends
        print(
            f"{self.num_timesteps} decisions: below FCFS {below['fcfs']:.1f} %, Fair {below['fair']:.1f} %", flush=True
        )
        part = (output / CHECKPOINT).with_suffix(".part.zip")
        self.model.save(part)
        part.replace(output / CHECKPOINT)
        training.write_curve(output, "MaskablePPO", "decisions", settings(self._config), self._points)
        self._begun += time.process_time() - self._begun - training_s  # measuring is no training


def settings(config: Config) -> dict[str, Any]:
    """Return what must be the same when a run goes on."""
    return {name: value for name, value in asdict(config).items() if name != "output"}


def train(config: Config) -> None:
    """Train from scratch, or go on from the checkpoint in the output folder; say where the weights are.

    Raises:
        InputError: Settings do not fit together, or the folder holds a run with others.
    """
    training.check_scenarios({config.scenario: config.jobs})
    if config.n_steps * config.num_envs < 2:
        raise InputError("settings", "n_steps", config.n_steps, "2 decisions per update, with num_envs 1")
    points: list[Point] = []
    if (config.output / CURVE).exists():
        before = training.read_curve(config.output)
        training.check_settings(config.output / CURVE, before["settings"], settings(config))
        points = before["points"]
    finished = bool(points) and points[-1]["done"] >= config.steps
    if not finished:
        training.begin_run(config.output)
        learn(config, points)
    training.tell_finished(config.output / WEIGHTS, config.scenario, already=finished)


def learn(config: Config, points: list[Point]) -> None:
    """Take the decisions that are left.

    Args:
        config: Settings.
        points: What was measured before the checkpoint to go on from; nothing at the beginning.
    """
    done = points[-1]["done"] if points else 0
    envs = SchedulingVecEnv(
        config.scenario,
        num_envs=config.num_envs,
        jobs=config.jobs,
        max_candidates=config.window,
        max_jobs=config.window,
        reward_scale=config.reward_scale,
        may_wait=False,
    )
    model = MaskablePPO(
        CandidatePolicy,
        envs,
        learning_rate=lambda left: config.learning_rate * (0.1 + 0.9 * left),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy,
        policy_kwargs={
            "features_extractor_class": Scores,
            "features_extractor_kwargs": {"hidden": config.hidden},
            "net_arch": [],
            "ortho_init": False,
        },
        tensorboard_log=str(config.output),
        seed=config.seed * SEED_STRIDE + done,
        device="cpu",
    )
    if points:
        load_checkpoint(model, config.output / CHECKPOINT)
        model.num_timesteps = done
    with training.progress_bar("training", config.steps, done) as show:
        model.learn(config.steps - done, Progress(config, points, show), reset_num_timesteps=False)
    envs.close()


def load_checkpoint(model: MaskablePPO, path: Path) -> None:
    """Put the weights and the state of the optimiser back into a model.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        model.set_parameters(str(path))
    except (OSError, ValueError, RuntimeError, BadZipFile) as error:
        raise InputError(path, "", Plain("cannot be read"), "a checkpoint; or another folder (--output)") from error


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    return training.run_recipe(Config, __doc__, train)


if __name__ == "__main__":
    sys.exit(main())
