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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gymnasium as gym
import numpy as np

try:
    import torch
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import Tensor, nn
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; expected: pip install 'llmsched-gym[sb3]'")

from llmsched_gym.envs.normalise import scales_to_json
from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.policies.candidate_network import CandidateNetwork
from llmsched_gym.policies.learned import save_weights
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.training import CURVE, Point, check_settings, provenance, read_curve, run_recipe, write_curve

VALIDATION_SEED = 2**40
"""First seed of the jobs of the train split that progress is measured on. Training draws below 2**31, and begins with
seeds that count up from ten million times its own."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    scenario: str = "mixed"
    jobs: int = 100
    """Jobs per episode."""
    window: int = 32
    """Rows of candidates and of jobs that the network sees while training."""
    num_envs: int = 32
    steps: int = 500_000
    """Decisions in all."""
    n_steps: int = 128
    """Decisions per sub-environment between updates."""
    batch_size: int = 1024
    epochs: int = 6
    learning_rate: float = 3e-3
    """At the beginning; falls linearly to a tenth."""
    gamma: float = 0.995
    """Discount per decision."""
    gae_lambda: float = 0.98
    entropy: float = 0.005
    reward_scale: float = 5.0
    hidden: int = 64
    """Width of the network's layers."""
    seed: int = 0
    validations: int = 5
    """How often progress is measured, and a checkpoint written."""
    validation_seeds: int = 6
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
    """

    def __init__(self, config: Config, points: list[Point]) -> None:
        super().__init__()
        self._config = config
        self._points = points
        self._references = {name: mean_jct_s(name, config) for name in ("fcfs", "fair")}
        self._begun = time.process_time() - (points[-1]["cpu_s"] if points else 0.0)
        self._every = max(config.steps // config.validations, 1)

    def _on_training_start(self) -> None:
        if not self._points:
            self.measure()

    def _on_step(self) -> bool:
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
        weights, network = output / "maskable_ppo.safetensors", extractor.network
        seeds = f"drawn from seed {self._config.seed}"
        done = {"steps": self.num_timesteps, "cpu_seconds": round(training_s)}
        card = provenance("agents/sb3_maskable_ppo.py", seeds, settings(self._config), done)
        save_weights(weights, "maskable_ppo", network.state_dict(), network.arguments, card, scales_to_json())
        jct_s = mean_jct_s(f"maskable_ppo?weights={quote(str(weights))}", self._config)
        below = {name: float(100 * (1 - jct_s.mean() / other.mean())) for name, other in self._references.items()}
        by_name = {self._config.scenario: below}
        self._points.append({"done": self.num_timesteps, "cpu_s": training_s, "below_pct": by_name})
        for name, percent in below.items():
            self.logger.record(f"validation/below_{name}_pct", percent)
        self.logger.dump(self.num_timesteps)  # now: the next rollout would show it where that ends
        print(
            f"{self.num_timesteps} decisions: below FCFS {below['fcfs']:.1f} %, Fair {below['fair']:.1f} %", flush=True
        )
        self.model.save(output / "checkpoint.part.zip")
        (output / "checkpoint.part.zip").replace(output / "checkpoint.zip")
        write_curve(output, "MaskablePPO", "decisions", settings(self._config), self._points)
        self._begun += time.process_time() - self._begun - training_s  # measuring is no training


def settings(config: Config) -> dict[str, Any]:
    """Return what must be the same when a run goes on."""
    return {name: value for name, value in asdict(config).items() if name != "output"}


def train(config: Config) -> None:
    """Train from scratch, or go on from the checkpoint in the output folder.

    Raises:
        InputError: The folder holds a run with other settings.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    points: list[Point] = []
    if (config.output / CURVE).exists():
        before = read_curve(config.output)
        check_settings(config.output / CURVE, before["settings"], settings(config))
        points = before["points"]
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
        seed=config.seed * 10_000_000 + done,
        device="cpu",
    )
    if points:
        model.set_parameters(str(config.output / "checkpoint.zip"))
        model.num_timesteps = done
    model.learn(max(config.steps - done, 0), Progress(config, points), reset_num_timesteps=False, progress_bar=True)
    envs.close()


def main() -> int:
    """Train; return the exit code."""
    torch.set_num_threads(1)
    return run_recipe(Config, __doc__, train)


if __name__ == "__main__":
    sys.exit(main())
