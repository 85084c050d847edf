"""LLMSched and its relatives: groups, coins, sampled tasks, the Gittins index, and the worked example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.llmsched import overlap_groups
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.profiler.fit import fit_profile, profiling_jobs
from llmsched_gym.profiler.store import save_profile
from llmsched_gym.workloads import toy

Observe = Callable[..., dict[str, NDArray[Any]]]


def job(mean: float, low: float, high: float) -> dict[str, float]:
    return {"posterior_s": mean, "posterior_low_s": low, "posterior_high_s": high}


def stage(of: int, reduction: float, waiting: int = 1, running: int = 0) -> dict[str, float]:
    return {"job": of, "reduction_sum": reduction, "tasks_waiting": waiting, "tasks_running": running}


def act(obs: dict[str, NDArray[Any]], **parameters: Any) -> int:
    policy = load_policy("llmsched", **{"interval": 0.9, **parameters})
    policy.reset({"policy_seed": 0})
    return policy.act(obs)


def test_groups_are_connected_overlaps_ordered_by_their_lower_ends() -> None:
    low = np.array([8.0, 0.0, 2.0, 9.0, 4.0])
    high = np.array([9.5, 3.0, 5.0, 10.0, 6.0])
    assert overlap_groups(low, high).tolist() == [1, 0, 0, 1, 0]


def test_exploring_takes_the_largest_reduction_of_the_first_group(observe: Observe) -> None:
    jobs = [job(3, 1, 5), job(4, 2, 6), job(20, 18, 22)]
    obs = observe([stage(0, 1.0), stage(1, 5.0), stage(2, 99.0)], jobs)
    assert act(obs, epsilon=1.0) == 1
    assert act(obs, epsilon=0.0) == 0
    assert act(obs, epsilon=1.0, interval=0.0) == 0  # no overlaps: a group each


def test_a_rate_is_per_second_of_the_stages_own_work(observe: Observe) -> None:
    jobs = [job(3, 1, 5), job(4, 2, 6)]
    obs = observe([stage(0, 6.0) | {"work_s": 10.0}, stage(1, 5.0) | {"work_s": 1.0}], jobs)
    assert act(obs, epsilon=1.0) == 0
    assert act(obs, epsilon=1.0, score="rate") == 1


def test_exploring_starts_only_a_share_of_the_tasks(observe: Observe) -> None:
    jobs = [job(3, 1, 5), job(4, 2, 6)]
    sampled = [stage(0, 1.0), stage(1, 5.0, waiting=7, running=3)]
    assert act(observe(sampled, jobs), epsilon=1.0, sampling_ratio=0.3) == 0
    assert act(observe(sampled, jobs), epsilon=1.0, sampling_ratio=0.31) == 1
    only = [stage(0, 1.0, waiting=7, running=3), stage(1, 5.0, waiting=7, running=3)]
    assert act(observe(only, jobs), epsilon=1.0, sampling_ratio=0.3) == 0  # nothing left to explore: exploit
    assert act(observe([stage(0, 1.0), stage(1, 5.0)], jobs), epsilon=1.0, sampling_ratio=0.0) == 1


def test_nothing_to_learn_leaves_the_shortest_of_the_group(observe: Observe) -> None:
    obs = observe([stage(0, 0.0), stage(1, 0.0)], [job(4, 1, 6), job(3, 2, 5)])
    assert act(obs, epsilon=1.0) == 1


def test_one_coin_per_decision(observe: Observe) -> None:
    obs = observe([stage(0, 1.0), stage(1, 5.0)], [job(3, 1, 5), job(4, 2, 6)])
    policy = load_policy("llmsched?epsilon=0.25&interval=0.9")
    policy.reset({"policy_seed": 3})
    explored = np.mean([policy.act(obs) == 1 for _ in range(2000)])
    assert explored == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "parameters", [{"epsilon": 1.5}, {"sampling_ratio": -0.1}, {"interval": 0.95}, {"score": "max"}]
)
def test_bad_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(parameters))):
        load_policy("llmsched", **parameters)


@pytest.fixture(scope="module")
def toy_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles of the two applications of the worked example, on the engine of a second per token."""
    folder = tmp_path_factory.mktemp("profiles")
    for name in toy.TOY_APPLICATIONS:
        jobs = profiling_jobs(name, 500, applications=toy.TOY_APPLICATIONS)
        save_profile(fit_profile(name, [jobs], latency="one-second-per-token"), folder / f"{name}.json")
    return folder


@pytest.mark.parametrize(
    ("policy", "mean_jct_s"),
    [
        ("sjf", toy.TWO_JOBS_SJF_MEAN_JCT_S),
        ("llmsched_no_uncertainty", toy.TWO_JOBS_SJF_MEAN_JCT_S),
        ("llmsched?epsilon=0", toy.TWO_JOBS_SJF_MEAN_JCT_S),
        ("llmsched?epsilon=1", toy.TWO_JOBS_INFORMED_MEAN_JCT_S),
    ],
)
def test_looking_first_pays_on_the_two_jobs(policy: str, mean_jct_s: float, toy_profiles: Path) -> None:
    env = SchedulingEnv("two_jobs", profiler=toy_profiles)
    scheduler = load_policy(policy)
    obs, info = env.reset(seed=0)
    scheduler.reset(info)
    done = False
    while not done:
        obs, _, done, _, info = env.step(scheduler.act(obs))
    assert info["result"]["jct_s"].mean() == pytest.approx(mean_jct_s)
    assert info["result"]["unseen_evidence"] == info["result"]["unprofiled_jobs"] == 0
