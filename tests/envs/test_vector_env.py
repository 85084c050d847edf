"""The native vector environment against Gymnasium's synchronous one over single environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.errors import InputError

MODES = tuple(AutoresetMode)


def pair(num_envs: int, mode: AutoresetMode, **settings: Any) -> tuple[SchedulingVectorEnv, SyncVectorEnv]:
    native = SchedulingVectorEnv(num_envs=num_envs, autoreset_mode=mode, threads=2, **settings)

    def make() -> Any:
        return SchedulingEnv(**settings)

    return native, SyncVectorEnv([make] * num_envs, autoreset_mode=mode)


def random_legal(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(masks.shape) * masks).argmax(axis=1)


@settings(max_examples=12, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    scenario=st.sampled_from(["mixed", "planning", "two_jobs"]),
    observation=st.sampled_from(["table", "graph"]),
    reward=st.sampled_from(["jct", "terminal_jct", "makespan"]),
    placement=st.sampled_from(["least_loaded", "agent"]),
    profiler=st.booleans(),
    privileged=st.booleans(),
    illegal=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_everything_equals_the_synchronous_environment(mode: Any, seed: int, illegal: bool, **given: Any) -> None:
    if given["scenario"] != "two_jobs":
        given |= {"jobs": 3, "load": 2.0}
    native, sync = pair(3, mode, max_candidates=8, max_jobs=4, **given)
    rng = np.random.default_rng(seed)
    ours, theirs = native.reset(seed=seed), sync.reset(seed=seed)
    assert_same(ours, theirs)
    ended = steps = 0
    while steps < 250 or ended == 0:
        steps += 1
        assert steps < 5000
        actions = random_legal(ours[0]["action_mask"], rng)
        if illegal:
            actions[rng.random(3) < 0.1] = rng.integers(0, ours[0]["action_mask"].shape[1])
        ours, theirs = native.step(actions), sync.step(actions)
        assert_same(ours, theirs)
        over = ours[2]
        ended += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            again = native.reset(options={"reset_mask": over}), sync.reset(options={"reset_mask": over})
            assert_same(*again)
            ours = (again[0][0], *ours[1:])
        assert np.array_equal(native.action_masks(), ours[0]["action_mask"])
    native.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_digests_equal_those_of_single_environments(threads: int) -> None:
    envs: Any = gym.make_vec("LLMSched/Mixed-v0", num_envs=6, jobs=20, threads=threads, split="eval")
    assert isinstance(envs, SchedulingVectorEnv)
    seen, infos = envs.reset(seed=list(range(6)))
    taken: list[list[int]] = [[] for _ in range(6)]
    digests: dict[int, str] = {}
    rng = np.random.default_rng(0)
    while len(digests) < 6:
        actions = random_legal(seen["action_mask"], rng)
        for i in set(range(6)) - digests.keys():
            taken[i].append(int(actions[i]))
        seen, _, terminations, _, infos = envs.step(actions)
        for i in np.flatnonzero(terminations):
            digests.setdefault(int(i), infos["result"]["digest"][i])
    env = gym.make("LLMSched/Mixed-v0", jobs=20, split="eval")
    for i in range(6):
        _, info = env.reset(seed=i)
        for action in taken[i]:
            *_, info = env.step(action)
        assert info["result"]["digest"] == digests[i]
    envs.close()


def test_episodes_of_sub_environments_differ_and_can_be_looked_at() -> None:
    envs = SchedulingVectorEnv("mixed", num_envs=3, jobs=5)
    envs.reset(seed=[4, 4, 5])
    digests = [workload.digest for workload in envs.workloads]
    assert digests[0] == digests[1] != digests[2]
    assert [episode.now_ns for episode in envs.episodes][:2] == [envs.episodes[0].now_ns] * 2


def test_gymnasium_knows_the_autoreset_mode() -> None:
    envs: Any = gym.make_vec(
        "LLMSched/Toy-v0", num_envs=2, vectorization_mode="vector_entry_point", autoreset_mode="SameStep"
    )
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.spec.kwargs["num_envs"] == 2


def test_steps_that_cannot_be_are_refused() -> None:
    envs = SchedulingVectorEnv("toy", num_envs=2, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(gym.error.ResetNeeded, match="before step"):
        envs.step(np.zeros(2, np.int64))
    with pytest.raises(gym.error.ResetNeeded, match="of all"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    seen, _ = envs.reset(seed=0)
    terminations = np.zeros(2, np.bool_)
    while not terminations.any():
        seen, _, terminations, _, _ = envs.step(seen["action_mask"].argmax(axis=1))
    with pytest.raises(gym.error.ResetNeeded, match=r"episodes of \[0, 1\] are over"):
        envs.step(np.zeros(2, np.int64))
    envs.close()
    with pytest.raises(gym.error.ClosedEnvironmentError, match="after close"):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "environment: num_envs: got 0; expected a whole number from 1 to 65536"),
        ({"threads": 1.5}, "environment: threads: got 1.5; expected a whole number from 1 to 1024"),
        ({"autoreset_mode": "Never"}, "environment: autoreset_mode: got 'Never'; expected one of"),
        ({"render_mode": "ansi"}, "environment: render_mode: got 'ansi'"),
        ({"reward": "jcts"}, "environment: reward: got 'jcts'"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SchedulingVectorEnv("toy", **arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "seed_or_mask", [{"seed": [1]}, {"seed": [-1, 0]}, {"options": {"reset_mask": np.zeros(2, np.bool_)}}]
)
def test_bad_resets_are_told(seed_or_mask: dict[str, Any]) -> None:
    envs = SchedulingVectorEnv("toy", num_envs=2)
    envs.reset()
    with pytest.raises(InputError):
        envs.reset(**seed_or_mask)


@pytest.mark.parametrize("actions", [np.zeros(3, np.int64), np.zeros(2), [[0], [0], [0]]])
def test_bad_actions_are_told(actions: Any) -> None:
    envs = SchedulingVectorEnv("toy", num_envs=2)
    envs.reset()
    with pytest.raises(InputError, match="environment: actions"):
        envs.step(actions)
