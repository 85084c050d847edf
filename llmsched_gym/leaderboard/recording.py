"""An episode of a policy with all that a submission says of it: actions, checkpoints, metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.tables import Observation
from llmsched_gym.evaluation.episode import find_policy, make_env, play, warm_up
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.leaderboard.limits import CHECKPOINT
from llmsched_gym.leaderboard.packing import pack
from llmsched_gym.leaderboard.replaying import checkpoint, schedule_metrics


class Recorder:
    """An environment that writes down what it is told.

    Args:
        env: The environment.

    Attributes:
        actions: What it was given since the last reset.
        checkpoints: After every 256 decisions, while the episode was not over.
    """

    def __init__(self, env: SchedulingEnv) -> None:
        self._env = env
        self.actions: list[int] = []
        self.checkpoints: list[str] = []

    def reset(self, *, seed: int) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        self.actions, self.checkpoints = [], []
        return self._env.reset(seed=seed)

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out a decision."""
        self.actions.append(action)
        observation, reward, terminated, truncated, info = self._env.step(action)
        if not terminated and len(self.actions) % CHECKPOINT == 0:
            self.checkpoints.append(checkpoint(self._env.episode.state))
        return observation, reward, terminated, truncated, info


def record_episode(setting: Setting, spec: str, seed: int) -> dict[str, Any]:
    """Run one policy on the jobs of one seed.

    Args:
        setting: Jobs, cluster and load.
        spec: Policy.
        seed: Seed of the jobs.

    Returns:
        JSON-able: the fields of an `Episode` but ``scenario`` and ``run``.

    Raises:
        RunError: The policy raised an exception.
    """
    warm_up(spec)
    policy = find_policy(spec)
    env = make_env(setting, policy, seed)
    recorder = Recorder(env)
    workload = setting.workload(seed)
    result, latencies_ns = play(recorder, policy, spec, seed)
    mean_us, (p50_us, p99_us) = latencies_ns.mean() * 1e-3, np.percentile(latencies_ns, [50, 99]) * 1e-3
    # A number that is no action may be of any size; -1 is as good as any.
    actions = [action if 0 <= action < env.shapes.actions else -1 for action in recorder.actions]
    return {
        "seed": seed,
        "workload": workload.digest,
        "decisions": len(actions),
        "actions": pack(np.array(actions, np.int64), env.shapes.actions),
        "checkpoints": recorder.checkpoints,
        "digest": str(result["digest"]),
        "metrics": schedule_metrics(result, workload),
        "decision_us": {"mean": float(mean_us), "p50": float(p50_us), "p99": float(p99_us)},
    }
