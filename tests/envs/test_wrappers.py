"""Which of Gymnasium's wrappers fit: the table of docs/training.md is what is tried here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

import llmsched_gym  # noqa: F401

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"

FIT: dict[str, Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = {
    "Autoreset": wrappers.Autoreset,
    "ClipReward": lambda env: wrappers.ClipReward(env, -1.0, 0.0),
    "FilterObservation": lambda env: wrappers.FilterObservation(env, ["candidates", "action_mask"]),
    "FlattenObservation": wrappers.FlattenObservation,
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 4),
    "NormalizeReward": wrappers.NormalizeReward,
    "OrderEnforcing": wrappers.OrderEnforcing,
    "PassiveEnvChecker": wrappers.PassiveEnvChecker,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "TransformAction": lambda env: wrappers.TransformAction(env, lambda action: action, env.action_space),
    "TransformObservation": lambda env: wrappers.TransformObservation(env, lambda seen: seen, env.observation_space),
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: float(reward) / 10.0),
}

REFUSED: dict[str, Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = {
    "ClipAction": wrappers.ClipAction,
    "DtypeObservation": lambda env: wrappers.DtypeObservation(env, np.float64),
    "NormalizeObservation": wrappers.NormalizeObservation,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, np.float64(-1), np.float64(1)),
    "RescaleObservation": lambda env: wrappers.RescaleObservation(env, np.float32(0), np.float32(1)),
    "ReshapeObservation": lambda env: wrappers.ReshapeObservation(env, (3,)),
}

MISLEADING: dict[str, Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = {
    "DelayObservation": lambda env: wrappers.DelayObservation(env, 2),
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.5),
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 10),
}


def make() -> gym.Env[Any, Any]:
    """A small environment as users make it."""
    return gym.make("LLMSched/Mixed-v0", jobs=4)


def play(env: gym.Env[Any, Any]) -> tuple[dict[str, Any], bool]:
    """Play legal actions by the mask of ``info``; return the last info, and whether the episode was cut off."""
    _, info = env.reset(seed=0)
    over = truncated = False
    while not (over or truncated):
        _, _, over, truncated, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
    return info, bool(truncated)


@pytest.mark.parametrize("name", FIT)
def test_it_fits(name: str) -> None:
    plain, _ = play(make())
    env = FIT[name](make())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info, truncated = play(env)
    assert not truncated
    assert info["result"]["illegal_actions"] == 0
    assert info["result"]["digest"] == plain["result"]["digest"]
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("name", REFUSED)
def test_gymnasium_refuses_it(name: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        REFUSED[name](make())


def test_what_misleads_does() -> None:
    _, truncated = play(MISLEADING["TimeLimit"](make()))
    assert truncated, "an episode that is cut off has no result"
    info, _ = play(MISLEADING["StickyAction"](make()))
    assert info["result"]["illegal_actions"] > 0, "what was legal is done again when it is not"
    env = MISLEADING["DelayObservation"](make())
    _, info = env.reset(seed=0)
    delayed, _, _, _, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
    assert not np.array_equal(delayed["action_mask"], info["action_mask"]), "the mask that is seen is an old one"


def test_the_page_lists_what_is_tried_here() -> None:
    rows = re.findall(r"^\| (fits|is refused|misleads) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {kind: {*re.findall(r"`(\w+)`", names)} for kind, names in rows}
    assert listed == {"fits": {*FIT}, "is refused": {*REFUSED}, "misleads": {*MISLEADING}}
