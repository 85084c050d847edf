"""The state of a cluster before the first arrival: the workload's truth, laid out for the compiled transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.spec import ClusterSpec, LLMExecutors
from llmsched_gym.cluster.state import (
    CLOCK,
    EXECUTOR_STATE,
    FAR,
    JOB_STATE,
    POOL_STATE,
    STAGE_STATE,
    TASK_STATE,
    ClusterState,
    Rows,
    StageStatus,
)
from llmsched_gym.workloads.history import task_terms
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

_NO_LATENCY = LatencyProfile("none", 0, 0, 0, 0)
"""Stands in where a cluster has no LLM executor, and so no LLM task can be in its workloads."""


@dataclass(frozen=True)
class Expectations:
    """Historical means of one application's template nodes at batch size 1, in int64 ns, given that the stage is
    present.

    Attributes:
        presence: float64 (nodes,). Share of jobs with the stage.
        task_ns: Mean slot time of one task.
        stage_ns: Mean slot time of the stage.
        duration_ns: Mean duration of the stage, its tasks in parallel.
        planned: bool (nodes,). The node is a candidate of a plan.
    """

    presence: NDArray[np.float64]
    task_ns: NDArray[np.int64]
    stage_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]
    planned: NDArray[np.bool_]


def expectations(workload: Workload, profile: LatencyProfile | None) -> list[Expectations]:
    """Turn the token histories of a workload's applications into expected times under a latency profile."""
    latency = profile or _NO_LATENCY
    result = []
    for template, history in zip(workload.templates, workload.history, strict=True):
        llm_ps = (
            history["output_tokens"] * float(latency.iteration_ps + latency.decode_ps)
            + history["prefill_tokens"] * float(latency.prefill_ps)
            + history["context_tokens"] * float(latency.context_ps)
        )
        stage = llm_ps / 1000.0 + history["seconds"] * 1e9
        result.append(
            Expectations(
                presence=history["presence"],
                task_ns=np.rint(stage / np.maximum(history["n_tasks"], 1.0)).astype(np.int64),
                stage_ns=np.rint(stage).astype(np.int64),
                duration_ns=np.rint(stage * history["path_share"]).astype(np.int64),
                planned=np.array([node.candidate_of is not None for node in template.nodes]),
            )
        )
    return result


