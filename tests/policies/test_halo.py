"""Halo-style search on observations small enough to solve by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from policies.planning import Device, Stage, world

from llmsched_gym.envs.columns import Candidate, Node, Placement, System
from llmsched_gym.errors import InputError
from llmsched_gym.policies.halo import Halo, Operators, read_operators
from llmsched_gym.policies.registry import load_policy

A, B, C = 0, 1, 2


def choices(name: str, obs: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return what a policy would start: (job, executor, tasks)."""
    policy = load_policy(name)
    assert isinstance(policy, Halo)
    return sorted((job, executor, tasks) for job, _, executor, tasks in policy.plan(obs))


def test_a_device_goes_on_with_its_model_unless_that_saves_nothing() -> None:
    obs = world([Device([A]), Device([B])], [Stage(B), Stage(A)])
    assert choices("halo", obs) == [(0, 1, 1), (1, 0, 1)]
    assert choices("halo?switch_s=0&saving_s=0&width=1", obs) == [(0, 0, 1), (1, 1, 1)]


def test_switching_is_worth_it_where_the_other_device_is_slower_by_more() -> None:
    stages = [Stage(B, task_s=1.0), Stage(C, task_s=3.0)]
    obs = world([Device([A]), Device([B], speed=1.2)], stages)
    assert choices("halo", obs) == [(0, 1, 1), (1, 0, 1)]  # over after 3.24
    slow = world([Device([A]), Device([B], speed=20.0)], [Stage(B, task_s=1.0)])
    assert choices("halo", slow) == [(0, 0, 1)]


def test_a_stage_is_sharded_over_devices_that_have_nothing_else() -> None:
    devices = [Device([A]), Device([A]), Device([A])]
    assert choices("halo", world(devices, [Stage(A, tasks=4)])) == [(0, 0, 2), (0, 1, 1), (0, 2, 1)]
    assert choices("halo", world(devices, [Stage(A, tasks=2)])) == [(0, 0, 1), (0, 1, 1)]
    heavy_and_light = world(devices, [Stage(A), Stage(A, tasks=2, task_s=5.0)])
    assert choices("halo", heavy_and_light) == [(0, 0, 1), (1, 1, 1), (1, 2, 1)]


def test_many_children_go_first_then_a_long_tail() -> None:
    obs = world([Device([A])], [Stage(A), Stage(A, then=[A]), Stage(A, then=[A])])
    obs["nodes"][[0, 1, 3], Node.PATH_S] = 9.0, 2.0, 3.0
    starts = Halo().plan(obs)
    assert [start.job for start in starts] == [2, 1, 0]


def test_what_is_beyond_tools_waits_for_what_is_before_them_and_running_stages_are_placed() -> None:
    obs = world([Device([A])], [Stage(A, then=[B, C, A])], tools=1)
    obs["nodes"][1, Node.KIND], obs["nodes"][2, Node.KIND] = 1, 2  # a tool, a plan to come
    obs["ahead"][1:3, 0] = -1
    operators = read_operators(obs)
    assert (operators.row, operators.parents, operators.children) == ([0, -1], [0, 1], [[1], []])
    assert (operators.executor, operators.last_model, operators.begin_s) == ([0], [A], [0.0])
    obs["nodes"][0, [Node.CANDIDATE, Node.TASKS_WAITING, Node.TASKS_RUNNING]] = -1, 0, 1
    obs["system"][System.CANDIDATES] = 0
    assert (read_operators(obs).row, read_operators(obs).parents) == ([-1], [0])
    assert load_policy("halo").act(obs | {"action_mask": np.array([0] * 16 + [1], np.int8)}) == 16


def test_work_is_slot_time_of_all_tasks_on_each_device() -> None:
    devices = [Device([A], running=8, drained_s=3.0), Device([], speed=2.0)]
    obs = world(devices, [Stage(A, tasks=3, task_s=2.0, then=[B]), Stage(C)])
    obs["system"][System.NODES], obs["system"][System.EDGES] = 2, 1  # the second job is left out
    operators = read_operators(obs)
    assert operators.work_s == [[6, 12], [1, 2], [1, 2]]
    assert (operators.tasks, operators.model, operators.row) == ([3, 1, 1], [A, B, C], [0, -1, 1])
    assert (operators.last_model, operators.begin_s) == ([A, -1], [3.0, 0.0])


def given(work_s: list[list[float]], model: list[int], last_model: list[int], begin_s: list[float]) -> Operators:
    n, each = len(work_s), list(range(len(work_s)))
    return Operators(
        work_s=work_s,
        least_s=[min(row) for row in work_s],
        tasks=[1] * n,
        model=model,
        rank=each,
        parents=[0] * n,
        children=[[] for _ in each],
        row=each,
        executor=list(range(len(begin_s))),
        last_model=last_model,
        begin_s=begin_s,
    )


def test_a_wide_beam_finds_what_greedy_orders_miss() -> None:
    """The greedy order gives the first device the second operator, which only takes 1 s on the other device as well."""
    operators = given([[5, 9], [4, 1]], [A, B], [A, A], [0.0, 0.0])
    greedy, wide = (Halo(width, switch_s=0.0, saving_s=0.0).search(operators) for width in (1, 2))
    assert sorted(greedy) == [(0, 1, 1), (1, 0, 1)]
    assert sorted(wide) == [(0, 0, 1), (1, 1, 1)]


def test_what_a_device_does_not_serve_goes_elsewhere_and_busy_devices_begin_later() -> None:
    inf = float("inf")
    assert Halo().search(given([[inf, 3]], [A], [-1, -1], [0.0, 50.0])) == [(0, 1, 1)]
    one_after_the_other = Halo().search(given([[inf, 3], [inf, 2]], [A, A], [-1, -1], [0.0, 0.0]))
    assert {(operator, device) for operator, device, _ in one_after_the_other} == {(0, 1), (1, 1)}


def test_tool_tasks_start_where_their_inputs_are_nearest() -> None:
    obs = world([Device([A])], [Stage(A), Stage(A)], tools=2)
    obs["candidates"][1, Candidate.KIND] = obs["nodes"][1, Node.KIND] = 1
    obs["placements"][1] = 0
    obs["placements"][1, 1:, [Placement.LEGAL, Placement.SERVES]] = 1
    obs["placements"][1, 1:, Placement.FETCH_S] = 3.0, 1.0
    assert choices("halo", obs) == [(0, 0, 1), (1, 2, 1)]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("halo?width=0", "policy halo: width: got 0; expected a whole number from 1"),
        ("halo?switch_s=-1", "policy halo: switch_s: got -1; expected a number from 0"),
        ("halo?saving_s=no", "policy halo: saving_s: got 'no'; expected a number from 0"),
    ],
)
def test_parameters_out_of_range_are_refused(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        load_policy(spec)
