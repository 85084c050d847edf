"""FATE-style planning: what decides small cases, and whole episodes on heterogeneous clusters."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from policies.planning import Device, Stage, world

from llmsched_gym.envs.columns import Candidate, Placement
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.fate import Fate
from llmsched_gym.policies.registry import load_policy

A, B, C = 0, 1, 2

pytest.importorskip("ortools")


def choices(name: str, obs: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return what a policy would start: (job, executor, tasks)."""
    policy = load_policy(name)
    assert isinstance(policy, Fate)
    return sorted((job, executor, tasks) for job, _, executor, tasks in policy.plan(obs))


# The quick device would have to give up A, which the job asks for next; the slow one has room.
KEEP = world([Device([A], evicts=[A]), Device([], speed=3.0)], [Stage(B, then=[A])])

# Loaded here is quicker than there, but the child finds its model only there, and 23 GB take a second.
MOVE = world([Device([A]), Device([A, B], speed=1.5)], [Stage(A, then=[B], output_bytes=23e9)])

# The first device is a little quicker with this prompt, but so slow at decoding that the child would leave it.
CACHED = world([Device([A], speed=3.0), Device([A])], [Stage(A, prompt=1000, then=[A])])
CACHED["placements"][0, 0, Placement.TASK_S] = 0.95

# On the quick device the stage would stand in the way of the other job, which asks for C there at once after its tool.
REACH = world(
    [Device([C, A], running=0), Device([A], speed=1.2, load_s=50.0), Device([B], load_s=60.0)],
    [Stage(A, task_s=20.0), Stage(B, then=[C])],
)


@pytest.mark.parametrize("planner", ["cpsat", "greedy"])
@pytest.mark.parametrize(
    ("obs", "term", "with_it", "without_it"),
    [
        pytest.param(KEEP, "residency", 1, 0, id="a model that is asked for next is kept"),
        pytest.param(MOVE, "locality", 1, 0, id="outputs are left where the child can run"),
        pytest.param(CACHED, "prefix", 1, 0, id="a prompt is left where the child stays"),
        pytest.param(REACH, "reachability", 1, 0, id="the best executor is left to others"),
    ],
)
def test_each_future_term_decides_a_case_and_can_be_left_out(
    planner: str, obs: dict[str, Any], term: str, with_it: int, without_it: int
) -> None:
    def executor(parameters: str) -> int:
        return choices(f"fate?planner={planner}{parameters}", obs)[0][1]

    assert executor("") == with_it
    assert executor(f"&without={term}") == without_it
    assert executor("&horizon=0") == without_it
    for other in {"residency", "locality", "prefix", "reachability"} - {term}:
        assert executor(f"&without={other}") == with_it


def test_inputs_are_moved_where_that_is_quicker_than_loading() -> None:
    devices = [Device([], load_s=10.0), Device([A])]
    assert choices("fate", world(devices, [Stage(A, fetch_s={1: 2.0})])) == [(0, 1, 1)]
    assert choices("fate", world(devices, [Stage(A, fetch_s={1: 20.0})])) == [(0, 0, 1)]


def test_a_stage_is_spread_over_idle_executors_up_to_the_bound() -> None:
    obs = world([Device([A]), Device([A])], [Stage(A, tasks=2, prompt=1000)])
    assert choices("fate", obs) == [(0, 0, 1), (0, 1, 1)]
    assert choices("fate?shards=1", obs) == [(0, 0, 2)]


def test_an_executor_takes_up_one_model_and_shares_what_loading_costs() -> None:
    devices = [Device([], load_s=2.0), Device([], load_s=3.0)]
    stages = [Stage(A), Stage(A), Stage(B)]
    assert choices("fate?horizon=0", world(devices, stages)) == [(0, 0, 1), (1, 0, 1), (2, 1, 1)]


def test_waiting_for_a_drained_executor_where_that_is_quicker_and_not_for_ever() -> None:
    devices = [Device([B, A], running=1, drained_s=2.0), Device([], load_s=9.0)]
    for planner in ("cpsat", "greedy"):
        policy = load_policy(f"fate?planner={planner}")
        obs = world(devices, [Stage(A)])
        assert policy.act(obs) == len(obs["action_mask"]) - 1
        late = world(devices, [Stage(A, ready_s=11.0)])
        assert policy.act(late) == 1
    slow = [Device([B, A], running=1, drained_s=20.0), Device([], load_s=9.0)]
    assert choices("fate", world(slow, [Stage(A)])) == [(0, 1, 1)]


