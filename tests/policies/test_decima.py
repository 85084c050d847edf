"""Decima in episodes: legal, repeatable, the same with and without what it keeps, and better for its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies import decima_actor
from llmsched_gym.policies.decima import Decima, Pending
from llmsched_gym.policies.decima_actor import EmbeddedGraphs
from llmsched_gym.policies.decima_network import DecimaNetwork
from llmsched_gym.policies.learned import load_weights
from llmsched_gym.policies.registry import load_policy


def play(policy: Any, **arguments: Any) -> dict[str, Any]:
    env = SchedulingEnv(observation=policy.observation, profiler=False, **arguments)
    obs, info = env.reset(seed=7)
    policy.reset(info)
    done, waits = False, 0
    while not done:
        action = policy.act(obs)
        waits += action == len(obs["action_mask"]) - 1
        obs, _, done, _, info = env.step(action)
    return info["result"] | {"waits": waits}


@pytest.mark.parametrize("scenario", ["mixed", "planning"])
def test_an_episode_is_legal_work_conserving_and_repeatable(scenario: str) -> None:
    policy = load_policy("decima")
    result = play(policy, scenario=scenario, jobs=30, load=1.5)
    assert (result["illegal_actions"], result["waits"], result["hidden_candidates"]) == (0, 0, 0)
    assert play(policy, scenario=scenario, jobs=30, load=1.5)["digest"] == result["digest"]


def test_kept_embeddings_equal_fresh_ones() -> None:
    network = DecimaNetwork()
    load_weights(network, Decima().sources[0])
    env = SchedulingEnv("mixed", observation="graph", jobs=25, load=2.0, profiler=False)
    obs, _ = env.reset(seed=7)
    kept, done, steps = EmbeddedGraphs(network), False, 0
    while not done:
        seen = kept.add(obs)
        kept.update()
        if steps % 40 == 0:
            fresh = EmbeddedGraphs(network)
            anew = fresh.add(obs)
            fresh.update()
            for part in ("features", "nodes"):
                old, new = getattr(kept.embedding, part), getattr(fresh.embedding, part)
                torch.testing.assert_close(old[seen.nodes], new[anew.nodes], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(kept.embedding.jobs[seen.graphs], fresh.embedding.jobs[anew.graphs])
        obs, _, done, _, _ = env.step(int(obs["action_mask"].argmax()))
        steps += 1
    assert len(kept.store) < steps * 3  # one or two states of jobs are new at each decision


def test_an_actor_that_forgets_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decima_actor, "_MOST_NODES", 100)
    assert play(load_policy("decima"), scenario="mixed", jobs=25, load=2.0)["illegal_actions"] == 0


def test_windows_too_small_for_the_cluster_are_survived() -> None:
    result = play(load_policy("decima"), scenario="mixed", jobs=40, load=3.0, max_candidates=6, max_jobs=4)
    assert result["illegal_actions"] == 0
    assert result["hidden_candidates"] > 0


@pytest.mark.parametrize("scenario", ["predefined", "chain"])
def test_training_has_taught_it_something(scenario: str) -> None:
    policies = ("decima", "decima?weights=untrained", "fcfs")
    trained, untrained, fcfs = (
        play(load_policy(name), scenario=scenario, jobs=60, load=1.2)["jct_s"].mean() for name in policies
    )
    assert trained < 0.95 * min(untrained, fcfs)


def test_limits_are_kept_until_they_are_reached_or_something_happens() -> None:
    env = SchedulingEnv("predefined", observation="graph", jobs=20, load=3.0, profiler=False)
    obs, _ = env.reset(seed=0)
    while not (obs["candidates"][:, 4].max() >= 3 and obs["candidates"][obs["candidates"][:, 4].argmax(), 13] >= 3):
        obs, *_ = env.step(int(obs["action_mask"].argmax()))
    row = int(obs["candidates"][:, 4].argmax())
    pending = Pending()
    assert pending.next(obs) == -1
    pending.begin(obs, row, 2)
    obs, *_ = env.step(row)
    assert pending.next(obs) == row
    obs, *_ = env.step(row)
    assert pending.next(obs) == -1  # the limit is reached
    pending.begin(obs, row, 3)
    moved = obs | {"system": obs["system"] + 1.0}
    assert pending.next(moved) == -1  # time has passed


def test_weights_can_be_a_file(tmp_path: Path) -> None:
    shipped = Decima().sources[0]
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(shipped.read_bytes())
    copy.with_suffix(".json").write_bytes(shipped.with_suffix(".json").read_bytes())
    arguments = {"scenario": "chain", "jobs": 20, "load": 2.0}
    assert play(Decima(str(copy)), **arguments)["digest"] == play(Decima(), **arguments)["digest"]
