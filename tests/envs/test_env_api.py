"""Masks, illegal actions, placement, rewards, seeds, windows and arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from random_workloads import Case

from llmsched_gym.envs.columns import Candidate, Executor, Node, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads import toy

Step = tuple[dict[str, NDArray[Any]], float, dict[str, Any]]
BUSY = Case(seed=7, n_apps=2, n_jobs=6, n_stages=6, spread_ns=10**10, short_of_kv=True)


def busy_env(case: Case = BUSY, **kwargs: Any) -> SchedulingEnv:
    """A random workload on a random cluster."""
    draft, cluster, _ = case.draw()
    return SchedulingEnv("toy", workload=draft.assemble(), cluster=cluster, **kwargs)


def play(env: gym.Env[Any, Any], actions: np.random.Generator | None = None) -> list[Step]:
    """Play an episode first come first served, or with random legal actions; the first reward is 0."""
    observation, info = env.reset(seed=1)
    steps: list[Step] = [(observation, 0.0, info)]
    terminated = False
    while not terminated:
        legal = np.flatnonzero(observation["action_mask"])
        action = legal[0] if actions is None else actions.choice(legal)
        observation, reward, terminated, truncated, info = env.step(int(action))
        assert not truncated
        steps.append((observation, float(reward), info))
    return steps


# --- masks and actions ---


@pytest.mark.parametrize("placement", ["least_loaded", "agent"])
@pytest.mark.parametrize("windows", [{"max_candidates": 2, "max_jobs": 2}, {"max_candidates": None, "max_jobs": None}])
def test_the_mask_is_one_in_three_places_and_never_empty(placement: Any, windows: dict[str, Any]) -> None:
    env = busy_env(placement=placement, **windows)
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=0)
    terminated = False
    while not terminated:
        mask = observation["action_mask"]
        assert info["action_mask"] is mask
        assert env.action_masks().dtype == np.bool_
        assert np.array_equal(env.action_masks(), mask)
        assert mask.any()
        observation, _, terminated, _, info = env.step(int(rng.choice(np.flatnonzero(mask))))
    assert info["illegal_actions"] == 0


def test_waiting_is_not_offered_when_nothing_will_ever_happen() -> None:
    """After its probe, the only job left has a stage to start and the engine, just emptied, has nothing to do."""
    env = SchedulingEnv("two_jobs")
    observation, _ = env.reset(seed=0)
    wait = len(observation["action_mask"]) - 1
    assert observation["action_mask"][wait] == 0
    env.step(1)  # the probe of the uncertain job
    observation, _, _, _, info = env.step(1)  # at 1 s: its second stage, ready now
    while info["time_s"] < 2.0:
        observation, _, _, _, info = env.step(wait)
    assert observation["action_mask"].tolist()[:2] == [1, 0]
    assert observation["action_mask"][wait] == 0


@pytest.mark.parametrize("action", [-1, 10**30, -(10**30), np.int64(2**62)])
def test_any_integer_is_an_action(action: int) -> None:
    env = SchedulingEnv("toy")
    env.reset(seed=0)
    assert env.step(action)[-1]["illegal_actions"] == 1


@pytest.mark.parametrize("placement", ["least_loaded", "agent"])
def test_illegal_actions_are_counted_and_start_the_oldest_stage_that_can_run(placement: Any) -> None:
    env, twin = busy_env(placement=placement), busy_env()
    observation, info = env.reset(seed=0)
    other, twin_info = twin.reset(seed=0)
    rng = np.random.default_rng(0)
    terminated, illegal = False, 0
    while not terminated:
        mask, legal = observation["action_mask"], np.flatnonzero(other["action_mask"][:-1])
        forbidden = [*np.flatnonzero(mask == 0).tolist(), -1, len(mask), 10**6]
        illegal += 1
        observation, _, terminated, _, info = env.step(int(rng.choice(forbidden)))
        assert info["illegal_actions"] == illegal
        other, _, over, _, twin_info = twin.step(int(legal[0]))
        assert over == terminated
        assert info["time_s"] == twin_info["time_s"]
    assert info["result"]["illegal_actions"] == illegal == info["result"]["decisions"]
    assert np.array_equal(info["result"]["jct_s"], twin_info["result"]["jct_s"])


def test_the_agent_can_place_tasks() -> None:
    env = busy_env(placement="agent")
    rng = np.random.default_rng(3)
    observation, _ = env.reset(seed=0)
    n_executors = len(observation["executors"])
    terminated, used = False, set()
    while not terminated:
        action = int(rng.choice(np.flatnonzero(observation["action_mask"])))
        waiting = action == len(observation["action_mask"]) - 1
        executor = action % n_executors
        before = env.episode.state.executors["running"][executor]
        starts = np.count_nonzero(env.episode.state.tasks["executor"] == executor)
        if not waiting:
            assert observation["executors"][executor, Executor.RUNNING] == before
            assert before < observation["executors"][executor, Executor.SLOTS]
            used.add(executor)
        observation, _, terminated, _, _ = env.step(action)
        if not waiting:
            assert np.count_nonzero(env.episode.state.tasks["executor"] == executor) == starts + 1
    assert used == set(range(n_executors))


def test_stepping_needs_an_episode() -> None:
    env = SchedulingEnv("toy")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    with pytest.raises(gym.error.ResetNeeded):
        _ = env.workload
    play(env)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


# --- rewards and results ---


@pytest.mark.parametrize("waits", [False, True])
def test_the_return_is_minus_the_mean_jct(waits: bool) -> None:
    steps = play(busy_env(), np.random.default_rng(0) if waits else None)
    result = steps[-1][2]["result"]
    assert sum(reward for _, reward, _ in steps) == pytest.approx(-result["jct_s"].mean())
    assert all(reward <= 0.0 for _, reward, _ in steps)


def test_rewards_by_name() -> None:
    terminal = play(busy_env(reward="terminal_jct"))
    assert all(reward == 0.0 for _, reward, _ in terminal[:-1])
    assert terminal[-1][1] == pytest.approx(-terminal[-1][2]["result"]["jct_s"].mean())
    makespan = play(busy_env(reward="makespan"))
    last = makespan[-1][2]
    first_arrival_s = busy_env()._fixed.jobs["arrival_ns"][0] * 1e-9  # pyright: ignore[reportOptionalMemberAccess]
    total = last["result"]["makespan_s"]
    assert last["time_s"] == pytest.approx(total + first_arrival_s)
    assert sum(reward for _, reward, _ in makespan) == pytest.approx(-(last["time_s"] - makespan[0][2]["time_s"]))


def test_results_of_the_hand_solved_workload() -> None:
    result = play(SchedulingEnv("toy"))[-1][2]["result"]
    assert result["jct_s"].tolist() == [6.0, 7.0, 11.0, 12.0, 13.0]
    assert result["app"].tolist() == [1, 0, 1, 0, 0]
    assert result["slowdown"] == pytest.approx([1.0, 3.5, 11 / 6, 6.0, 6.5])
    assert result["wait_s"].tolist() == [0.0, 2.5, 2.5, 5.0, 5.5]
    assert result["makespan_s"] == 13.0
    assert result["llm_utilisation"] == pytest.approx(11 / 13)
    assert result["regular_utilisation"] == pytest.approx(7 / 13)
    assert (result["preemptions"], result["decisions"], result["hidden_candidates"]) == (0, 10, 0)


def test_shortest_first_reaches_the_optimum_of_the_hand_solved_workload() -> None:
    env = SchedulingEnv("toy")
    observation, _ = env.reset(seed=0)
    terminated, total = False, 0.0
    while not terminated:
        rows = np.flatnonzero(observation["action_mask"][:-1])
        work = observation["candidates"][rows, Candidate.PATH_S]
        observation, reward, terminated, _, _ = env.step(int(rows[work.argmin()]))
        total += reward
    assert total == pytest.approx(-toy.TOY_OPTIMAL_MEAN_JCT_S)


# --- seeds ---


def test_a_seed_names_an_episode() -> None:
    env = SchedulingEnv("chain", jobs=5)
    first, info = env.reset(seed=4)
    digest = env.workload.digest
    second, _ = env.reset(seed=5)
    assert env.workload.digest != digest
    again, info_again = env.reset(seed=4)
    assert env.workload.digest == digest
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert info["policy_seed"] == info_again["policy_seed"]
    assert not np.array_equal(first["candidates"], second["candidates"])


def test_episodes_after_a_seed_are_drawn_from_it() -> None:
    digests = []
    for _ in range(2):
        env = SchedulingEnv("chain", jobs=3)
        env.reset(seed=9)
        env.reset()
        digests.append(env.workload.digest)
        env.reset()
        digests.append(env.workload.digest)
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


def test_actions_do_not_change_the_jobs() -> None:
    env = SchedulingEnv("chain", jobs=5)
    play(env)
    first = env.workload.digest
    play(env, np.random.default_rng(0))
    assert env.workload.digest == first


# --- windows ---


def test_what_a_small_window_leaves_out_is_counted() -> None:
    total = 0
    steps = play(busy_env(max_candidates=2, max_jobs=3), np.random.default_rng(1))
    for observation, _, info in steps:
        system = observation["system"]
        assert system[System.CANDIDATES] <= 2
        assert system[System.JOB_ROWS] == min(system[System.JOBS], 3)
        assert info["hidden_candidates"] == system[System.HIDDEN_CANDIDATES]
        assert np.all(observation["candidates"][int(system[System.CANDIDATES]) :] == 0.0)
        assert np.all(observation["jobs"][int(system[System.JOB_ROWS]) :] == 0.0)
        outside = observation["candidates"][: int(system[System.CANDIDATES]), Candidate.JOB]
        assert np.all((outside >= -1) & (outside < 3))
        total += info["hidden_candidates"]
    assert steps[-1][2]["result"]["hidden_candidates"] == total


def test_windows_sized_to_the_workload_hide_nothing() -> None:
    for seed in range(30):
        case = replace(BUSY, seed=seed, short_of_kv=False)
        env = busy_env(case, max_candidates=None, max_jobs=None, observation="graph")
        steps = play(env, np.random.default_rng(seed))
        assert steps[-1][2]["result"]["hidden_candidates"] == 0
        for observation, _, _ in steps[:-1]:
            assert observation["system"][System.JOB_ROWS] == observation["system"][System.JOBS]
            listed = set(observation["nodes"][: int(observation["system"][System.NODES]), Node.JOB].tolist())
            assert len(listed) == observation["system"][System.JOBS]


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "mixd"}, "did you mean 'mixed'"),
        ({"observation": "grph"}, "did you mean 'graph'"),
        ({"placement": "random"}, "placement"),
        ({"reward": "jtc"}, "did you mean 'jct'"),
        ({"render_mode": "human"}, "render_mode"),
        ({"split": "test"}, "split"),
        ({"max_candidates": 0}, "max_candidates"),
        ({"max_candidates": 2.5}, "max_candidates"),
        ({"max_candidates": True}, "max_candidates"),
        ({"max_candidates": None}, "fixed workload"),
        ({"max_jobs": None}, "fixed workload"),
        ({"max_jobs": -1}, "max_jobs"),
        ({"jobs": 0}, "jobs"),
        ({"load": -0.5}, "load"),
        ({"load": float("nan")}, "load"),
        ({"load": 0.5, "rate": 1.0}, "not both"),
        ({"scenario": "toy", "jobs": 3}, "its workload is fixed"),
        ({"workload": "nowhere.npz"}, "nowhere.npz"),
        ({"cluster": "nowhere.yaml"}, "nowhere.yaml"),
        ({"cluster": {"executors": []}}, "executors"),
    ],
)
def test_a_bad_argument_is_named_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        SchedulingEnv(**arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.5])
def test_a_bad_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed"):
        SchedulingEnv("mixed", jobs=2).reset(seed=seed)


def test_a_workload_that_does_not_fit_the_cluster_is_refused() -> None:
    workload = load_scenario("mixed").replaced(jobs=20).build("train", 0)
    with pytest.raises(InputError, match="kv_tokens"):
        SchedulingEnv("toy", workload=workload, cluster=small_kv())


def small_kv() -> dict[str, Any]:
    """A cluster whose KV cache is smaller than the longest prompt."""
    llm = {"kind": "llm", "latency": "llama-2-7b-h100", "kv_tokens": 512}
    return {"executors": [llm, {"kind": "regular"}]}
