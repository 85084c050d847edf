"""What a policy sees: compiled writers of the observation tables, from revealed facts only."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel, inlined_kernel, kernel
from llmsched_gym.cluster.state import ClusterState, Rows, StageStatus
from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth
from llmsched_gym.profiler.beliefs import HISTORY_DEVIATIONS
from llmsched_gym.workloads.template import StageKind

_HIDDEN: Final = int(StageStatus.HIDDEN)
_DONE: Final = int(StageStatus.DONE)
_LLM: Final = int(StageKind.LLM)
_SECONDS: Final = 1e-9  # per nanosecond

# Columns as plain integers, which Numba folds into the compiled code.
_C_JOB: Final = int(Candidate.JOB)
_C_APP: Final = int(Candidate.APP)
_C_NODE: Final = int(Candidate.NODE)
_C_KIND: Final = int(Candidate.KIND)
_C_WAITING: Final = int(Candidate.TASKS_WAITING)
_C_RUNNING: Final = int(Candidate.TASKS_RUNNING)
_C_DONE: Final = int(Candidate.TASKS_DONE)
_C_READY: Final = int(Candidate.READY_S)
_C_PROMPT: Final = int(Candidate.PROMPT_TOKENS)
_C_WORK: Final = int(Candidate.WORK_S)
_C_DURATION: Final = int(Candidate.DURATION_S)
_C_PATH: Final = int(Candidate.PATH_S)
_C_INFLUENCE: Final = int(Candidate.INFLUENCE)
_C_FREE: Final = int(Candidate.FREE_SLOTS)

_J_APP: Final = int(Job.APP)
_J_AGE: Final = int(Job.AGE_S)
_J_ATTAINED: Final = int(Job.ATTAINED_S)
_J_REMAINING: Final = int(Job.REMAINING_S)
_J_TOTAL: Final = int(Job.TOTAL_S)
_J_PATH: Final = int(Job.PATH_S)
_J_RUNNING: Final = int(Job.TASKS_RUNNING)
_J_WAITING: Final = int(Job.TASKS_WAITING)
_J_DONE: Final = int(Job.STAGES_DONE)

_J_POSTERIOR: Final = int(Job.POSTERIOR_S)
_J_LOW: Final = int(Job.POSTERIOR_LOW_S)
_J_QUARTILE: Final = int(Job.POSTERIOR_QUARTILE_S)
_J_MEDIAN: Final = int(Job.POSTERIOR_MEDIAN_S)
_J_UPPER_QUARTILE: Final = int(Job.POSTERIOR_UPPER_QUARTILE_S)
_J_HIGH: Final = int(Job.POSTERIOR_HIGH_S)
_J_HISTORY_LOW: Final = int(Job.HISTORY_LOW_S)
_J_HISTORY_HIGH: Final = int(Job.HISTORY_HIGH_S)
_J_HISTORY: Final = int(Job.HISTORY_S)

_C_ENTROPY: Final = int(Candidate.ENTROPY)
_C_REDUCTION_SUM: Final = int(Candidate.REDUCTION_SUM)
_C_REDUCTION_PRODUCT: Final = int(Candidate.REDUCTION_PRODUCT)
_C_HISTORY_REDUCTION: Final = int(Candidate.HISTORY_REDUCTION)

_E_KIND: Final = int(Executor.KIND)
_E_SLOTS: Final = int(Executor.SLOTS)
_E_RUNNING: Final = int(Executor.RUNNING)
_E_BUSY: Final = int(Executor.BUSY_S)

_N_JOB: Final = int(Node.JOB)
_N_APP: Final = int(Node.APP)
_N_NODE: Final = int(Node.NODE)
_N_KIND: Final = int(Node.KIND)
_N_STATUS: Final = int(Node.STATUS)
_N_CANDIDATE: Final = int(Node.CANDIDATE)
_N_WAITING: Final = int(Node.TASKS_WAITING)
_N_RUNNING: Final = int(Node.TASKS_RUNNING)
_N_WORK: Final = int(Node.WORK_S)
_N_DURATION: Final = int(Node.DURATION_S)
_N_PATH: Final = int(Node.PATH_S)
_N_INFLUENCE: Final = int(Node.INFLUENCE)
_N_POSTERIOR_WORK: Final = int(Node.POSTERIOR_WORK_S)
_N_ENTROPY: Final = int(Node.ENTROPY)

_S_TIME: Final = int(System.TIME_S)
_S_JOBS: Final = int(System.JOBS)
_S_CANDIDATES: Final = int(System.CANDIDATES)
_S_HIDDEN: Final = int(System.HIDDEN_CANDIDATES)
_S_JOB_ROWS: Final = int(System.JOB_ROWS)
_S_NODES: Final = int(System.NODES)
_S_EDGES: Final = int(System.EDGES)

_T_REMAINING: Final = int(Truth.JOB_REMAINING_S)
_T_WORK: Final = int(Truth.STAGE_WORK_S)
_T_PATH: Final = int(Truth.STAGE_PATH_S)


@inlined_kernel
def write_tables(
    state: ClusterState,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
    executors: NDArray[np.float32],
    system: NDArray[np.float32],
) -> None:
    """Fill the default observation.

    Args:
        state: The cluster.
        candidates: float32 (N, len(Candidate)), zeros.
        jobs: float32 (J, len(Job)), zeros.
        executors: float32 (E, len(Executor)); the engine columns are the backend's to fill.
        system: float32 (len(System),), zeros.
    """
    clock = state.clock[0]
    now_ns = clock.now_ns
    shown_jobs = min(clock.active, len(jobs))
    for i in range(clock.active):
        job = state.jobs[state.active[i]]
        job.row = i if i < shown_jobs else -1
        if i >= shown_jobs:
            continue
        jobs[i, _J_APP] = job.app
        jobs[i, _J_AGE] = (now_ns - job.arrival_ns) * _SECONDS
        jobs[i, _J_ATTAINED] = (job.attained_ns + job.running_tasks * now_ns) * _SECONDS
        jobs[i, _J_REMAINING] = job.remaining_ns * _SECONDS
        jobs[i, _J_TOTAL] = job.total_ns * _SECONDS
        jobs[i, _J_PATH] = job.path_ns * _SECONDS
        jobs[i, _J_RUNNING] = job.running_tasks
        jobs[i, _J_WAITING] = job.waiting_tasks
        jobs[i, _J_DONE] = job.done_stages
    shown = min(clock.ready, len(candidates))
    for i in range(shown):
        stage = state.stages[state.ready[i]]
        job = state.jobs[stage.job]
        candidates[i, _C_JOB] = job.row
        candidates[i, _C_APP] = job.app
        candidates[i, _C_NODE] = stage.node
        candidates[i, _C_KIND] = stage.kind
        candidates[i, _C_WAITING] = stage.n_tasks - stage.started_tasks
        candidates[i, _C_RUNNING] = stage.started_tasks - stage.done_tasks
        candidates[i, _C_DONE] = stage.done_tasks
        candidates[i, _C_READY] = (now_ns - stage.ready_ns) * _SECONDS
        candidates[i, _C_PROMPT] = stage.next_prompt_tokens
        candidates[i, _C_WORK] = stage.work_ns * _SECONDS
        candidates[i, _C_DURATION] = stage.duration_ns * _SECONDS
        candidates[i, _C_PATH] = stage.path_ns * _SECONDS
        candidates[i, _C_INFLUENCE] = stage.influence
        candidates[i, _C_FREE] = state.pools[stage.pool].free
    for e in range(len(state.executors)):
        row = state.executors[e]
        executors[e, _E_KIND] = row.kind
        executors[e, _E_SLOTS] = row.slots
        executors[e, _E_RUNNING] = row.running
        executors[e, _E_BUSY] = row.busy_ns * _SECONDS
    system[_S_TIME] = now_ns * _SECONDS
    system[_S_JOBS] = clock.active
    system[_S_CANDIDATES] = shown
    system[_S_HIDDEN] = clock.ready - shown
    system[_S_JOB_ROWS] = shown_jobs


@inlined_kernel
def write_beliefs(
    state: ClusterState,
    job_beliefs: Rows,
    stage_beliefs: Rows,
    iteration_s: float,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
) -> None:
    """Fill the profiler's columns of the default observation.

    Args:
        state: The cluster; its observation was written.
        job_beliefs: `BELIEF` rows, up to date.
        stage_beliefs: `STAGE_BELIEF` rows, up to date.
        iteration_s: How long an iteration of the LLM executors takes now: it turns posterior LLM iterations into time.
        candidates: float32 (N, len(Candidate)).
        jobs: float32 (J, len(Job)).
    """
    for i in range(min(state.clock[0].active, len(jobs))):
        belief = job_beliefs[state.active[i]]
        mean_s = belief.llm_iterations * iteration_s + belief.regular_s
        batch_1_s = belief.llm_s + belief.regular_s
        stretch = mean_s / batch_1_s if batch_1_s > 0.0 else 1.0
        jobs[i, _J_POSTERIOR] = mean_s
        jobs[i, _J_LOW] = belief.low_s * stretch
        jobs[i, _J_QUARTILE] = belief.quartile_s * stretch
        jobs[i, _J_MEDIAN] = belief.median_s * stretch
        jobs[i, _J_UPPER_QUARTILE] = belief.upper_quartile_s * stretch
        jobs[i, _J_HIGH] = belief.high_s * stretch
        expected_s = state.jobs[state.active[i]].remaining_ns * _SECONDS
        history_s = max(expected_s - belief.history_llm_s, 0.0) + belief.history_llm_iterations * iteration_s
        stretch = history_s / expected_s if expected_s > 0.0 else 1.0
        half_s = HISTORY_DEVIATIONS * belief.history_deviation_s * stretch
        jobs[i, _J_HISTORY] = history_s
        jobs[i, _J_HISTORY_LOW] = max(history_s - half_s, 0.0)
        jobs[i, _J_HISTORY_HIGH] = history_s + half_s
    for i in range(min(state.clock[0].ready, len(candidates))):
        told = stage_beliefs[state.ready[i]]
        candidates[i, _C_ENTROPY] = told.entropy_bits
        candidates[i, _C_REDUCTION_SUM] = told.reduction_sum
        candidates[i, _C_REDUCTION_PRODUCT] = told.reduction_product
        candidates[i, _C_HISTORY_REDUCTION] = told.history_reduction


@inlined_kernel
def write_mask(state: ClusterState, can_wait: bool, placements: int, mask: NDArray[np.int8]) -> None:
    """Fill the action mask.

    Args:
        state: The cluster.
        can_wait: Whether anything will ever happen without a dispatch.
        placements: 1, or the number of executors where the action chooses one.
        mask: int8 (N * placements + 1,), zeros.
    """
    rows = (len(mask) - 1) // placements
    for i in range(min(state.clock[0].ready, rows)):
        pool = state.stages[state.ready[i]].pool
        if state.pools[pool].free == 0:
            continue
        if placements == 1:
            mask[i] = 1
            continue
        for e in range(placements):
            row = state.executors[e]
            if (row.pools >> pool) & 1 and row.running < row.slots:
                mask[i * placements + e] = 1
    mask[len(mask) - 1] = can_wait


@kernel
def write_graph(
    state: ClusterState,
    stage_beliefs: Rows,
    nodes: NDArray[np.float32],
    edges: NDArray[np.int32],
    system: NDArray[np.float32],
) -> None:
    """Fill the graph of the unfinished stages that the scheduler may know of.

    Jobs are listed whole, by arrival, as long as their nodes and edges fit.

    Args:
        state: The cluster.
        stage_beliefs: `STAGE_BELIEF` rows; none without a profiler.
        nodes: float32 (M, len(Node)), zeros.
        edges: int32 (L, 2), zeros; rows of ``nodes``, parent first.
        system: float32 (len(System),); counts of nodes and edges are set.
    """
    n_nodes, n_edges = 0, 0
    candidate = 0
    shown = int(system[_S_CANDIDATES])
    for i in range(int(system[_S_JOB_ROWS])):
        owner = state.jobs[state.active[i]]
        last = owner.first_stage + owner.n_stages
        first_node, first_edge = n_nodes, n_edges
        fits = True
        for s in range(owner.first_stage, last):
            stage = state.stages[s]
            known = stage.status < _DONE and (stage.planned == 0 or stage.status != _HIDDEN)
            stage.row = -1
            if not known or not fits:
                continue
            if n_nodes == len(nodes):
                fits = False
                continue
            while candidate < shown and state.ready[candidate] < s:
                candidate += 1
            listed = candidate < shown and state.ready[candidate] == s
            stage.row = n_nodes
            row = nodes[n_nodes]
            row[_N_JOB] = i
            row[_N_APP] = owner.app
            row[_N_NODE] = stage.node
            row[_N_KIND] = stage.kind
            row[_N_STATUS] = stage.status
            row[_N_CANDIDATE] = candidate if listed else -1
            if stage.ready_ns <= state.clock[0].now_ns:
                row[_N_WAITING] = stage.n_tasks - stage.started_tasks
            elif stage.task_work_ns > 0:
                row[_N_WAITING] = stage.work_ns / stage.task_work_ns
            row[_N_RUNNING] = stage.started_tasks - stage.done_tasks
            row[_N_WORK] = stage.work_ns * _SECONDS
            row[_N_DURATION] = stage.duration_ns * _SECONDS
            row[_N_PATH] = stage.path_ns * _SECONDS
            row[_N_INFLUENCE] = stage.influence
            if len(stage_beliefs) > 0:
                row[_N_POSTERIOR_WORK] = stage_beliefs[s].work_s
                row[_N_ENTROPY] = stage_beliefs[s].entropy_bits
            n_nodes += 1
        for s in range(owner.first_stage, last):
            stage = state.stages[s]
            if stage.row < 0 or not fits:
                continue
            for k in range(stage.first_child, stage.first_child + stage.n_children):
                child = state.stages[state.children[k]]
                if child.row < 0:
                    continue
                if n_edges == len(edges):
                    fits = False
                    break
                edges[n_edges, 0] = stage.row
                edges[n_edges, 1] = child.row
                n_edges += 1
        if not fits:
            nodes[first_node:n_nodes] = 0.0
            edges[first_edge:n_edges] = 0
            n_nodes, n_edges = first_node, first_edge
            break
    system[_S_NODES] = n_nodes
    system[_S_EDGES] = n_edges


@kernel
def write_truth(state: ClusterState, truth: NDArray[np.float32]) -> None:
    """Fill what only privileged policies may see: float32 (N, len(Truth)), zeros."""
    for i in range(min(state.clock[0].ready, len(truth))):
        stage = state.stages[state.ready[i]]
        truth[i, _T_REMAINING] = state.jobs[stage.job].true_remaining_ns * _SECONDS
        truth[i, _T_WORK] = stage.true_work_ns * _SECONDS
        truth[i, _T_PATH] = stage.true_path_ns * _SECONDS


@allocating_kernel
def window_sizes(stages: Rows, children: NDArray[np.int32]) -> tuple[int, int, int]:
    """Bound how much can be seen at once: ready stages, nodes and edges, summed over all jobs of a workload.

    A greedy cover of each job's graph by paths bounds how many of its stages can be ready together (stages that can be
    ready together lie on different paths).

    Returns:
        (ready stages, nodes, edges).
    """
    ready, nodes, edges = 0, 0, 0
    continued = np.zeros(len(stages), np.bool_)
    for s in range(len(stages)):
        if stages[s].present == 1 and not continued[s]:
            ready += 1  # a new path begins here
        for k in range(stages[s].first_child, stages[s].first_child + stages[s].n_children):
            child = children[k]
            if stages[s].present == 1 and stages[child].present == 1 and not continued[child]:
                continued[child] = True
                break
        nodes += 1
        edges += stages[s].n_children
    return ready, nodes, edges
