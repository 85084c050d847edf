"""The scheduling problem that a graph observation shows: all unfinished stages, on all executors.

What a stage costs on an executor is read from the tables:

- one that is *ready*: when the executor may take it, and how long its next task takes there, by ``placements``;
- one that is *not ready* yet: its expected duration, which is by the first executor that serves its model, times how
  many times slower the executor generates (``models``). ``state=aware`` adds what loading or waiting for its model
  would take where it is not, as of now; ``state=blind`` leaves that out, and for ready stages loading and fetching
  (`llmsched_gym.policies.placement`);
- one that *runs*, with no task left to start, holds its children back for its expected duration.

Assumed: the tasks of a stage run beside each other, so that it takes as long as one; an executor that has room for many
tasks is held for as long as the tasks take, over its slots; a stage that may be skipped takes its expected duration; a
sub-DAG that is not planned yet holds no executor; a link carries ``gb_per_s`` (links are not in the observation);
stages that are not ready yet may have every executor from now on, whatever it runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel
from llmsched_gym.envs.columns import Ahead, Candidate, Executor, Node, Placement, Residency, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.list_schedules import Ints, Problem
from llmsched_gym.policies.placement import State
from llmsched_gym.workloads.template import StageKind

Table = NDArray[np.float32]


def window_problem(obs: Observation, state: State, gb_per_s: float) -> tuple[Problem, Ints]:
    """Read the problem from an observation.

    Args:
        obs: A graph observation of an environment with ``placement="agent"``.
        state: Whether costs count what the state of executors adds.
        gb_per_s: Assumed rate of the links.

    Returns:
        The problem, and the row of ``candidates`` of each of its tasks, -1 for those that are not ready: int64 (n,).
        Candidates of jobs that the graph leaves out come last, without children.
    """
    system = obs["system"]
    count = int(system[System.NODES])
    *arrays, rows = _read(
        obs["candidates"][: int(system[System.CANDIDATES])],
        obs["placements"],
        obs["executors"],
        obs["models"],
        obs["nodes"][:count],
        obs["edges"][: int(system[System.EDGES])],
        obs["ahead"][:count],
        state == "aware",
        1.0 / (gb_per_s * 1e9),
    )
    return Problem(*arrays), rows


@allocating_kernel
def _read(
    candidates: Table,
    placements: Table,
    executors: Table,
    models: Table,
    nodes: Table,
    edges: NDArray[np.int32],
    ahead: Table,
    aware: bool,
    s_per_byte: float,
) -> Any:
    """Return the arrays of a `Problem`, and the candidate row of each task."""
    listed, task_of, n = np.zeros(len(candidates), np.bool_), np.full(len(nodes), -1), 0
    for v in range(len(nodes)):
        row = int(nodes[v, Node.CANDIDATE])
        if row >= 0:
            listed[row] = True
        if row >= 0 or nodes[v, Node.TASKS_RUNNING] == 0:
            task_of[v] = n
            n += 1
    rows = np.full(n + (~listed).sum(), -1)
    node_of = np.full(len(rows), -1)
    for v in range(len(nodes)):
        if task_of[v] >= 0:
            rows[task_of[v]], node_of[task_of[v]] = int(nodes[v, Node.CANDIDATE]), v
    for row in range(len(candidates)):
        if not listed[row]:
            rows[n] = row
            n += 1
    cost, earliest = np.full((n, len(executors)), np.inf), np.zeros((n, len(executors)))
    held = np.zeros((n, len(executors)))
    for i in range(n):
        if rows[i] >= 0:
            for e in range(len(executors)):
                shown = placements[rows[i], e]
                if shown[Placement.SERVES] == 0:
                    continue
                earliest[i, e] = shown[Placement.WAIT_S]
                cost[i, e] = shown[Placement.TASK_S]
                if aware:
                    cost[i, e] += max(shown[Placement.LOAD_S], shown[Placement.FETCH_S])
                tasks = candidates[rows[i], Candidate.TASKS_WAITING]
                held[i, e] = cost[i, e] * min(tasks / max(executors[e, Executor.SLOTS], 1.0), 1.0)
            continue
        node, model = nodes[node_of[i]], int(ahead[node_of[i], Ahead.MODEL])
        kind, reference_s = int(node[Node.KIND]), 0.0
        for e in range(len(executors)):
            if kind == StageKind.DYNAMIC:
                cost[i, e] = node[Node.DURATION_S]
                continue
            if kind != int(executors[e, Executor.KIND]) or (model >= 0 and models[e, model, Residency.SERVES] == 0):
                continue
            cost[i, e] = node[Node.DURATION_S]
            if model >= 0:
                there = models[e, model]
                if reference_s == 0.0:
                    reference_s = there[Residency.STEP_S]
                if reference_s > 0.0:
                    cost[i, e] *= there[Residency.STEP_S] / reference_s
                if aware:
                    resident = there[Residency.RESIDENT] > 0
                    cost[i, e] += there[Residency.LOADING_S] if resident else there[Residency.LOAD_S]
            slots = max(executors[e, Executor.SLOTS], 1.0)
            held[i, e] = cost[i, e] * min(node[Node.TASKS_WAITING] / slots, 1.0)
    for i in range(n):
        if cost[i].min() == np.inf:  # nothing that is shown serves it: it counts as one that holds no executor
            cost[i] = nodes[node_of[i], Node.DURATION_S] if rows[i] < 0 else 0.0
    links, transfer, m = np.empty((len(edges), 2), np.int64), np.empty(len(edges)), 0
    for k in range(len(edges)):
        parent, child = edges[k, 0], edges[k, 1]
        if task_of[child] < 0:
            continue
        if task_of[parent] < 0:
            for e in range(len(executors)):
                after = nodes[parent, Node.DURATION_S]
                earliest[task_of[child], e] = max(earliest[task_of[child], e], after)
            continue
        links[m, 0], links[m, 1] = task_of[parent], task_of[child]
        transfer[m] = ahead[parent, Ahead.OUTPUT_BYTES] * s_per_byte
        m += 1
    return cost, links[:m], transfer[:m], earliest, held, rows
