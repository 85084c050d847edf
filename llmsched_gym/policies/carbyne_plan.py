"""Carbyne's plan of one job: what must start now for the job to finish as early as with its whole share."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel

_TOLERANCE: Final = 1e-6
"""Seconds: times closer than this are the same time; sums along two paths round differently."""


@allocating_kernel
def tasks_due_now(
    tasks: NDArray[np.int64],
    seconds: NDArray[np.float64],
    kind: NDArray[np.int64],
    edges: NDArray[np.int32],
    slots: NDArray[np.int64],
) -> Any:
    """Plan a job's remaining stages backwards from its earliest finish, and return what that plan starts at once.

    The earliest finish is that of a forward list schedule within the quota. A second list schedule, of the reversed
    graph from that finish towards now, puts every task as late as it can be.

    Args:
        tasks: (n,) unfinished tasks of each stage, at least 1; stages in a topological order.
        seconds: (n,) expected duration of one task.
        kind: (n,) which of `slots` the stage's tasks occupy.
        edges: (m, 2) parent and child; parents ascending.
        slots: Quota of each kind, at least 1.

    Returns:
        int64 (n,) tasks of each stage that the plan has running now.
    """
    finish, _ = _list_schedule(tasks, seconds, kind, edges, slots, False, np.inf)
    _, due = _list_schedule(tasks, seconds, kind, edges, slots, True, finish)
    return due


@allocating_kernel
def _list_schedule(tasks, seconds, kind, edges, slots, backwards, horizon):
    """Start whatever is ready whenever a slot is free, the longest path first.

    Backwards, children come before their parents.

    Returns:
        (length of the schedule, tasks of each stage that end at `horizon` or later).
    """
    n, m = len(tasks), len(edges)
    before, after = (1, 0) if backwards else (0, 1)
    path = seconds.copy()
    pending = np.zeros(n, np.int64)
    for k in range(m):
        # Parents ascend, so this order has seen all paths beyond `after` before it extends them to `before`.
        edge = edges[k if backwards else m - 1 - k]
        path[edge[before]] = max(path[edge[before]], seconds[edge[before]] + path[edge[after]])
        pending[edge[after]] += 1
    waiting, unfinished, free = tasks.copy(), tasks.copy(), slots.copy()
    late = np.zeros(n, np.int64)
    total = 0
    for v in range(n):
        total += tasks[v]
    ends = np.empty(total, np.float64)  # batches of tasks that started together
    stages = np.empty(total, np.int64)
    counts = np.empty(total, np.int64)
    batches = 0
    now = 0.0
    while total > 0:
        while True:
            best = -1
            for v in range(n):
                ready = pending[v] == 0 and waiting[v] > 0 and free[kind[v]] > 0
                if ready and (best < 0 or path[v] > path[best]):
                    best = v
            if best < 0:
                break
            count = min(waiting[best], free[kind[best]])
            waiting[best] -= count
            free[kind[best]] -= count
            ends[batches], stages[batches], counts[batches] = now + seconds[best], best, count
            batches += 1
            if now + seconds[best] >= horizon - _TOLERANCE:
                late[best] += count
        now = ends[:batches].min()
        b = 0
        while b < batches:
            if ends[b] > now:
                b += 1
                continue
            v, count = stages[b], counts[b]
            batches -= 1
            ends[b], stages[b], counts[b] = ends[batches], stages[batches], counts[batches]
            free[kind[v]] += count
            unfinished[v] -= count
            total -= count
            if unfinished[v] == 0:
                for k in range(m):
                    if edges[k, before] == v:
                        pending[edges[k, after]] -= 1
    return now, late
