"""Carbyne: the plan of one job, and the three steps on a case small enough to follow by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_gym.policies.carbyne import Carbyne, decide
from llmsched_gym.policies.carbyne_plan import tasks_due_now

REGULAR, DYNAMIC = 1, 2


def due(stages: list[tuple[int, float, int]], edges: list[tuple[int, int]], slots: tuple[int, int]) -> list[int]:
    """Plan stages given as (tasks, seconds, kind)."""
    tasks, seconds, kind = (np.array(column) for column in zip(*stages, strict=True))
    links = np.array(edges, np.int32).reshape(-1, 2)
    return tasks_due_now(tasks, seconds.astype(float), kind, links, np.array([*slots, 1 << 30])).tolist()


@pytest.mark.parametrize(
    ("stages", "edges", "slots", "expected"),
    [
        pytest.param([(1, 5, 0), (1, 3, 1)], [(0, 1)], (1, 1), [1, 0], id="a chain starts its first stage"),
        pytest.param(
            [(1, 10, 1), (1, 2, 1), (1, 1, 0)], [(0, 2), (1, 2)], (1, 2), [1, 0, 0], id="the short branch can wait"
        ),
        pytest.param(
            [(1, 10, 1), (1, 2, 0), (1, 9, 1)], [(1, 2)], (1, 2), [0, 1, 0], id="the long path is not the long stage"
        ),
        pytest.param([(3, 1, 1)], [], (1, 2), [1], id="of three tasks on two slots, two fit into the second round"),
        pytest.param([(4, 1, 1)], [], (1, 2), [2], id="four tasks leave no slack on two slots"),
        pytest.param([(1, 1, 0), (1, 6, 2), (1, 4, 1)], [(0, 1)], (1, 1), [1, 0, 0], id="an unplanned part counts"),
    ],
)
def test_a_plan_starts_what_cannot_wait(
    stages: list[tuple[int, float, int]], edges: list[tuple[int, int]], slots: tuple[int, int], expected: list[int]
) -> None:
    assert due(stages, edges, slots) == expected


def case(observe: Any, a: int = 0, b: int = 0, d: int = 0, time_s: float = 1.0) -> Any:
    """Return two jobs on four regular executors, after so many tasks of stages a, b and d have been started.

    The first job has a (10 s) and b (2 s) ready and c (1 s, LLM) after both; the second has three tasks of 1 s in d.
    """
    busy, rest = a + b + d, {"kind": REGULAR, "slots": 1}
    free = 4 - busy
    stages = [("a", 1 - a), ("b", 1 - b), ("d", 3 - d)]
    listed = [name for name, waiting in stages if waiting]
    row = {name: listed.index(name) if name in listed else -1 for name, _ in stages}
    job_of = {"a": 0, "b": 0, "d": 1}
    return observe(
        [{"job": job_of[name], "free_slots": free} for name in listed],
        [{"remaining_s": 13, "tasks_running": a + b}, {"remaining_s": 3, "tasks_running": d}],
        executors=[
            {"kind": 0, "slots": 2, "running": 0},
            *({**rest, "running": 1} for _ in range(busy)),
            *({**rest, "running": 0} for _ in range(free)),
        ],
        nodes=[
            {
                "job": 0,
                "kind": 1,
                "candidate": row["a"],
                "tasks_waiting": 1 - a,
                "tasks_running": a,
                "work_s": 10,
                "path_s": 11,
            },
            {
                "job": 0,
                "kind": 1,
                "candidate": row["b"],
                "tasks_waiting": 1 - b,
                "tasks_running": b,
                "work_s": 2,
                "path_s": 3,
            },
            {"job": 0, "kind": 0, "candidate": -1, "tasks_waiting": 1, "work_s": 1, "path_s": 1},
            {
                "job": 1,
                "kind": 1,
                "candidate": row["d"],
                "tasks_waiting": 3 - d,
                "tasks_running": d,
                "work_s": 3,
                "path_s": 1,
            },
        ],
        edges=[(0, 2), (1, 2)],
        time_s=time_s,
    )


def test_shares_then_altruism_then_leftovers_to_the_shortest_job(observe: Any) -> None:
    # Each job may use two of the four executors. The first starts a and gives up the slot of b; the second starts one
    # task of d. The two executors that are left go to the second job, which has less to do, and b comes last.
    assert decide(case(observe)) == [(0, 1), (3, 1), (3, 2), (1, 1)]


def test_decisions_of_one_instant_are_replayed_until_the_slots_are_gone(observe: Any) -> None:
    policy = Carbyne()
    policy.reset({})
    assert policy.act(case(observe)) == 0  # a
    assert policy.act(case(observe, a=1)) == 1  # d: b's row comes first, but b waits
    assert policy.act(case(observe, a=1, d=1)) == 1
    assert policy.act(case(observe, a=1, d=2)) == 1
    assert policy.act(case(observe, a=1, d=3)) == 8  # nothing is free: wait
    later = case(observe, a=0, d=3, time_s=2.0)  # another instant is decided anew
    assert policy.act(later) == 0


def test_a_candidate_outside_the_graph_is_still_dispatched(observe: Any) -> None:
    policy = Carbyne()
    policy.reset({})
    executors = [{"kind": 0, "slots": 1}, {"kind": 1, "slots": 1}]
    assert policy.act(observe([{"job": -1}], [], executors=executors, jobs_present=1)) == 0