def test_an_executor_that_is_waited_for_starts_nothing_of_another_model() -> None:
    devices = [Device([B, A], running=1, drained_s=1.0), Device([B], load_s=9.0)]
    assert choices("fate?horizon=0", world(devices, [Stage(A), Stage(B)])) == [(1, 1, 1)]


def test_something_starts_where_waiting_is_illegal() -> None:
    obs = world([Device([A], load_s=50.0)], [Stage(B)])
    assert obs["action_mask"][-1] == 0
    assert load_policy("fate").act(obs) == 0


def test_tool_tasks_go_where_their_inputs_are_nearest() -> None:
    obs = world([Device([A])], [Stage(A)], tools=3)
    obs["candidates"][0, [Candidate.KIND, Candidate.TASKS_WAITING]] = 1, 2
    obs["placements"][0] = 0
    obs["placements"][0, 1:, Placement.LEGAL] = 1
    obs["placements"][0, 1:, Placement.FETCH_S] = [3.0, 1.0, 2.0]
    obs["action_mask"][:4] = 0, 1, 1, 1
    assert choices("fate", obs) == [(0, 2, 1), (0, 3, 1)]


def test_foresight_weighs_what_may_not_come() -> None:
    devices = [Device([A], evicts=[A]), Device([], speed=4.0)]
    likely, unlikely = (world(devices, [Stage(B, then=[A], optional=p)]) for p in (1.0, 0.02))
    assert choices("foresight", likely) == choices("fate", likely) == choices("fate", unlikely) == [(0, 1, 1)]
    assert choices("foresight", unlikely) == [(0, 0, 1)]


def test_foresight_serves_the_job_that_is_over_soonest_where_only_one_can_be() -> None:
    devices = [Device([], load_s=1.0)]
    stages = [Stage(A, remaining_s=100.0), Stage(B, remaining_s=1.0)]
    assert choices("foresight", world(devices, stages)) == [(1, 0, 1)]
    assert choices("fate", world(devices, stages)) == [(0, 0, 1)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fate?horizon=-1", "horizon"),
        ("fate?horizon=1.5", "horizon"),
        ("fate?shards=0", "shards"),
        ("fate?gamma=2", "gamma"),
        ("fate?planner=milp", "planner"),
        ("fate?without=luck", "without"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_policy(name)


def test_without_the_solver_the_greedy_planner_works_and_the_other_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python.cp_model", None)
    assert choices("fate?planner=greedy", KEEP) == [(0, 1, 1)]
    with pytest.raises(InputError, match=r"llmsched-gym\[plan\].*planner=greedy"):
        load_policy("fate")


def test_a_plan_that_the_solver_does_not_find_is_made_greedily_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmsched_gym.policies.fate.pack_obviously", lambda packing: None)
    monkeypatch.setattr("llmsched_gym.policies.fate.pack_optimally", lambda packing, cp_model: None)
    policy = Fate()
    assert policy.plan(KEEP) == Fate(planner="greedy").plan(KEEP)
    assert (policy.fallbacks, policy.plans) == (1, 1)


def play(name: str, scenario: str, **arguments: Any) -> dict[str, Any]:
    env = SchedulingEnv(scenario, placement="agent", observation="graph", **arguments)
    policy = load_policy(name)
    obs, info = env.reset(seed=4)
    policy.reset(info)
    over = False
    while not over:
        action = policy.act(obs)
        assert obs["action_mask"][action] == 1
        obs, _, over, _, info = env.step(action)
    return info["result"]


@pytest.mark.parametrize("name", ["fate", "fate?planner=greedy", "foresight", "fate?horizon=0&shards=3"])
@pytest.mark.parametrize(("scenario", "load"), [("hetero4", 0.5), ("hetero8", 0.5)])
def test_episodes_are_legal_and_end(name: str, scenario: str, load: float) -> None:
    assert play(name, scenario, jobs=20, load=load)["illegal_actions"] == 0


def test_episodes_repeat() -> None:
    digests = {play("foresight", "hetero4", jobs=20, load=1.0)["digest"] for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["fate", "foresight"])
def test_small_windows_and_plain_clusters_are_survived(name: str) -> None:
    assert play(name, "hetero4", jobs=12, load=2.0, max_candidates=4, max_jobs=2)["hidden_candidates"] > 0
    assert play(name, "mixed", jobs=12, load=2.0, profiler=False)["illegal_actions"] == 0
