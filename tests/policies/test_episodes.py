"""Every policy on real episodes: legal, work-conserving, repeatable, and in the right order where that is known."""

from __future__ import annotations

from typing import Any

import pytest

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.registry import load_policy, policy_names
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads import toy


def play(name: str, env: SchedulingEnv, seed: int = 0) -> tuple[dict[str, Any], int]:
    """Return the result of an episode and how often the policy chose to wait."""
    policy = load_policy(name)
    obs, info = env.reset(seed=seed)
    policy.reset(info)
    done, waits = False, 0
    while not done:
        action = policy.act(obs)
        waits += action == len(obs["action_mask"]) - 1
        obs, _, done, _, info = env.step(action)
    return info["result"], waits


def environment(name: str, scenario: str = "mixed", **arguments: Any) -> SchedulingEnv:
    policy = load_policy(name)
    return SchedulingEnv(scenario, observation=policy.observation, privileged=policy.privileged, **arguments)


def whole_window(name: str, scenario: str, load: float, jobs: int = 40) -> SchedulingEnv:
    workload = load_scenario(scenario).replaced(jobs=jobs, load=load).build("train", 1)
    return environment(name, scenario, workload=workload, max_candidates=None, max_jobs=None)


@pytest.mark.parametrize("name", policy_names())
def test_an_episode_is_legal_work_conserving_and_repeatable(name: str) -> None:
    env = whole_window(name, "mixed", 1.2)
    result, waits = play(name, env)
    assert result["illegal_actions"] == 0
    assert result["hidden_candidates"] == 0
    assert waits == 0  # a decision is due only where something can be dispatched
    assert play(name, env)[0]["digest"] == result["digest"]


@pytest.mark.parametrize("name", policy_names())
def test_windows_too_small_for_the_cluster_are_survived(name: str) -> None:
    result, _ = play(name, environment(name, jobs=40, load=3.0, max_candidates=6, max_jobs=4))
    assert result["illegal_actions"] == 0
    assert result["hidden_candidates"] > 0


def test_knowing_sizes_pays_on_the_toy_workload() -> None:
    achieved = {name: play(name, environment(name, "toy"))[0]["jct_s"].mean() for name in policy_names()}
    assert achieved["fcfs"] == pytest.approx(9.8)
    for name in ("sjf", "srtf", "oracle_srtf"):
        assert achieved[name] == pytest.approx(toy.TOY_OPTIMAL_MEAN_JCT_S)
    assert min(achieved.values()) >= toy.TOY_OPTIMAL_MEAN_JCT_S - 1e-9


def test_means_mislead_on_the_two_jobs_and_truth_does_not() -> None:
    assert play("sjf", environment("sjf", "two_jobs"))[0]["jct_s"].mean() == pytest.approx(toy.TWO_JOBS_SJF_MEAN_JCT_S)
    oracle = play("oracle_srtf", environment("oracle_srtf", "two_jobs"))[0]["jct_s"].mean()
    assert oracle == pytest.approx(toy.TWO_JOBS_INFORMED_MEAN_JCT_S)


def test_the_expected_order_under_overload() -> None:
    achieved = {
        name: play(name, whole_window(name, "mixed", 1.5, jobs=150))[0]["jct_s"].mean()
        for name in ("fcfs", "srtf", "critical_path", "carbyne", "oracle_srtf")
    }
    assert achieved["oracle_srtf"] < achieved["srtf"] < achieved["fcfs"] < achieved["critical_path"]
    assert achieved["carbyne"] < achieved["fcfs"]
