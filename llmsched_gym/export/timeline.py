"""What happened on a cluster so far: which task held which slot when, and how queues grew. For pictures and traces.

The state records on which executor a task ran, not in which of its slots: batched sequences have no place of their
own. Slots are therefore assigned here, first fit by start time, and called lanes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel
from llmsched_gym.cluster.state import FAR, ClusterState


class Timeline(NamedTuple):
    """Every task dispatched so far, ordered by lane, then by start. Tasks of one lane never overlap.

    Attributes:
        task: int64 (n,). Row in ``state.tasks``.
        lane: int64 (n,). Lanes are numbered over all executors: the slots of executor 0 come first.
        start_ns: int64 (n,).
        end_ns: int64 (n,). The present time for tasks that still run.
        first_lane: int64 (n_executors + 1,). First lane of each executor, then the number of lanes.
    """

    task: NDArray[np.int64]
    lane: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    first_lane: NDArray[np.int64]


class ModelSpans(NamedTuple):
    """When which model was the active one of executors that serve several, ordered by executor, then by time.

    Attributes:
        executor: int64 (n,).
        model: int64 (n,). Pool of its tasks: index into ``Workload.models``.
        start_ns: int64 (n,). When it was asked for: the dispatch of its first task.
        ready_ns: int64 (n,). When it was there.
        end_ns: int64 (n,). When another one was asked for, or the present time.
    """

    executor: NDArray[np.int64]
    model: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    ready_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]


class Steps(NamedTuple):
    """A number that changes at instants.

    Attributes:
        time_ns: int64 (n,), ascending, all different.
        value: int64 (n,). From that time until the next.
    """

    time_ns: NDArray[np.int64]
    value: NDArray[np.int64]


def timeline(state: ClusterState, *, used_lanes_only: bool = False) -> Timeline:
    """Assign every task dispatched so far to a lane of its executor: the first one free at its start.

    Args:
        state: The episode.
        used_lanes_only: Leave out lanes that no task is on, but for the first of each executor.
    """
    tasks = state.tasks
    started = np.flatnonzero(tasks["start_ns"] != FAR)
    start_ns = tasks["start_ns"][started].astype(np.int64)
    finish_ns = tasks["finish_ns"][started].astype(np.int64)
    executor = tasks["executor"][started].astype(np.int64)
    by_start = np.lexsort((started, finish_ns, start_ns, executor))  # tasks that take no time precede others
    first_lane = np.concatenate([[0], np.cumsum(state.executors["slots"], dtype=np.int64)])
    lane = np.zeros(len(started), np.int64)
    lane[by_start] = _first_fit(executor[by_start], start_ns[by_start], finish_ns[by_start], first_lane)
    end_ns = np.minimum(finish_ns, state.clock["now_ns"][0])
    if used_lanes_only:
        used = np.ones(len(state.executors), np.int64)
        np.maximum.at(used, executor, lane - first_lane[executor] + 1)
        fewer = np.concatenate([[0], np.cumsum(used)])
        lane += (fewer - first_lane)[executor]
        first_lane = fewer
    order = np.lexsort((started, end_ns, start_ns, lane))
    return Timeline(started[order], lane[order], start_ns[order], end_ns[order], first_lane)


def model_spans(state: ClusterState) -> ModelSpans:
    """Return when which model was the active one of the executors that serve several."""
    tasks, now_ns = state.tasks, int(state.clock["now_ns"][0])
    several = state.executors["serves"][tasks["executor"]] != 0
    rows = np.flatnonzero((tasks["start_ns"] != FAR) & several)
    executor = tasks["executor"][rows].astype(np.int64)
    model = state.stages["pool"][tasks["stage"][rows]].astype(np.int64)
    start_ns = tasks["start_ns"][rows].astype(np.int64)
    load_ns = tasks["load_ns"][rows].astype(np.int64)
    order = np.lexsort((-load_ns, start_ns, executor))  # of several at an instant, the first brought the model
    executor, model, start_ns, load_ns = executor[order], model[order], start_ns[order], load_ns[order]
    same = (executor[1:] == executor[:-1]) & (model[1:] == model[:-1])
    first = np.flatnonzero(np.append(np.ones(min(len(rows), 1), np.bool_), ~same))
    executor, model, start_ns, load_ns = executor[first], model[first], start_ns[first], load_ns[first]
    followed = np.append(executor[1:] == executor[:-1], np.zeros(min(len(first), 1), np.bool_))
    end_ns = np.where(followed, np.append(start_ns[1:], 0)[: len(first)], now_ns)
    return ModelSpans(executor, model, start_ns, np.minimum(start_ns + load_ns, end_ns), end_ns)


@allocating_kernel
def _first_fit(
    executor: NDArray[np.int64],
    start_ns: NDArray[np.int64],
    finish_ns: NDArray[np.int64],
    first_lane: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the lane of each task; an executor never holds more tasks than it has lanes."""
    free_ns = np.zeros(first_lane[-1], np.int64)
    lanes = np.zeros(len(executor), np.int64)
    for i in range(len(executor)):
        for lane in range(first_lane[executor[i]], first_lane[executor[i] + 1]):
            if free_ns[lane] <= start_ns[i]:
                lanes[i] = lane
                free_ns[lane] = finish_ns[i]
                break
    return lanes


def jobs_in_system(state: ClusterState) -> Steps:
    """Return the number of jobs that have arrived and are not finished, over time."""
    arrived = state.jobs["arrival_ns"][: state.clock["arrived"][0]]
    left = state.jobs["finish_ns"][state.jobs["finish_ns"] != FAR]
    return _steps(np.concatenate([arrived, left]), np.repeat([1, -1], [len(arrived), len(left)]))


def ready_tasks(state: ClusterState) -> Steps:
    """Return the number of tasks whose stage is ready and that have not been dispatched, over time."""
    ready = state.stages[state.stages["ready_ns"] != FAR]
    started = state.tasks["start_ns"][state.tasks["start_ns"] != FAR]
    changes = np.concatenate([ready["n_tasks"], np.full(len(started), -1)])
    return _steps(np.concatenate([ready["ready_ns"], started]), changes)


def _steps(time_ns: NDArray[np.int64], changes: NDArray[np.integer]) -> Steps:
    """Add up changes; those of one instant count as one."""
    order = np.argsort(time_ns, kind="stable")
    sorted_ns = time_ns[order]
    last = np.flatnonzero(np.append(sorted_ns[1:] != sorted_ns[:-1], np.ones(min(len(order), 1), np.bool_)))
    return Steps(sorted_ns[last], np.cumsum(changes[order], dtype=np.int64)[last])


def executor_names(state: ClusterState) -> list[str]:
    """Return the executors' names in pictures and traces; the number is the row in observations and actions."""
    return [f"{'LLM' if row['n_engines'] > 0 else 'regular'} {e}" for e, row in enumerate(state.executors)]
