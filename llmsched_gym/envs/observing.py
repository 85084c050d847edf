"""What a policy sees: compiled writers of the tables of one observation, from revealed facts only."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel
from llmsched_gym.cluster.state import ClusterState, Rows, StageStatus
from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth
from llmsched_gym.envs.tables import Tables
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.beliefs import HISTORY_DEVIATIONS

_SECONDS: Final = 1e-9  # per nanosecond


@inlined_kernel
def show_cluster(state: ClusterState, tables: Tables) -> None:
    """Fill jobs, candidates, executors and system, but for the profiler's and the engines' columns.

    Args:
        state: The cluster.
        tables: Zeros.
    """
    candidates, jobs, executors, system = tables.candidates, tables.jobs, tables.executors, tables.system
    clock = state.clock[0]
    now_ns = clock.now_ns
    shown_jobs = min(clock.active, len(jobs))
    for i in range(clock.active):
        job = state.jobs[state.active[i]]
        job.row = i if i < shown_jobs else -1
        if i >= shown_jobs:
            continue
        jobs[i, Job.APP] = job.app
        jobs[i, Job.AGE_S] = (now_ns - job.arrival_ns) * _SECONDS
        jobs[i, Job.ATTAINED_S] = (job.attained_ns + job.running_tasks * now_ns) * _SECONDS
        jobs[i, Job.REMAINING_S] = job.remaining_ns * _SECONDS
        jobs[i, Job.TOTAL_S] = job.total_ns * _SECONDS
        jobs[i, Job.PATH_S] = job.path_ns * _SECONDS
        jobs[i, Job.TASKS_RUNNING] = job.running_tasks
        jobs[i, Job.TASKS_WAITING] = job.waiting_tasks
        jobs[i, Job.STAGES_DONE] = job.done_stages
    shown = min(clock.ready, len(candidates))
    for i in range(shown):
        stage = state.stages[state.ready[i]]
        job = state.jobs[stage.job]
        candidates[i, Candidate.JOB] = job.row
        candidates[i, Candidate.APP] = job.app
        candidates[i, Candidate.NODE] = stage.node
        candidates[i, Candidate.KIND] = stage.kind
        candidates[i, Candidate.TASKS_WAITING] = stage.n_tasks - stage.started_tasks
        candidates[i, Candidate.TASKS_RUNNING] = stage.started_tasks - stage.done_tasks
        candidates[i, Candidate.TASKS_DONE] = stage.done_tasks
        candidates[i, Candidate.READY_S] = (now_ns - stage.ready_ns) * _SECONDS
        candidates[i, Candidate.PROMPT_TOKENS] = stage.next_prompt_tokens
        candidates[i, Candidate.WORK_S] = stage.work_ns * _SECONDS
        candidates[i, Candidate.DURATION_S] = stage.duration_ns * _SECONDS
        candidates[i, Candidate.PATH_S] = stage.path_ns * _SECONDS
        candidates[i, Candidate.INFLUENCE] = stage.influence
        candidates[i, Candidate.FREE_SLOTS] = state.pools[stage.pool].free
    for e in range(len(state.executors)):
        row = state.executors[e]
        executors[e, Executor.KIND] = row.kind
        executors[e, Executor.SLOTS] = row.slots
        executors[e, Executor.RUNNING] = row.running
        executors[e, Executor.BUSY_S] = row.busy_ns * _SECONDS
    system[System.TIME_S] = now_ns * _SECONDS
    system[System.JOBS] = clock.active
    system[System.CANDIDATES] = shown
    system[System.HIDDEN_CANDIDATES] = clock.ready - shown
    system[System.JOB_ROWS] = shown_jobs


@inlined_kernel
def show_beliefs(state: ClusterState, beliefs: Beliefs, iteration_s: float, tables: Tables) -> None:
    """Fill the profiler's columns.

    Args:
        state: The cluster; `show_cluster` has shown it.
        beliefs: Of the episode, up to date.
        iteration_s: How long an iteration of the LLM executors takes now: it turns posterior LLM iterations into time.
        tables: Columns are written.
    """
    candidates, jobs = tables.candidates, tables.jobs
    for i in range(min(state.clock[0].active, len(jobs))):
        belief = beliefs.jobs[state.active[i]]
        mean_s = belief.llm_iterations * iteration_s + belief.regular_s
        batch_1_s = belief.llm_s + belief.regular_s
        stretch = mean_s / batch_1_s if batch_1_s > 0.0 else 1.0
        jobs[i, Job.POSTERIOR_S] = mean_s
        jobs[i, Job.POSTERIOR_LOW_S] = belief.low_s * stretch
        jobs[i, Job.POSTERIOR_QUARTILE_S] = belief.quartile_s * stretch
        jobs[i, Job.POSTERIOR_MEDIAN_S] = belief.median_s * stretch
        jobs[i, Job.POSTERIOR_UPPER_QUARTILE_S] = belief.upper_quartile_s * stretch
        jobs[i, Job.POSTERIOR_HIGH_S] = belief.high_s * stretch
        jobs[i, Job.POSTERIOR_TOOL_S] = belief.tool_s
        jobs[i, Job.GITTINS_S] = belief.gittins_s * stretch
        expected_s = state.jobs[state.active[i]].remaining_ns * _SECONDS
        history_s = max(expected_s - belief.history_llm_s, 0.0) + belief.history_llm_iterations * iteration_s
        stretch = history_s / expected_s if expected_s > 0.0 else 1.0
        half_s = HISTORY_DEVIATIONS * belief.history_deviation_s * stretch
        jobs[i, Job.HISTORY_S] = history_s
        jobs[i, Job.HISTORY_LOW_S] = max(history_s - half_s, 0.0)
        jobs[i, Job.HISTORY_HIGH_S] = history_s + half_s
        jobs[i, Job.HISTORY_TOOL_S] = belief.history_tool_s
    for i in range(min(state.clock[0].ready, len(candidates))):
        told = beliefs.stages[state.ready[i]]
        candidates[i, Candidate.ENTROPY] = told.entropy_bits
        candidates[i, Candidate.REDUCTION_SUM] = told.reduction_sum
        candidates[i, Candidate.REDUCTION_PRODUCT] = told.reduction_product
        candidates[i, Candidate.HISTORY_REDUCTION] = told.history_reduction


@kernel
def show_graph(state: ClusterState, stage_beliefs: Rows, tables: Tables) -> None:
    """Fill the graph of the unfinished stages that the scheduler may know of.

    Jobs are listed whole, by arrival, as long as their nodes and edges fit.

    Args:
        state: The cluster; `show_cluster` has shown it.
        stage_beliefs: `STAGE_BELIEF` rows; none without a profiler.
        tables: Nodes and edges (rows of nodes, parent first) are zeros; their numbers in ``system`` are set.
    """
    nodes, edges, system = tables.nodes, tables.edges, tables.system
    n_nodes, n_edges = 0, 0
    candidate = 0
    shown = int(system[System.CANDIDATES])
    for i in range(int(system[System.JOB_ROWS])):
        owner = state.jobs[state.active[i]]
        last = owner.first_stage + owner.n_stages
        first_node, first_edge = n_nodes, n_edges
        fits = True
        for s in range(owner.first_stage, last):
            stage = state.stages[s]
            known = stage.status < StageStatus.DONE and (stage.planned == 0 or stage.status != StageStatus.HIDDEN)
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
            row[Node.JOB] = i
            row[Node.APP] = owner.app
            row[Node.NODE] = stage.node
            row[Node.KIND] = stage.kind
            row[Node.STATUS] = stage.status
            row[Node.CANDIDATE] = candidate if listed else -1
            if stage.ready_ns <= state.clock[0].now_ns:
                row[Node.TASKS_WAITING] = stage.n_tasks - stage.started_tasks
            elif stage.task_work_ns > 0:
                row[Node.TASKS_WAITING] = stage.work_ns / stage.task_work_ns
            row[Node.TASKS_RUNNING] = stage.started_tasks - stage.done_tasks
            row[Node.WORK_S] = stage.work_ns * _SECONDS
            row[Node.DURATION_S] = stage.duration_ns * _SECONDS
            row[Node.PATH_S] = stage.path_ns * _SECONDS
            row[Node.INFLUENCE] = stage.influence
            if len(stage_beliefs) > 0:
                row[Node.POSTERIOR_WORK_S] = stage_beliefs[s].work_s
                row[Node.ENTROPY] = stage_beliefs[s].entropy_bits
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
            _take_off(state, i, int(system[System.JOB_ROWS]))
            break
    system[System.NODES] = n_nodes
    system[System.EDGES] = n_edges


@kernel
def _take_off(state: ClusterState, first: int, end: int) -> None:
    """Note that stages of jobs that are left out have no row, whichever they had in an earlier observation."""
    for i in range(first, end):
        job = state.jobs[state.active[i]]
        for s in range(job.first_stage, job.first_stage + job.n_stages):
            state.stages[s].row = -1


@inlined_kernel
def show_truth(state: ClusterState, truth: NDArray[np.float32]) -> None:
    """Fill what only privileged policies may see: float32 (N, len(Truth)), zeros."""
    for i in range(min(state.clock[0].ready, len(truth))):
        stage = state.stages[state.ready[i]]
        truth[i, Truth.JOB_REMAINING_S] = state.jobs[stage.job].true_remaining_ns * _SECONDS
        truth[i, Truth.JOB_TOOL_S] = state.jobs[stage.job].true_tool_ns * _SECONDS
        truth[i, Truth.STAGE_WORK_S] = stage.true_work_ns * _SECONDS
        truth[i, Truth.STAGE_PATH_S] = stage.true_path_ns * _SECONDS
