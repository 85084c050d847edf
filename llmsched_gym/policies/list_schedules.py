"""List schedules of a graph of tasks on unrelated processors: HEFT, CPOP and PEFT, on arrays alone.

Topcuoglu, Hariri and Wu (IEEE TPDS 13(3), 2002; doi 10.1109/71.993206) for HEFT and CPOP; Arabnejad and Barbosa (IEEE
TPDS 25(3), 2014; doi 10.1109/TPDS.2013.57) for PEFT. All three give each task a priority, take the ready task of the
highest one, and put it on a processor, into an idle gap if it fits there. Both papers' examples come out as printed
(``tests/policies/test_list_schedules.py``).

What is more here than there, since processors of ours do not serve every task, and are not empty:

- a cost may be infinite; means are over the others, and each task has one that is not;
- ``earliest`` tells how soon a task may begin on a processor, whatever the schedule;
- ``held`` tells how long a task keeps a processor, which may be less than it takes: a processor that runs many tasks at
  once;
- CPOP's processor of the critical path is the one that serves most tasks of the path, and of those the quickest. Tasks
  of the path that it does not serve go where they finish first.

A graph of several components is one with an entry and an exit that cost nothing. Everywhere: n tasks in a topological
order, p processors, m edges; seconds; of equal choices the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Problem(NamedTuple):
    """What is to be scheduled.

    Attributes:
        cost: float64 (n, p). Seconds of each task on each processor.
        edges: int64 (m, 2). Parent and child; parents ascending.
        transfer: float64 (m,). Seconds that the child waits after its parent if they are on different processors.
        earliest: float64 (n, p). Earliest start.
        held: float64 (n, p). Seconds that the processor is taken.
    """

    cost: Floats
    edges: Ints
    transfer: Floats
    earliest: Floats
    held: Floats


class Schedule(NamedTuple):
    """Where and when each task runs.

    Attributes:
        processor: int64 (n,).
        start: float64 (n,).
        finish: float64 (n,).
        priority: float64 (n,).
    """

    processor: Ints
    start: Floats
    finish: Floats
    priority: Floats


def problem(cost: Any, edges: Any, transfer: Any) -> Problem:
    """Return the problem as the papers have it: all processors are empty, and run one task at a time."""
    costs = np.asarray(cost, np.float64)
    pairs = np.asarray(edges, np.int64).reshape(-1, 2)
    return Problem(costs, pairs, np.asarray(transfer, np.float64), np.zeros_like(costs), costs)


@allocating_kernel
def heft(given: Problem) -> Schedule:
    """Schedule by HEFT: the longest path to the end first, on the processor where the task finishes first."""
    upward = upward_ranks(given, mean_costs(given.cost))
    processor, start, finish = _insert(given, upward, _nowhere(given), np.zeros_like(given.cost))
    return Schedule(processor, start, finish, upward)


@allocating_kernel
def cpop(given: Problem) -> Schedule:
    """Schedule by CPOP: tasks on the longest paths first, those of the critical path all on one processor."""
    means = mean_costs(given.cost)
    upward = upward_ranks(given, means)
    priority = upward + downward_ranks(given, means)
    fixed = _critical_processor(given, upward)
    processor, start, finish = _insert(given, priority, fixed, np.zeros_like(given.cost))
    return Schedule(processor, start, finish, priority)


@allocating_kernel
def peft(given: Problem) -> Schedule:
    """Schedule by PEFT: the longest optimistic rest first, where the task's finish and that rest are smallest."""
    rest = optimistic_costs(given)
    priority = mean_costs(np.where(given.cost < np.inf, rest, np.inf))
    processor, start, finish = _insert(given, priority, _nowhere(given), rest)
    return Schedule(processor, start, finish, priority)


@allocating_kernel
def _nowhere(given: Problem) -> Ints:
    return np.full(len(given.cost), -1)


@allocating_kernel
def mean_costs(cost: Floats) -> Floats:
    """Return the mean of each row's finite numbers, (n,); 0 of a row without."""
    means = np.zeros(len(cost))
    for i in range(len(cost)):
        total, served = 0.0, 0
        for p in range(cost.shape[1]):
            if cost[i, p] < np.inf:
                total += cost[i, p]
                served += 1
        means[i] = total / max(served, 1)
    return means


@allocating_kernel
def upward_ranks(given: Problem, means: Floats) -> Floats:
    """Return the length of the longest path from each task to the end, the task included, (n,)."""
    ranks = means.copy()
    for k in range(len(given.edges) - 1, -1, -1):  # parents ascend: all that follows a child has been seen
        parent, child = given.edges[k, 0], given.edges[k, 1]
        ranks[parent] = max(ranks[parent], means[parent] + given.transfer[k] + ranks[child])
    return ranks


