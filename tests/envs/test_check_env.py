"""Every registered environment is what Gymnasium and Stable-Baselines3 expect of one, without a warning."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics

import llmsched_gym
from llmsched_gym.registration import ENVIRONMENTS
from llmsched_gym.scenario import load_scenario

VARIANTS: list[dict[str, Any]] = [
    {},
    {"observation": "graph"},
    {"privileged": True},
    {"placement": "agent"},
    {"observation": "graph", "privileged": True, "placement": "agent"},
]

EXPECTED_WARNINGS = (
    # Counts, seconds and tokens have no largest value that would mean anything.
    r".*A Box observation space (minimum|maximum) value is (-)?infinity.*",
    # Stable-Baselines3 would rather have vectors; its MultiInput policies flatten tables themselves.
    # It takes a table with three axes for an image that it does not like.
    r"It seems that your observation (space )?(placements|models) is an image",
    r"The minimal resolution for an image is 36x36",
    r"Treating image space as channels-",
    r".*has an unconventional shape \(neither an image, nor a 1D vector\).*",
)


def sizes(name: str) -> dict[str, Any]:
    """Few jobs for scenarios whose workloads are drawn, so that episodes are short."""
    return {} if load_scenario(ENVIRONMENTS[name]).fixed else {"jobs": 4}


@pytest.fixture(autouse=True)
def strict() -> Any:
    """Turn every warning that is not listed into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())) or "default")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_gymnasium_accepts(name: str, variant: dict[str, Any]) -> None:
    env = gym.make(name, **sizes(name), **variant)
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())) or "default")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_stable_baselines_accepts(name: str, variant: dict[str, Any]) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gym.make(name, **sizes(name), **variant).unwrapped)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_vector_environments_go_on_after_an_episode(name: str, mode: Any, autoreset: AutoresetMode) -> None:
    options = {"autoreset_mode": autoreset}
    envs: Any = gym.make_vec(name, num_envs=2, vectorization_mode=mode, vector_kwargs=options, **sizes(name))
    try:
        observation, _ = envs.reset(seed=[1, 2])
        finished = np.zeros(2, np.int64)
        over = np.zeros(2, np.bool_)
        for _ in range(1000):
            action = observation["action_mask"].argmax(axis=1)
            observation, reward, terminated, truncated, info = envs.step(action)
            assert envs.observation_space.contains(observation)
            assert reward.shape == (2,)
            assert not truncated.any()
            if autoreset == AutoresetMode.NEXT_STEP:
                assert (reward[over] == 0.0).all()  # the step after an end only resets
                over = terminated.copy()
                if terminated.any():
                    assert "result" in info
            elif terminated.any():
                assert "result" in info["final_info"]
                assert (observation["system"][terminated, 0] < 1e3).all()  # a new episode has begun
            finished += terminated
            if (finished >= 2).all():
                break
        assert (finished >= 2).all()
    finally:
        envs.close()


def test_vector_and_single_environments_agree() -> None:
    single = gym.make("LLMSched/Mixed-v0", jobs=3)
    envs = gym.make_vec("LLMSched/Mixed-v0", num_envs=2, vectorization_mode="sync", jobs=3)
    assert isinstance(envs, SyncVectorEnv)
    observation, _ = single.reset(seed=5)
    both, _ = envs.reset(seed=[4, 5])
    for _ in range(20):
        for name in observation:
            assert np.array_equal(both[name][1], observation[name])
        actions = both["action_mask"].argmax(axis=1)
        observation, reward, _, _, _ = single.step(actions[1])
        both, rewards, _, _, _ = envs.step(actions)
        assert rewards[1] == reward


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_statistics_are_recorded(name: str) -> None:
    env = RecordEpisodeStatistics(gym.make(name, **sizes(name)))
    observation, _ = env.reset(seed=3)
    terminated, info, rewards = False, {}, []
    while not terminated:
        observation, reward, terminated, _, info = env.step(int(observation["action_mask"].argmax()))
        rewards.append(float(reward))
    assert info["episode"]["l"] == len(rewards)
    assert info["episode"]["r"] == pytest.approx(sum(rewards))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_spec_survives_json(name: str) -> None:
    env = gym.make(name, observation="graph", **sizes(name))
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    first, _ = env.reset(seed=2)
    second, _ = again.reset(seed=2)
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_importing_again_registers_nothing_twice() -> None:
    before = dict(gym.registry)
    llmsched_gym.register_environments()
    assert gym.registry == before
