"""Clusters whose executors serve several models: one environment, many, and copies of one all go the same way."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from random_workloads import Case, random_model_cluster, with_models
from sameness import assert_same

from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv

SEEDS = range(10)


def arguments(seed: int) -> dict[str, Any]:
    """Arguments of an environment: a random workload on a random cluster; profilers and graphs for some."""
    case = Case(seed, n_apps=2, n_jobs=3, n_stages=4, spread_ns=10**10, short_of_kv=False)
    draft, _, rng = case.draw()
    return {
        "scenario": "toy",
        "workload": with_models(rng, draft.assemble()),
        "cluster": random_model_cluster(rng),
        "placement": "agent",
        "observation": ["table", "graph"][seed % 2],
        "privileged": seed % 3 == 0,
        "max_candidates": 6,
        "max_jobs": 4,
    }


def random_actions(masks: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Legal actions, waiting among them."""
    return (rng.random(masks.shape) * masks).argmax(axis=1)


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_many_equal_single_environments(seed: int, copies: bool) -> None:
    """Without copies two sets of arrays take turns, and what an earlier observation left in them must not show."""
    given = arguments(seed)
    native = SchedulingVectorEnv(num_envs=3, autoreset_mode=AutoresetMode.NEXT_STEP, copy=copies, **given)
    sync = SyncVectorEnv([lambda: SchedulingEnv(**given)] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    rng = np.random.default_rng(seed)
    ours, theirs = native.reset(seed=seed), sync.reset(seed=seed)
    assert_same(ours, theirs)
    assert {"placements", "models"} <= ours[0].keys()
    ended = placed = 0
    for _ in range(3000):
        actions = random_actions(ours[0]["action_mask"], rng)
        if rng.random() < 0.1:
            actions[rng.integers(3)] = rng.integers(ours[0]["action_mask"].shape[1])  # maybe illegal
        ours, theirs = native.step(actions), sync.step(actions)
        assert_same(ours, theirs)
        placed += int((ours[0]["placements"] != 0).sum())
        ended += int(ours[2].sum())
        if ended >= 5:
            break
    assert ended >= 5
    assert placed > 0
    native.close()


@pytest.mark.parametrize("copies", [True, False])
def test_executors_without_an_active_model_show_nothing_of_an_earlier_episode(copies: bool) -> None:
    """At the beginning no model is resident; the arrays were used for an episode that was broken off."""
    given = arguments(0)
    content = given["cluster"].model_dump()
    for group in content["executors"]:
        if "serves" in group:
            group["resident"] = []
    given["cluster"] = ClusterSpec.model_validate(content)
    envs = SchedulingVectorEnv(num_envs=2, copy=copies, **given)
    first = copy.deepcopy(envs.reset(seed=0)[0])
    for column in (Executor.KV_USED, Executor.DECODED_TOKENS):
        assert not first["executors"][:, :, column].any()
    rng = np.random.default_rng(0)
    for _ in range(8):
        seen = envs.reset(seed=0)[0]
        assert_same(seen, first)
        in_use = 0
        while in_use < 2:  # both sets of arrays have shown some
            seen = envs.step(random_actions(seen["action_mask"], rng))[0]
            in_use = in_use + 1 if seen["executors"][:, :, Executor.KV_USED].any() else 0
    envs.close()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_goes_on_as_the_original(seed: int, duplicate: Callable[[SchedulingEnv], SchedulingEnv]) -> None:
    env = SchedulingEnv(**arguments(seed))
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=0)
    for _ in range(int(rng.integers(3, 15))):
        observation, _, done, _, _ = env.step(int(random_actions(observation["action_mask"][None], rng)[0]))
        assert not done
    twin = duplicate(env)
    steps, done, result = 0, False, None
    seen = []
    while not done:
        action = int(random_actions(observation["action_mask"][None], rng)[0])
        observation, reward, done, _, info = env.step(action)
        seen.append((action, observation, reward, done, info))
        steps += 1
    for action, *expected in seen:  # the original has gone on: they share nothing
        observation, reward, done, _, info = twin.step(action)
        assert_same((observation, reward, done, info), tuple(expected))
        result = info.get("result")
    assert steps > 1
    assert result is not None


def test_shared_environments_of_a_shipped_scenario_agree() -> None:
    given: dict[str, Any] = {"scenario": "hetero4", "jobs": 3, "placement": "agent"}
    native = SchedulingVectorEnv(num_envs=2, copy=False, **given)
    sync = SyncVectorEnv([lambda: SchedulingEnv(**given)] * 2)
    rng = np.random.default_rng(0)
    ours, theirs = native.reset(seed=1), sync.reset(seed=1)
    assert_same(ours, theirs)
    for _ in range(150):
        actions = random_actions(ours[0]["action_mask"], rng)
        ours, theirs = native.step(actions), sync.step(actions)
        assert_same(ours, theirs)
