"""A copied or unpickled environment goes on exactly as the original would."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmsched_gym.envs.scheduling_env import SchedulingEnv

DECISIONS_BEFORE = 15


def finish(env: SchedulingEnv, mask: np.ndarray[Any, Any]) -> tuple[list[float], dict[str, Any]]:
    """Play on, always the first legal action; return rewards and result."""
    rewards, done, info = [], False, {}
    while not done:
        observation, reward, done, _, info = env.step(int(mask.argmax()))
        rewards.append(reward)
        mask = observation["action_mask"]
    return rewards, info["result"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_as_the_original(duplicate: Callable[[SchedulingEnv], SchedulingEnv]) -> None:
    env = SchedulingEnv("chain", jobs=6)
    observation, _ = env.reset(seed=0)
    for _ in range(DECISIONS_BEFORE):
        observation = env.step(int(observation["action_mask"].argmax()))[0]
    twin = duplicate(env)
    mask = observation["action_mask"]
    rewards, result = finish(twin, mask)
    own_rewards, own_result = finish(env, mask)
    assert rewards == own_rewards
    assert len(rewards) > 1
    assert result["digest"] == own_result["digest"]
    assert result["belief_updates"] == own_result["belief_updates"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_pickled_environment_is_small(begun: bool) -> None:
    """The profiler's table of evidence, 36 MB that no result depends on, is not pickled."""
    env = SchedulingEnv("mixed", jobs=100, load=0.9)
    if begun:
        env.reset(seed=0)
    assert len(pickle.dumps(env)) < 4 << 20
