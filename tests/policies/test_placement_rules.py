"""Placements and joint policies on observations small enough to solve by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.columns import System
from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.fcfs import FCFS
from llmsched_gym.policies.placement import Costs, PlacementRule, completion_s, start_s
from llmsched_gym.policies.placing import Placing
from llmsched_gym.policies.registry import joint_names, load_policy, placement_names, policy_class

TABLES = [name for name in joint_names() if policy_class(name).observation == "table"]
"""Joint policies that need no graph; planners have tests of their own."""

EVERY = (*placement_names(), *TABLES, "srtf+mct", "mct?wait=true", "mct?state=blind", "etf?state=blind")
LLM, REGULAR = {"kind": 0, "prompt_tokens": 100}, {"kind": 1}


def chosen(name: str, obs: dict[str, NDArray[Any]]) -> tuple[int, int] | None:
    """Return the row and the executor that a policy chooses; None if it waits."""
    policy = load_policy(name)
    policy.reset({"policy_seed": 0})
    return pair(policy.act(obs), obs)


def pair(action: int, obs: dict[str, NDArray[Any]]) -> tuple[int, int] | None:
    assert obs["action_mask"][action]
    executors = len(obs["executors"])
    return None if action == len(obs["action_mask"]) - 1 else divmod(action, executors)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_legal_is_a_wait_and_a_single_pair_is_taken(place: Any, name: str) -> None:
    assert chosen(name, place([LLM], [[{"wait_s": 1}, None]])) is None
    assert chosen(name, place([LLM, LLM], [[{"wait_s": 1, "task_s": 9}, None], [None, {"task_s": 1}]])) == (1, 1)


@pytest.mark.parametrize("name", EVERY)
def test_a_placement_alone_takes_equal_stages_and_executors_in_order(place: Any, name: str) -> None:
    assert chosen(name, place([LLM, LLM], [[{}, {}], [{}, {}]])) == (0, 0)


def test_least_loaded_counts_tasks_of_executors_that_are_free(place: Any) -> None:
    held = [{"running": 3}, {"running": 1}, {"running": 2}, {"running": 2}]
    assert chosen("least_loaded", place([LLM], [[{}, {"wait_s": 1}, {}, {}]], executors=held)) == (0, 2)


def test_round_robin_skips_what_is_not_feasible_and_has_a_turn_for_each_kind(place: Any) -> None:
    policy = load_policy("round_robin")
    policy.reset({"policy_seed": 0})
    llm = place([LLM], [[{}, {}, {}, None, None]])
    second_busy = place([LLM], [[{}, {"wait_s": 1}, {}, None, None]])
    tools = place([REGULAR], [[None, None, None, {"model": -1}, {"model": -1}]])
    seen = [llm, second_busy, tools, llm, llm, tools, tools]
    assert [pair(policy.act(obs), obs) for obs in seen] == [(0, e) for e in (0, 2, 3, 0, 1, 4, 3)]
    policy.reset({"policy_seed": 0})
    assert pair(policy.act(llm), llm) == (0, 0)


def test_static_waits_for_a_home_of_the_model(place: Any) -> None:
    models = [["a", ""], ["a", ""], ["", "a"]]
    policy = load_policy("static")
    policy.reset({"policy_seed": 0})

    def act(*cells: dict[str, float], **more: Any) -> tuple[int, int] | None:
        obs = place([LLM], [cells], models=models, **more)
        return pair(policy.act(obs), obs)

    assert act({}, {}, {}, executors=[{"running": 5}, {"running": 4}, {}]) == (0, 1)
    assert act({"wait_s": 9}, {"wait_s": 9}, {}) is None
    assert act({"model": 1}, {"model": 1}, {"model": 1}, executors=[{}, {}, {"running": 9}]) == (0, 2)
    models = [["a", "a"], ["", "a"], ["a", ""]]  # homes are those of the beginning
    assert act({"model": 1}, {"model": 1}, {"model": 1, "wait_s": 1}) is None
    assert act({"wait_s": 1}, {"wait_s": 1}, {}, can_wait=False) == (0, 2)  # nothing would come of it
    policy.reset({"policy_seed": 0})
    assert act({"model": 1}, {"model": 1}, {"model": 1, "wait_s": 1}) == (0, 0)


@pytest.mark.parametrize(
    ("model", "serves", "home"), [(0, 4, {0, 1}), (1, 4, {2, 3}), (0, 1, {0}), (1, 1, {0}), (1, 3, {1, 2})]
)
def test_static_deals_executors_out_to_models_that_are_nowhere(
    place: Any, model: int, serves: int, home: set[int]
) -> None:
    found = set()
    for e in range(4):
        cells = [({"model": model} | ({} if k == e else {"wait_s": 1})) if k < serves else None for k in range(4)]
        if e < serves and chosen("static", place([LLM], [cells], models=[["", ""]] * 4)):
            found.add(e)
    assert found == home


def test_sticky_goes_where_the_model_is(place: Any) -> None:
    models = [["a", ""], ["r", "a"], ["", "a"], ["a", "r"]]
    held = [{"running": 7}, {"running": 0}, {"running": 0}, {"running": 6}]
    assert chosen("sticky", place([LLM], [[{}, {}, {}, {}]], models=models, executors=held)) == (0, 3)
    busy = {"wait_s": 1}
    assert chosen("sticky", place([LLM], [[busy, {}, {}, busy]], models=models, executors=held)) == (0, 1)
    assert chosen("sticky", place([LLM], [[busy, busy, {}, busy]], models=models, executors=held)) == (0, 2)
    tools = place([REGULAR], [[None, None, {"model": -1}, {"model": -1}]], models=models, executors=held)
    assert chosen("sticky", tools) == (0, 2)


CELLS = [  # completion: 7, 6, 2 + 3 = 5 but not now
    [{"load_s": 3, "fetch_s": 2, "task_s": 4}, {"load_s": 1, "fetch_s": 2, "task_s": 4}, {"wait_s": 2, "task_s": 3}],
    [{"task_s": 9}, None, {"load_s": 1, "task_s": 6}],
]


def test_completion_overlaps_loading_and_fetching_and_follows_waiting(place: Any) -> None:
    obs, rows = place([LLM, LLM], CELLS), np.arange(2)
    assert start_s(obs, rows).tolist() == [[3, 2, 2], [0, np.inf, 1]]
    assert completion_s(obs, rows).tolist() == [[7, 6, 5], [9, np.inf, 7]]
    assert completion_s(obs, rows, "blind").tolist() == [[4, 4, 5], [9, np.inf, 6]]


def test_mct_takes_the_first_completion_of_what_is_free(place: Any) -> None:
    obs = place([LLM, LLM], CELLS)
    assert chosen("mct", obs) == (0, 1)
    assert chosen("mct?state=blind", obs) == (0, 0)
    assert chosen("mct?wait=true", obs) == (1, 2)  # the first stage waits for the third executor


def test_an_order_decides_among_stages_and_the_placement_where(place: Any) -> None:
    jobs = [{"remaining_s": 20}, {"remaining_s": 10}]
    obs = place([LLM | {"job": 0}, LLM | {"job": 1}], CELLS, jobs=jobs)
    assert chosen("srtf+mct", obs) == (1, 2)
    assert chosen("srtf+least_loaded", obs) == (1, 0)
    assert chosen("fcfs+mct", obs) == (0, 1)
    jobs.reverse()
    assert chosen("srtf+mct", place([LLM | {"job": 0}, LLM | {"job": 1}], CELLS, jobs=jobs)) == (0, 1)


def test_prefix_aware_weighs_matches_against_load(place: Any) -> None:
    """Mean load 2: scores 0.9 - 2 / 2, 0.4 - 0, 0 + 2 / 2."""
    held = [{"running": 4}, {"running": 2}, {"running": 0}, {"running": 90}]
    cells = [[{"cached_tokens": 90}, {"cached_tokens": 40}, {}, {"wait_s": 1}]]
    assert chosen("prefix_aware", place([LLM], cells, executors=held)) == (0, 2)
    assert chosen("prefix_aware?beta=0.5", place([LLM], cells, executors=held)) == (0, 2)
    assert chosen("prefix_aware?beta=0.2", place([LLM], cells, executors=held)) == (0, 0)
    tools = place([REGULAR], [[{"model": -1}] * 4], executors=held)
    assert chosen("prefix_aware", tools) == (0, 2)


def test_kv_router_counts_blocks(place: Any) -> None:
    """Blocks of 16 tokens, 100 in the room: 7 - 5 + 10, 7 + 4, 7 - 1 + 6."""
    held = [{"kv_used": 0.1}, {"kv_used": 0.04}, {"kv_used": 0.06}]
    cells = [[{"cached_tokens": 80}, {}, {"cached_tokens": 16}]]
    obs = place([LLM], cells, executors=held)
    assert chosen("kv_router?kv_tokens=1600", obs) == (0, 1)
    assert chosen("kv_router?kv_tokens=1600&overlap_weight=3", obs) == (0, 0)  # 6 + 10, 21 + 4, 18 + 6


MATRIX = [  # completions; the third executor is busy for 2 s more
    [{"task_s": 4}, {"task_s": 6}, {"wait_s": 2, "task_s": 3}],
    [{"task_s": 2}, {"task_s": 9}, {"wait_s": 2, "task_s": 8}],
    [{"load_s": 5, "task_s": 4}, {"load_s": 5, "task_s": 3}, {"wait_s": 2, "task_s": 5}],
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("min_min", (1, 0)),  # 4, 2, 8
        ("max_min", (2, 1)),
        ("sufferage", (1, 0)),  # 5 - 4, 9 - 2, 7 - 8
        ("etf", (1, 0)),  # the first two can start; the second has the longer path
        ("min_min?state=blind", (1, 0)),  # 4, 2, 3
        ("max_min?state=blind", (0, 0)),
        ("sufferage?state=blind", (1, 0)),  # 1, 7, 1
        ("etf?state=blind", (2, 1)),  # all can start; the third has the longest path
    ],
)
def test_joint_policies_choose_a_pair(place: Any, name: str, expected: tuple[int, int]) -> None:
    candidates = [LLM | {"path_s": 5}, LLM | {"path_s": 7}, LLM | {"path_s": 9}]
    assert chosen(name, place(candidates, MATRIX)) == expected


def test_a_stage_without_another_executor_suffers_without_end(place: Any) -> None:
    assert chosen("sufferage", place([LLM, LLM], [[{"task_s": 1}, {"task_s": 90}], [{"task_s": 5}, None]])) == (1, 0)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("mct?wait=no", "policy mct: wait: got 'no'; expected true or false"),
        ("mct?wait=1", "policy mct: wait: got 1; expected true or false"),
        ("prefix_aware?beta=many", "policy prefix_aware: beta: got 'many'; expected a number from 0"),
        ("srtf+kv_router?kv_tokens=0", "policy kv_router: kv_tokens: got 0; expected a number from 1"),
        ("kv_router?overlap_weight=true", "policy kv_router: overlap_weight: got True; expected a number from 0"),
    ],
)
def test_parameters_are_checked(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        load_policy(spec)


@pytest.mark.parametrize("name", ["mct", "min_min", "etf", "srtf+mct"])
def test_unknown_states_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="state: got 'awake'; expected one of aware, blind"):
        load_policy(f"{name}?state=awake")


class Returning(PlacementRule):
    """Rates by whatever it is given."""

    name = "returning"

    def __init__(self, costs: Any) -> None:
        self.costs = costs

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        return self.costs


@pytest.mark.parametrize("costs", [[1, 2], [[1]], [[np.nan, 1]], [["a", "b"]], None])
def test_costs_that_are_not_numbers_in_shape_are_told(place: Any, costs: Any) -> None:
    with pytest.raises(ValueError, match=r"cost of Returning: got .*expected numbers, shape \(1, 2\)"):
        Placing(FCFS(), Returning(costs)).act(place([LLM], [[{}, {}]]))


def test_admit_holds_back_what_will_not_fit(place: Any) -> None:
    policy = load_policy("admit?fill=0.8&window_s=1000")
    policy.reset({"policy_seed": 0})

    def act(time_s: float, *executors: dict[str, float]) -> tuple[int, int] | None:
        obs = place([LLM], [[{} for _ in executors]], executors=list(executors))
        obs["system"][System.TIME_S] = time_s
        return pair(policy.act(obs), obs)

    full, half = {"running": 10, "kv_used": 1.0}, {"running": 10, "kv_used": 0.5}
    assert act(0.0, full, full) == (0, 0)  # nothing was seen for any time yet
    assert act(1.0, full, half) == (0, 1)  # 10 fill the first: 8 may be there; 20 would fill the second
    assert act(2.0, {"running": 8, "kv_used": 0.8}, {"running": 16, "kv_used": 0.8}) is None
    assert act(2.0, {"running": 7, "kv_used": 0.8}, {"running": 16, "kv_used": 0.8}) == (0, 0)
    policy.reset({"policy_seed": 0})
    assert act(3.0, full, full) == (0, 0)


def test_admit_always_lets_one_in_and_holds_no_tool_back(place: Any) -> None:
    policy = load_policy("admit?fill=0.01")
    policy.reset({"policy_seed": 0})
    for time_s in (0.0, 1.0, 2.0):
        obs = place([LLM], [[{}]], executors=[{"running": 4, "kv_used": 1.0}])
        obs["system"][System.TIME_S] = time_s
        policy.act(obs)
    assert pair(policy.act(obs), obs) is None
    idle = place([LLM], [[{}]], executors=[{"running": 0, "kv_used": 0.0}])
    idle["system"][System.TIME_S] = 2.0
    assert pair(policy.act(idle), idle) == (0, 0)
    tools = load_policy("admit?fill=0.01")
    tools.reset({"policy_seed": 0})
    for time_s in (0.0, 1.0):
        obs = place([REGULAR], [[{"model": -1}]], executors=[{"running": 5}])
        obs["system"][System.TIME_S] = time_s
        assert pair(tools.act(obs), obs) == (0, 0)


@pytest.mark.parametrize("parameters", ["fill=0", "fill=x", "window_s=0", "window_s=-1"])
def test_parameters_of_admit_are_checked(parameters: str) -> None:
    with pytest.raises(InputError, match=rf"admit.*{parameters.partition('=')[0]}"):
        load_policy(f"admit?{parameters}")
