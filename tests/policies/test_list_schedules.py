"""List schedules beside the papers' examples, plain definitions, and the best of all schedules of small graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmsched_gym.policies.list_schedules import (
    Problem,
    Schedule,
    cpop,
    downward_ranks,
    heft,
    mean_costs,
    optimistic_costs,
    peft,
    problem,
    upward_ranks,
)

ALGORITHMS = (heft, cpop, peft)
Algorithm = Callable[[Problem], Schedule]


def published(costs: list[list[float]], edges: list[tuple[int, int, float]]) -> Problem:
    """A problem whose tasks count from 1."""
    return problem(costs, [(parent - 1, child - 1) for parent, child, _ in edges], [seconds for *_, seconds in edges])


TOPCUOGLU = published(  # TPDS 2002, figures 1 to 4
    [
        [14, 16, 9],
        [13, 19, 18],
        [11, 13, 19],
        [13, 8, 17],
        [12, 13, 10],
        [13, 16, 9],
        [7, 15, 11],
        [5, 11, 14],
        [18, 12, 20],
        [21, 7, 16],
    ],
    [
        *((1, 2, 18), (1, 3, 12), (1, 4, 9), (1, 5, 11), (1, 6, 14), (2, 8, 19), (2, 9, 16), (3, 7, 23)),
        *((4, 8, 27), (4, 9, 23), (5, 9, 13), (6, 8, 15), (7, 10, 17), (8, 10, 11), (9, 10, 13)),
    ],
)
ARABNEJAD = published(  # TPDS 2014, figure 1
    [
        [22, 21, 36],
        [22, 18, 18],
        [32, 27, 43],
        [7, 10, 4],
        [29, 27, 35],
        [26, 17, 24],
        [14, 25, 30],
        [29, 23, 36],
        [15, 21, 8],
        [13, 16, 33],
    ],
    [
        *((1, 2, 17), (1, 3, 31), (1, 4, 29), (1, 5, 13), (1, 6, 7), (2, 8, 3), (2, 9, 30), (3, 7, 16)),
        *((4, 8, 11), (4, 9, 7), (5, 9, 57), (6, 8, 5), (7, 10, 9), (8, 10, 42), (9, 10, 7)),
    ],
)


def test_heft_and_cpop_on_the_example_of_their_paper() -> None:
    by_heft, by_cpop = heft(TOPCUOGLU), cpop(TOPCUOGLU)
    assert by_heft.finish.max() == 80
    assert by_cpop.finish.max() == 86
    ranks = [108, 77, 80, 80, 69, 63.333, 42.667, 35.667, 44.333, 14.667]
    assert by_heft.priority.tolist() == pytest.approx(ranks, abs=1e-3)
    assert by_cpop.priority.tolist()[:5] == pytest.approx([108, 108, 105, 102, 93])
    assert by_cpop.processor[[0, 1, 8, 9]].tolist() == [1, 1, 1, 1]  # the critical path


def test_peft_on_the_example_of_its_paper() -> None:
    table = [
        *([64, 68, 86], [42, 39, 42], [27, 41, 43], [42, 39, 50], [28, 37, 28]),
        *([42, 39, 44], [13, 16, 22], [13, 16, 33], [13, 16, 20], [0, 0, 0]),
    ]
    assert optimistic_costs(ARABNEJAD).tolist() == table
    found = peft(ARABNEJAD)
    assert found.priority == pytest.approx(np.mean(table, axis=1))
    assert found.processor.tolist() == [0, 0, 0, 0, 2, 1, 0, 1, 2, 1]
    assert found.start.tolist() == [0, 29, 51, 22, 35, 29, 83, 54, 81, 106]
    assert found.finish.tolist() == [22, 51, 83, 29, 70, 46, 97, 77, 89, 122]
    assert heft(ARABNEJAD).finish.max() == 133


def drawn(rng: np.random.Generator, tasks: int, processors: int, plain: bool) -> Problem:
    """A random problem; unless it is plain, with processors that are taken, shared, and do not serve every task."""
    edges = [(i, j) for i in range(tasks) for j in range(i + 1, tasks) if rng.random() < 0.4]
    given = problem(rng.integers(1, 20, (tasks, processors)), edges, rng.integers(0, 20, len(edges)))
    if plain:
        return given
    serves = rng.random((tasks, processors)) < 0.6
    serves[np.arange(tasks), rng.integers(0, processors, tasks)] = True
    cost = np.where(serves, given.cost, np.inf)
    earliest = rng.integers(0, 10, (tasks, processors)).astype(np.float64)
    held = np.where(serves, given.cost * rng.choice([0.0, 0.5, 1.0], (tasks, 1)), 0.0)
    return given._replace(cost=cost, earliest=earliest, held=held)


def test_ranks_are_what_their_definitions_say() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        given = drawn(rng, int(rng.integers(1, 9)), 3, plain=bool(rng.integers(2)))
        n, processors = given.cost.shape
        edges = [(i, j, c) for (i, j), c in zip(given.edges.tolist(), given.transfer.tolist(), strict=True)]
        costs: list[list[float]] = given.cost.tolist()
        means = [np.mean([c for c in row if c < np.inf]) for row in costs]

        def up(i: int, edges: Any = edges, means: Any = means) -> float:
            return means[i] + max((c + up(b, edges, means) for a, b, c in edges if a == i), default=0.0)

        def down(i: int, edges: Any = edges, means: Any = means) -> float:
            return max((down(a, edges, means) + means[a] + c for a, b, c in edges if b == i), default=0.0)

        def rest(i: int, p: int, edges: Any = edges, w: Any = costs) -> float:
            return max(
                (
                    min(rest(b, q, edges, w) + w[b][q] + (c if p != q else 0.0) for q in range(len(w[b])))
                    for a, b, c in edges
                    if a == i
                ),
                default=0.0,
            )

        assert mean_costs(given.cost) == pytest.approx(means)
        assert upward_ranks(given, mean_costs(given.cost)) == pytest.approx([up(i) for i in range(n)])
        assert downward_ranks(given, mean_costs(given.cost)) == pytest.approx([down(i) for i in range(n)])
        table = [[rest(i, p) for p in range(processors)] for i in range(n)]
        assert optimistic_costs(given) == pytest.approx(np.array(table))


def check(given: Problem, found: Schedule) -> None:
    """Check that a schedule keeps to the problem."""
    each = np.arange(len(given.cost))
    cost, held = given.cost[each, found.processor], given.held[each, found.processor]
    assert np.isfinite(cost).all()
    assert found.finish == pytest.approx(found.start + cost)
    assert (found.start >= given.earliest[each, found.processor]).all()
    for (parent, child), seconds in zip(given.edges.tolist(), given.transfer.tolist(), strict=True):
        apart = found.processor[parent] != found.processor[child]
        assert found.start[child] >= found.finish[parent] + (seconds if apart else 0.0) - 1e-9
    for a in each:
        for b in each[:a]:
            if found.processor[a] == found.processor[b] and min(held[a], held[b]) > 0:
                early, late = (a, b) if found.start[a] < found.start[b] else (b, a)
                assert found.start[late] >= found.start[early] + held[early] - 1e-9


def optimum(given: Problem) -> float:
    """The shortest makespan, by trying every order of tasks on every processor."""
    n, processors = given.cost.shape
    parents: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for (parent, child), seconds in zip(given.edges.tolist(), given.transfer.tolist(), strict=True):
        parents[child].append((parent, seconds))
    best = np.inf

    def place(where: dict[int, tuple[int, float]], free: tuple[float, ...], end: float) -> None:
        nonlocal best
        if end >= best:
            return
        if len(where) == n:
            best = end
            return
        for i in range(n):
            if i in where or any(parent not in where for parent, _ in parents[i]):
                continue
            for p in range(processors):
                arrivals = (where[q][1] + (c if where[q][0] != p else 0.0) for q, c in parents[i])
                finish = max(free[p], *arrivals, 0.0) + given.cost[i, p]
                place({**where, i: (p, finish)}, (*free[:p], finish, *free[p + 1 :]), max(end, finish))

    place({}, (0.0,) * processors, 0.0)
    return float(best)


def test_no_schedule_is_shorter_than_the_best_of_all_and_all_are_schedules() -> None:
    rng = np.random.default_rng(2)
    over = {algorithm: [] for algorithm in ALGORITHMS}
    for _ in range(25):
        given = drawn(rng, int(rng.integers(1, 7)), 2, plain=True)
        best = optimum(given)
        for algorithm in ALGORITHMS:
            found = algorithm(given)
            check(given, found)
            assert found.finish.max() >= best - 1e-9
            over[algorithm].append(found.finish.max() / best)
    assert all(min(ratios) == 1.0 and np.mean(ratios) < 1.3 for ratios in over.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_processors_that_are_taken_shared_or_serve_little_are_respected(algorithm: Algorithm) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        given = drawn(rng, int(rng.integers(1, 15)), int(rng.integers(1, 5)), plain=False)
        check(given, algorithm(given))


def test_a_task_goes_into_a_gap_where_it_fits() -> None:
    """Between the first task and its child, which has to wait for what the second one sends."""
    costs = [[2, 99], [99, 2], [4, 99], [3, 99]]
    given = problem(costs, [(0, 2), (1, 2)], [0, 3])
    assert heft(given).start.tolist() == [0, 0, 5, 2]
    given.cost[3, 0] = 4
    assert heft(given).start.tolist() == [0, 0, 5, 9]


def test_a_processor_that_is_held_for_less_takes_the_next_task_sooner() -> None:
    given = problem([[8], [8]], [], [])
    assert heft(given).start.tolist() == [0, 8]
    assert heft(given._replace(held=given.cost / 4)).start.tolist() == [0, 2]
    assert heft(given._replace(held=given.cost * 0)).start.tolist() == [0, 0]


def test_what_the_processor_of_the_critical_path_does_not_serve_goes_elsewhere() -> None:
    given = problem([[4, 5], [np.inf, 3], [9, 7], [1, np.inf]], [(0, 1), (1, 2)], [1, 1])
    assert cpop(given).processor.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_task_is_no_schedule(algorithm: Algorithm) -> None:
    assert len(algorithm(problem(np.empty((0, 2)), [], [])).finish) == 0