@allocating_kernel
def downward_ranks(given: Problem, means: Floats) -> Floats:
    """Return the length of the longest path from the beginning to each task, without the task, (n,)."""
    ranks = np.zeros(len(means))
    for k in range(len(given.edges)):
        parent, child = given.edges[k, 0], given.edges[k, 1]
        ranks[child] = max(ranks[child], ranks[parent] + means[parent] + given.transfer[k])
    return ranks


@allocating_kernel
def optimistic_costs(given: Problem) -> Floats:
    """Return PEFT's optimistic cost table, (n, p): the longest rest after a task, each child where it is quickest."""
    n, processors = given.cost.shape
    table = np.zeros((n, processors))
    for k in range(len(given.edges) - 1, -1, -1):
        parent, child = given.edges[k, 0], given.edges[k, 1]
        anywhere = np.inf
        for p in range(processors):
            anywhere = min(anywhere, table[child, p] + given.cost[child, p])
        for p in range(processors):
            best = min(table[child, p] + given.cost[child, p], anywhere + given.transfer[k])
            table[parent, p] = max(table[parent, p], best)
    return table


@allocating_kernel
def _critical_processor(given: Problem, upward: Floats) -> Ints:
    """Return the processor of the critical path for its tasks, -1 for others, (n,)."""
    n, processors = given.cost.shape
    fixed = np.full(n, -1)
    if n == 0:
        return fixed
    first = np.searchsorted(given.edges[:, 0], np.arange(n + 1))
    path = np.zeros(n, np.bool_)
    at = int(np.argmax(upward))
    while at >= 0:
        path[at] = True
        after, longest = -1, -np.inf
        for k in range(first[at], first[at + 1]):
            child = given.edges[k, 1]
            if given.transfer[k] + upward[child] > longest:
                after, longest = child, given.transfer[k] + upward[child]
        at = after
    best, most, least = 0, -1, np.inf
    for p in range(processors):
        served, total = 0, 0.0
        for i in range(n):
            if path[i] and given.cost[i, p] < np.inf:
                served += 1
                total += given.cost[i, p]
        if served > most or (served == most and total < least):
            best, most, least = p, served, total
    for i in range(n):
        if path[i] and given.cost[i, best] < np.inf:
            fixed[i] = best
    return fixed


@allocating_kernel
def _insert(given: Problem, priority: Floats, fixed: Ints, rest: Floats) -> tuple[Ints, Floats, Floats]:
    """Put one task after the other on a processor, the ready one of the highest priority first.

    Args:
        given: The problem.
        priority: (n,).
        fixed: (n,). A task's processor; -1 where it is chosen.
        rest: (n, p). What is added to a finish before the smallest is chosen.

    Returns:
        Processor, start and finish of each task.
    """
    n, processors = given.cost.shape
    processor, start, finish = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    first = np.searchsorted(given.edges[:, 0], np.arange(n + 1))
    pending, ready_at = np.zeros(n, np.int64), given.earliest.copy()
    for k in range(len(given.edges)):
        pending[given.edges[k, 1]] += 1
    order = np.argsort(-priority, kind="mergesort")
    place, ready, at = np.empty(n, np.int64), np.empty(n, np.bool_), 0  # all by place in that order
    for k in range(n):
        place[order[k]] = k
        ready[k] = pending[order[k]] == 0
    begins, ends = np.empty((processors, n)), np.empty((processors, n))  # of what holds each processor, ascending
    count = np.zeros(processors, np.int64)
    for _ in range(n):
        while not ready[at]:
            at += 1
        i = order[at]
        ready[at] = False
        best, best_start, best_gap, least = -1, 0.0, 0, np.inf
        for p in range(processors):
            if given.cost[i, p] == np.inf or fixed[i] not in (-1, p):
                continue
            begin, gap = ready_at[i, p], 0  # before what is that far on the processor
            while gap < count[p]:
                if ends[p, gap] > begin:
                    if begin + given.held[i, p] <= begins[p, gap]:
                        break
                    begin = ends[p, gap]
                gap += 1
            score = begin + given.cost[i, p] + rest[i, p]
            if best < 0 or score < least:
                best, best_start, best_gap, least = p, begin, gap, score
        processor[i], start[i], finish[i] = best, best_start, best_start + given.cost[i, best]
        if given.held[i, best] > 0.0:
            for k in range(count[best], best_gap, -1):
                begins[best, k], ends[best, k] = begins[best, k - 1], ends[best, k - 1]
            begins[best, best_gap], ends[best, best_gap] = best_start, best_start + given.held[i, best]
            count[best] += 1
        for k in range(first[i], first[i + 1]):
            child = given.edges[k, 1]
            for p in range(processors):
                arrives = finish[i] + (given.transfer[k] if p != best else 0.0)
                ready_at[child, p] = max(ready_at[child, p], arrives)
            pending[child] -= 1
            if pending[child] == 0:
                ready[place[child]] = True
                at = min(at, place[child])
    return processor, start, finish
