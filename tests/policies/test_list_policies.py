"""HEFT, CPOP and PEFT online: what an observation becomes, what decides small cases, and whole episodes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from policies.planning import Device, Stage, world

from llmsched_gym.envs.columns import Candidate, Executor, Node, Placement, Residency, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.policies.window_problem import window_problem

A, B, C = 0, 1, 2
NAMES = ("heft", "cpop", "peft")


def chosen(name: str, obs: dict[str, Any]) -> tuple[int, int] | None:
    """Return the row and the executor that a policy chooses; None if it waits."""
    action = load_policy(name).act(obs)
    assert obs["action_mask"][action]
    return None if action == len(obs["action_mask"]) - 1 else divmod(action, len(obs["executors"]))


def test_what_is_ready_costs_what_placements_tell_and_the_rest_by_the_speed_of_its_model() -> None:
    devices = [Device([A], load_s=5.0), Device([B], speed=3.0, load_s=7.0)]
    obs = world(devices, [Stage(A, task_s=2.0, tasks=4, fetch_s={1: 9.0}, then=[B], output_bytes=46e9)], tools=1)
    problem, rows = window_problem(obs, "aware", 23.0)
    assert rows.tolist() == [0, -1]
    inf = np.inf
    assert problem.cost.tolist() == [[2, 6 + 9, inf], [1 + 5, 3, inf]]
    assert problem.held.tolist() == [[1, 7.5, 0], [0.75, 0.375, 0]]  # four tasks and one, in eight slots
    assert problem.edges.tolist() == [[0, 1]]
    assert problem.transfer.tolist() == pytest.approx([2])
    blind, _ = window_problem(obs, "blind", 23.0)
    assert blind.cost.tolist() == [[2, 6, inf], [1, 3, inf]]
    assert window_problem(obs, "aware", 46.0)[0].transfer.tolist() == pytest.approx([1])


def test_what_runs_holds_its_children_back_and_what_is_busy_its_stages() -> None:
    obs = world([Device([A], running=8, drained_s=4.0), Device([A])], [Stage(A, then=[A, A])])
    problem, _ = window_problem(obs, "aware", 23.0)
    assert problem.earliest.tolist() == [[4, 0], [0, 0], [0, 0]]
    obs["nodes"][0, [Node.CANDIDATE, Node.TASKS_WAITING, Node.TASKS_RUNNING]] = -1, 0, 1
    obs["nodes"][0, Node.DURATION_S] = 6.0
    obs["system"][System.CANDIDATES] = 0
    problem, rows = window_problem(obs, "aware", 23.0)
    assert rows.tolist() == [-1, -1]
    assert problem.earliest.tolist() == [[6, 6], [0, 0]]
    assert problem.edges.tolist() == [[0, 1]]


def test_tools_plans_to_come_and_jobs_beyond_the_graph_have_a_place() -> None:
    obs = world([Device([A]), Device([A])], [Stage(A, then=[A, A]), Stage(A, task_s=3.0)], tools=2)
    obs["nodes"][1, Node.KIND], obs["nodes"][2, Node.KIND] = 1, 2
    obs["ahead"][1:3, 0] = -1
    obs["system"][System.NODES] = 3
    problem, rows = window_problem(obs, "aware", 23.0)
    assert rows.tolist() == [0, -1, -1, 1]
    inf = np.inf
    assert problem.cost.tolist() == [[1, 1, inf, inf], [inf, inf, 1, 1], [1, 1, 1, 1], [3, 3, inf, inf]]
    assert problem.held[2].tolist() == [0, 0, 0, 0]
    obs["models"][..., Residency.SERVES] = 0
    obs["nodes"][1, Node.KIND], obs["ahead"][1, 0] = 0, C
    assert window_problem(obs, "aware", 23.0)[0].cost[1].tolist() == [1, 1, 1, 1]  # nothing that is shown serves it


@pytest.mark.parametrize("name", NAMES)
def test_the_longest_path_goes_first_where_it_is_over_first(name: str) -> None:
    devices = [Device([A], speed=2.0), Device([A])]
    assert chosen(name, world(devices, [Stage(A), Stage(A, then=[A, A]), Stage(A, then=[A])])) == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_executors_counts_unless_costs_are_blind(name: str) -> None:
    devices = [Device([], load_s=5.0), Device([A], speed=3.0)]
    assert chosen(name, world(devices, [Stage(A)])) == (0, 1)
    assert chosen(f"{name}?state=blind", world(devices, [Stage(A)])) == (0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_waits_for_its_executor_and_others_do_not(name: str) -> None:
    devices = [Device([B, A], running=1, drained_s=2.0), Device([], load_s=9.0)]
    assert chosen(name, world(devices, [Stage(A)])) is None
    assert chosen(name, world(devices, [Stage(A, then=[A]), Stage(B)])) == (1, 0)
    devices = [Device([B, A], running=1, drained_s=20.0), Device([], load_s=9.0)]
    late = chosen(name, world(devices, [Stage(A)]))
    assert late == (None if name == "cpop" else (0, 1))  # whose critical path is put where it is quick, free or not


@pytest.mark.parametrize("name", NAMES)
def test_something_starts_where_waiting_is_illegal(name: str) -> None:
    devices = [Device([B, A], running=1, drained_s=1.0), Device([C], load_s=9.0), Device([C], load_s=8.0)]
    obs = world(devices, [Stage(A)])
    assert chosen(name, obs) is None
    obs["action_mask"][-1] = 0
    assert chosen(name, obs) == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_may_start_is_a_wait(name: str) -> None:
    assert chosen(name, world([Device([B], running=1, drained_s=1.0)], [Stage(A)])) is None


def test_peft_sees_where_the_rest_is_quick_and_heft_does_not() -> None:
    """The child has its model on the slower executor alone, and moving what its parent leaves takes 5 s."""
    devices = [Device([A]), Device([A, B], speed=1.5)]
    obs = world(devices, [Stage(A, then=[B], output_bytes=115e9)])
    assert chosen("heft", obs) == (0, 0)  # 1 and 1.5
    assert chosen("peft", obs) == (0, 1)  # 1 + min(6, 1.5 + 5) and 1.5 + 1.5


def test_cpop_keeps_the_critical_path_together() -> None:
    obs = world([Device([A]), Device([A], speed=0.6)], [Stage(A, then=[A])])
    obs["placements"][0, 0, Placement.TASK_S] = 0.5
    assert chosen("heft", obs) == (0, 0)  # 0.5 and 0.6
    assert chosen("cpop", obs) == (0, 1)  # 0.5 + 1 and 0.6 + 0.6


def test_tools_go_to_a_free_executor_each() -> None:
    obs = world([Device([A])], [Stage(A)], tools=2)
    obs["candidates"][0, [Candidate.KIND, Candidate.TASKS_WAITING]] = 1, 2
    obs["placements"][0] = 0
    obs["placements"][0, 1:, [Placement.LEGAL, Placement.SERVES, Placement.TASK_S]] = 1
    obs["action_mask"][:3] = 0, 1, 1
    assert chosen("heft", obs) == (0, 1)
    obs["placements"][0, 1, [Placement.LEGAL, Placement.WAIT_S]] = 0, 1
    obs["action_mask"][1] = 0
    obs["executors"][1, Executor.RUNNING] = 1
    assert chosen("heft", obs) == (0, 2)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("heft?state=awake", "policy heft: state: got 'awake'; expected one of aware, blind"),
        ("cpop?gb_per_s=0", "policy cpop: gb_per_s: got 0; expected a number from"),
        ("peft?gb_per_s=fast", "policy peft: gb_per_s: got 'fast'; expected a number from"),
        ("heft?horizon=2", "got 'horizon'; expected"),
        ("heft+mct", "order: got 'heft'; expected a PriorityPolicy"),
        ("srtf+heft", "name: got 'heft'; expected"),
    ],
)
def test_what_they_do_not_take_is_refused(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        load_policy(spec)


def play(name: str, scenario: str, **arguments: Any) -> dict[str, Any]:
    policy = load_policy(name)
    env = SchedulingEnv(scenario, placement="agent", observation=policy.observation, **arguments)
    obs, info = env.reset(seed=4)
    policy.reset(info)
    over = False
    while not over:
        if policy.observation == "graph":
            edges = obs["edges"][: int(obs["system"][System.EDGES])]
            assert (edges[:, 0] < edges[:, 1]).all()  # rows are a topological order,
            assert (np.diff(edges[:, 0]) >= 0).all()  # and parents ascend
        action = policy.act(obs)
        assert obs["action_mask"][action] == 1
        obs, _, over, _, info = env.step(action)
    return info["result"]


@pytest.mark.parametrize("name", [*NAMES, "plas", "halo", "heft?state=blind"])
@pytest.mark.parametrize("scenario", ["hetero4", "real_dag"])
def test_episodes_are_legal_and_end(name: str, scenario: str) -> None:
    result = play(name, scenario, jobs=12, load=0.5)
    assert result["illegal_actions"] == 0
    assert (result["jct_s"] > 0).all()
    assert len(result["jct_s"]) == 12


@pytest.mark.parametrize("name", ["peft", "plas", "halo"])
def test_episodes_repeat_and_survive_small_windows_and_plain_clusters(name: str) -> None:
    digests = {play(name, "hetero4", jobs=12, load=1.0)["digest"] for _ in range(2)}
    assert len(digests) == 1
    assert play(name, "hetero4", jobs=12, load=2.0, max_candidates=4, max_jobs=2)["hidden_candidates"] > 0
    assert play(name, "mixed", jobs=12, load=2.0, profiler=False)["illegal_actions"] == 0
