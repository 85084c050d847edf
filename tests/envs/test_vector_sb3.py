"""The Stable-Baselines3 adapter: what SB3 and sb3-contrib ask of it, and the candidate network's recipe on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecMonitor

from llmsched_gym.envs.normalise import normalise
from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.errors import InputError

SMALL: dict[str, Any] = {"jobs": 3, "max_candidates": 8, "max_jobs": 8, "profiler": False}


def test_steps_are_those_of_the_vector_environment_normalised() -> None:
    ours = SchedulingVecEnv("mixed", num_envs=3, reward_scale=2.0, **SMALL)
    plain = SchedulingVectorEnv("mixed", num_envs=3, autoreset_mode="SameStep", **SMALL)
    ours.seed(5)
    seen: Any = ours.reset()
    expected, _ = plain.reset(seed=5)
    returns, finished = np.zeros(3), 0
    while finished < 4:
        for name, table in normalise(expected).items():
            np.testing.assert_array_equal(seen[name], table)
        masks = get_action_masks(ours)
        assert np.array_equal(masks, expected["action_mask"])
        actions = masks.argmax(axis=1)
        seen, rewards, dones, infos = ours.step(actions)
        expected, plain_rewards, over, _, more = plain.step(actions)
        np.testing.assert_allclose(rewards, 2.0 * plain_rewards, rtol=1e-6)
        returns += plain_rewards
        assert np.array_equal(dones, over)
        for i in np.flatnonzero(dones):
            finished += 1
            assert infos[i]["episode"]["r"] == pytest.approx(returns[i])
            assert -returns[i] == pytest.approx(infos[i]["result"]["jct_s"].mean())
            last = normalise(more["final_obs"][i])
            assert np.array_equal(infos[i]["terminal_observation"]["jobs"], last["jobs"])
            returns[i] = 0.0
        assert all(not infos[i] for i in np.flatnonzero(~dones))


def test_what_a_rollout_keeps_does_not_change_later() -> None:
    for scales in ({}, {"scales": None}):
        envs = SchedulingVecEnv("mixed", num_envs=2, **scales, **SMALL)
        seen = envs.reset()
        kept = {name: table.copy() for name, table in seen.items()}
        envs.step(get_action_masks(envs).argmax(axis=1))
        assert all(np.array_equal(seen[name], kept[name]) for name in kept)


def test_waiting_can_be_left_to_when_nothing_can_start() -> None:
    envs = SchedulingVecEnv("mixed", num_envs=2, may_wait=False, **SMALL)
    envs.seed(0)
    envs.reset()
    waited = 0
    for _ in range(200):
        masks = get_action_masks(envs)
        assert masks.any(axis=1).all()
        waits = masks[:, -1]
        assert not (waits & masks[:, :-1].any(axis=1)).any()
        waited += waits.sum()
        envs.step(masks.argmax(axis=1))
    assert waited == 0  # a decision is due only when something can start


def test_sb3_finds_its_way() -> None:
    envs = SchedulingVecEnv("mixed", num_envs=3, **SMALL)
    assert is_masking_supported(envs)
    assert len(envs.env_method("action_masks", indices=[2])) == 1
    assert envs.get_attr("num_envs", 0) == [3]
    assert envs.env_is_wrapped(object) == [False] * 3  # pyright: ignore[reportArgumentType] - any class
    with pytest.raises(AttributeError):
        envs.set_attr("num_envs", 4)
    with pytest.raises(AttributeError):
        envs.get_attr("nothing")
    seen: Any = VecMonitor(envs).reset()
    assert seen["candidates"].shape == (3, 8, 18)
    with pytest.raises(InputError, match="autoreset_mode"):
        SchedulingVecEnv("mixed", autoreset_mode="Disabled")


def test_maskable_ppo_learns_on_it_as_it_is(tmp_path: Path) -> None:
    envs = SchedulingVecEnv("mixed", num_envs=2, **SMALL)
    model = MaskablePPO("MultiInputPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")
    model.learn(32)
    assert model.num_timesteps == 32
