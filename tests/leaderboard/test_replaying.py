"""Actions carried out again give the very episode, whoever chose them, legal or not."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.evaluation.episode import make_env, run_episode
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.leaderboard.packing import unpack
from llmsched_gym.leaderboard.recording import Recorder, record_episode
from llmsched_gym.leaderboard.replaying import Shape, replay
from llmsched_gym.policies.registry import load_policy


@pytest.mark.parametrize(
    ("scenario", "jobs", "policy"),
    [
        ("mixed_heavy", 25, "llmsched"),
        ("memory_bound", 15, "random"),
        ("probe", 20, "las"),
        ("hetero8", 6, "srtf+mct"),
        ("real_dag", 4, "fcfs+sticky"),
        ("prefix_reuse", 8, "srtf+prefix_aware"),
    ],
)
def test_a_replay_is_the_episode(scenario: str, jobs: int, policy: str) -> None:
    setting = Setting.make(scenario, jobs)
    said = record_episode(setting, policy, 5)
    workload = setting.workload(5)
    shape = Shape.of(workload, setting.scenario.cluster, load_policy(policy).placement)
    found = replay(workload, setting.scenario.cluster, unpack(said["actions"], shape.actions), shape)
    assert found.over
    assert found.decisions == said["decisions"]
    assert found.digest == said["digest"]
    assert list(found.checkpoints) == said["checkpoints"]
    assert len(found.checkpoints) == (said["decisions"] - 1) // 256
    assert found.metrics == said["metrics"]
    usual = run_episode(setting, policy, 5)["metrics"]
    assert usual["episode_digest"] == said["digest"]
    assert {name: usual[name] for name in said["metrics"]} == said["metrics"]


@pytest.mark.parametrize("scenario", ["mixed_burst", "hetero8"])
def test_illegal_actions_are_replayed_too(scenario: str) -> None:
    setting = Setting.make(scenario, 5)
    policy = load_policy("fcfs" if scenario == "mixed_burst" else "fcfs+mct")
    env = make_env(setting, policy, 1)
    recorder, rng = Recorder(env), np.random.default_rng(0)
    recorder.reset(seed=1)
    over = False
    info = {}
    while not over:
        _, _, over, _, info = recorder.step(int(rng.integers(-2, env.shapes.actions + 3)))
    assert info["illegal_actions"] > 0
    workload = setting.workload(1)
    shape = Shape.of(workload, setting.scenario.cluster, policy.placement)
    assert shape.actions == env.shapes.actions
    found = replay(workload, setting.scenario.cluster, np.array(recorder.actions), shape)
    assert (found.digest, list(found.checkpoints)) == (info["result"]["digest"], recorder.checkpoints)
    assert found.metrics["illegal_actions"] == info["illegal_actions"]


def test_too_few_and_too_many_actions() -> None:
    setting = Setting.make("mixed_burst", 4)
    workload, cluster = setting.workload(1), setting.scenario.cluster
    said = record_episode(setting, "fcfs", 1)
    shape = Shape.of(workload, cluster, "least_loaded")
    actions = unpack(said["actions"], shape.actions)
    few = replay(workload, cluster, actions[:-1], shape)
    assert (few.over, few.decisions, few.digest, few.metrics) == (False, len(actions) - 1, "", {})
    many = replay(workload, cluster, np.append(actions, [0, 0, 0]), shape)
    assert (many.over, many.decisions, many.digest) == (True, len(actions), said["digest"])