def task_work_ns(tasks: NDArray[Any], profile: LatencyProfile | None) -> NDArray[np.int64]:
    """Return the slot time of tasks alone on an idle executor that holds all of their prefixes.

    Args:
        tasks: `TASK` or `TASK_STATE` rows.
        profile: Latency of the executor; may be None when no task is an LLM task.

    Returns:
        int64 (n,) ns: the duration of a regular task; one prefill iteration and ``output - 1`` decode iterations of
        an LLM task.
    """
    latency = profile or _NO_LATENCY
    output = tasks["output_tokens"].astype(np.int64)
    prefill, context = task_terms(tasks)
    llm_ps = output * latency.iteration_ps + np.maximum(output - 1, 0) * latency.decode_ps
    llm_ps += prefill * latency.prefill_ps + context * latency.context_ps
    before = np.maximum(tasks["prompt_tokens"].astype(np.int64) - prefill, 0)
    llm_ps += (prefill * before + prefill * (prefill - 1) // 2) * latency.attention_ps
    return np.where(output > 0, llm_ps // 1000, tasks["duration_ns"])


def initial_state(workload: Workload, cluster: ClusterSpec) -> ClusterState:
    """Lay out a workload on an idle cluster at time 0.

    Raises:
        InputError: The cluster cannot run some task.
    """
    cluster.check_serves(workload)
    profile = cluster.reference_profile
    tasks = _copy(workload.tasks, TASK_STATE)
    for column in ("start_ns", "scheduled_ns", "first_token_ns", "finish_ns"):
        tasks[column] = FAR
    tasks["executor"] = -1
    tasks["work_ns"] = task_work_ns(tasks, profile)
    stages = _copy(workload.stages, STAGE_STATE)
    jobs = _copy(workload.jobs, JOB_STATE)
    jobs["finish_ns"] = FAR
    jobs["row"] = -1
    jobs["open_stages"] = jobs["n_stages"]
    _expect(workload, profile, jobs, stages)
    regular_pool = len(workload.models)
    stages["pool"] = regular_pool
    llm = stages["kind"] == StageKind.LLM
    stages["pool"][llm] = np.maximum(workload.tasks["model"][np.minimum(stages["first_task"][llm], len(tasks) - 1)], 0)
    stages["pool"][stages["kind"] == StageKind.DYNAMIC] = -1
    for column in ("ready_ns", "start_ns", "finish_ns"):
        stages[column] = FAR
    stages["status"] = np.where(workload.stages["revealer"] < 0, StageStatus.BLOCKED, StageStatus.HIDDEN)
    stages["pending_parents"] = workload.stages["n_parents"]
    stages["row"] = -1
    _fill_truth(jobs, stages, tasks, workload.children)
    return ClusterState(
        clock=np.zeros(1, CLOCK),
        jobs=jobs,
        stages=stages,
        tasks=tasks,
        executors=(executors := _executors(cluster, workload.models)),
        pools=_pools(executors, regular_pool + 1),
        # Copies can be written, as all arrays of a state that was copied or unpickled: one type, compiled once.
        children=workload.children.copy(),
        reveals=workload.reveals.copy(),
        active=np.zeros(len(jobs), np.int32),
        ready=np.zeros(len(stages) + 1, np.int32),
        scratch=np.zeros(len(stages) + 1, np.int32),
    )


def _copy(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    copy = np.zeros(len(rows), dtype)
    for column in rows.dtype.names or ():
        if column in (dtype.names or ()):
            copy[column] = rows[column]
    return copy


def _expect(workload: Workload, profile: LatencyProfile | None, jobs: NDArray[Any], stages: NDArray[Any]) -> None:
    """Fill in the historical means: what is expected before anything has been revealed."""
    per_app = expectations(workload, profile)
    offsets = np.cumsum([0, *(len(e.presence) for e in per_app)])
    node = offsets[jobs["app"][stages["job"]]] + stages["node"]
    presence = np.concatenate([e.presence for e in per_app])[node]
    for column, values in (
        ("task_work_ns", [e.task_ns for e in per_app]),
        ("stage_work_ns", [e.stage_ns for e in per_app]),
        ("stage_duration_ns", [e.duration_ns for e in per_app]),
        ("planned", [e.planned for e in per_app]),
    ):
        stages[column] = np.concatenate(values)[node]
    # A stage of a sub-DAG is unknown before its plan; the dynamic stage stands for it.
    share = np.where(stages["planned"] == 1, 0.0, np.where(workload.stages["revealer"] < 0, 1.0, presence))
    for column, mean in (("work_ns", "stage_work_ns"), ("duration_ns", "stage_duration_ns")):
        stages[column] = np.rint(share * stages[mean]).astype(np.int64)
    totals = np.concatenate([[0], np.cumsum(stages["work_ns"])])
    jobs["total_ns"] = totals[jobs["first_stage"] + jobs["n_stages"]] - totals[jobs["first_stage"]]
    jobs["remaining_ns"] = jobs["total_ns"]


def _executors(cluster: ClusterSpec, models: tuple[str, ...]) -> NDArray[Any]:
    rows = np.zeros(cluster.n_executors, EXECUTOR_STATE)
    rows["event_ns"] = FAR
    rows["task"] = rows["engine"] = rows["heap_position"] = -1
    row = engine = 0
    for group in cluster.executors:
        here = rows[row : row + group.count]
        here["pools"] = cluster.pools_of(group, models)
        here["location"] = group.location
        if isinstance(group, LLMExecutors):
            here["kind"] = StageKind.LLM
            here["slots"] = group.max_num_seqs
            here["engine"] = np.arange(engine, engine + group.count)
            engine += group.count
        else:
            here["kind"] = StageKind.REGULAR
            here["slots"] = 1
        row += group.count
    return rows


def _pools(executors: NDArray[Any], n_pools: int) -> NDArray[Any]:
    pools = np.zeros(n_pools, POOL_STATE)
    for pool in range(n_pools):
        serves = (executors["pools"] >> np.uint64(pool)) & np.uint64(1) == 1
        pools["free"][pool] = executors["slots"][serves].sum()
    return pools


@kernel
def _fill_truth(jobs: Rows, stages: Rows, tasks: Rows, children: NDArray[np.int32]) -> None:
    """Sum up the true slot times, and the true longest paths from sinks to sources."""
    for stage in range(len(stages) - 1, -1, -1):
        row = stages[stage]
        longest = 0
        if row.present == 1:
            for task in range(row.first_task, row.first_task + row.n_tasks):
                row.true_work_ns += tasks[task].work_ns
                longest = max(longest, tasks[task].work_ns)
        tail = 0
        for k in range(row.first_child, row.first_child + row.n_children):
            tail = max(tail, stages[children[k]].true_path_ns)
        row.true_path_ns = longest + tail
        job = jobs[row.job]
        job.true_remaining_ns += row.true_work_ns
        job.ideal_ns = max(job.ideal_ns, row.true_path_ns)
