"""The state of a cluster before the first arrival: the workload's truth, laid out for the compiled transitions."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.executors import LLMExecutors, Rate
from llmsched_gym.cluster.latency import LatencyProfile, expected_ps, iteration_ps
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import (
    CLOCK,
    EXECUTOR_STATE,
    FAR,
    HOST_STATE,
    JOB_STATE,
    LINK,
    MEAN,
    POOL_STATE,
    STAGE_STATE,
    TASK_STATE,
    ClusterState,
    Rows,
    StageStatus,
)
from llmsched_gym.workloads.contents import Contents
from llmsched_gym.workloads.history import llm_terms
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.transfer import expected_output_bytes
from llmsched_gym.workloads.workload import Workload

_NO_LATENCY = LatencyProfile("none", 0, 0, 0, 0)
"""Stands in where a cluster has no LLM executor, and so no LLM task can be in its workloads."""


_expected_ps = kernel(expected_ps)

EXPECTED: Final = np.dtype(
    [
        ("presence", "f8"),  # share of jobs with the stage
        ("task_work_ns", "i8"),  # mean slot time of one task, given that the stage is present
        ("stage_work_ns", "i8"),  # mean slot time of the stage, likewise
        ("stage_duration_ns", "i8"),  # mean duration of the stage, its tasks in parallel, likewise
        ("planned", "i4"),  # 1: the node is a candidate of a plan
    ],
    align=True,
)
"""Historical means of one template node at batch size 1."""


def expectations(workload: Workload, profile: LatencyProfile | None) -> NDArray[Any]:
    """Turn the token histories of a workload's applications into expected times under a latency profile.

    Returns:
        `EXPECTED` rows of all template nodes, by application.
    """
    latency = profile or _NO_LATENCY
    expected = np.zeros(sum(len(template.nodes) for template in workload.templates), EXPECTED)
    first = 0
    for template, history in zip(workload.templates, workload.history, strict=True):
        rows = expected[first : first + len(history)]
        _fill_expected(history, template.planned, latency.coefficients_ps, rows)
        first += len(history)
    return expected


@kernel
def _fill_expected(history: Rows, planned: NDArray[np.bool_], latency: NDArray[np.int64], expected: Rows) -> None:
    for node in range(len(history)):
        given, row = history[node], expected[node]
        llm_ps = _expected_ps(latency, given.output_tokens, given.prefill_tokens, given.context_tokens)
        stage_ns = llm_ps / 1000.0 + given.seconds * 1e9
        row.presence = given.presence
        row.task_work_ns = np.rint(stage_ns / max(given.n_tasks, 1.0))
        row.stage_work_ns = np.rint(stage_ns)
        row.stage_duration_ns = np.rint(stage_ns * given.path_share)
        row.planned = planned[node]


def task_work_ns(tasks: NDArray[Any], profile: LatencyProfile | None) -> NDArray[np.int64]:
    """Return the slot time of tasks alone on an idle executor that holds all of their prefixes.

    Args:
        tasks: `TASK` or `TASK_STATE` rows.
        profile: Latency of the executor; may be None when no task is an LLM task.

    Returns:
        int64 (n,) ns: the duration of a regular task; one prefill iteration and ``output - 1`` decode iterations of
        an LLM task.
    """
    work_ns = np.empty(len(tasks), np.int64)
    _fill_work(tasks, (profile or _NO_LATENCY).coefficients_ps, work_ns)
    return work_ns


def initial_state(workload: Workload, cluster: ClusterSpec) -> ClusterState:
    """Lay out a workload on an idle cluster at time 0.

    Raises:
        InputError: The cluster cannot run some task.
    """
    cluster.check_serves(workload)
    # Tools only: still one row, which no task uses.
    profiles = [cluster.reference_profile(model) for model in workload.models] or [None]
    jobs = np.zeros(len(workload.jobs), JOB_STATE)
    stages = np.zeros(len(workload.stages), STAGE_STATE)
    tasks = np.zeros(len(workload.tasks), TASK_STATE)
    expected = np.stack([expectations(workload, profile) for profile in profiles])
    first_node = starts([len(template.nodes) for template in workload.templates])
    regular_pool = len(workload.models)
    _fill_jobs(workload.jobs, jobs)
    pools = _node_pools(workload)
    _fill_stages(workload.stages, workload.tasks, expected, first_node, pools, jobs, stages)
    _fill_tasks(workload.tasks, workload.contents, _reference_work_ns(workload.tasks, profiles), tasks)
    _fill_truth(jobs, stages, tasks, workload.children)
    clock = np.zeros(1, CLOCK)
    clock["jobs"] = len(jobs)
    return ClusterState(
        clock=clock,
        jobs=jobs,
        stages=stages,
        tasks=tasks,
        executors=(executors := _executors(cluster, workload.models)),
        hosts=(hosts := _hosts(cluster, workload.models)),
        host_of=_host_of(executors, hosts, regular_pool + 1),
        inputs=np.zeros((len(stages), len(links := _links(cluster))), np.int64),
        links=links,
        kv_links=_kv_links(cluster),
        pools=_pools(executors, regular_pool + 1),
        first_node=first_node.astype(np.int32),
        means=_means(workload),
        # Copies can be written, as all arrays of a state that was copied or unpickled: one type, compiled once.
        children=workload.children.copy(),
        reveals=workload.reveals.copy(),
        active=np.zeros(len(jobs), np.int32),
        ready=np.zeros(len(stages) + 1, np.int32),
        scratch=np.zeros(len(stages) + 1, np.int32),
    )


def _means(workload: Workload) -> NDArray[Any]:
    """Return the `MEAN` rows of all template nodes, by application."""
    history = np.concatenate(workload.history)
    means = np.zeros(len(history), MEAN)
    means["output_tokens"] = history["output_tokens"] / np.maximum(history["n_tasks"], 1.0)
    means["output_bytes"] = np.concatenate(expected_output_bytes(workload))
    return means


def _node_pools(workload: Workload) -> NDArray[np.int32]:
    """Return the pool of every template node, by application: its model, the last for regular nodes.

    -1 for dynamic nodes; -2 where the model differs from job to job.
    """
    kinds = np.concatenate([template.kinds for template in workload.templates])
    pools = np.concatenate(workload.node_models)
    pools = np.where((kinds == StageKind.LLM) & (pools < 0), -2, pools)
    pools[kinds == StageKind.REGULAR] = len(workload.models)
    return pools.astype(np.int32)


def _executors(cluster: ClusterSpec, models: tuple[str, ...]) -> NDArray[Any]:
    rows = np.zeros(cluster.n_executors, EXECUTOR_STATE)
    rows["event_ns"] = FAR
    rows["task"] = rows["engine"] = rows["heap_position"] = -1
    row = engine = 0
    locations = cluster.locations
    for group in cluster.executors:
        here = rows[row : row + group.count]
        here["pools"] = cluster.pools_of(group, models)
        here["location"] = locations.index(group.location)
        if isinstance(group, LLMExecutors):
            hosts = group.hosts(cluster.models)
            names = [host.model for host in hosts]
            here["kind"] = StageKind.LLM
            here["gpus"] = group.gpus
            here["slots"] = group.max_num_seqs
            here["n_engines"] = len(hosts)
            here["first_engine"] = engine + len(hosts) * np.arange(group.count)
            if group.serves:
                here["serves"] = here["pools"]
            else:
                here["engine"] = here["first_engine"]
            if group.resident:
                here["engine"] = here["first_engine"] + names.index(group.resident[0])
            resident = sum(host.bytes for host in hosts if host.model in group.resident)
            here["free_bytes"] = group.memory_bytes - resident
            engine += group.count * len(hosts)
        else:
            here["kind"] = StageKind.REGULAR
            here["slots"] = 1
        row += group.count
    return rows


def _hosts(cluster: ClusterSpec, models: tuple[str, ...]) -> NDArray[Any]:
    engines, names = cluster.engines, cluster.model_names
    rows = np.zeros(len(engines), HOST_STATE)
    for row, (group, host) in zip(rows, engines, strict=True):
        row["bytes"], row["kv_bytes"], row["load_ns"] = host.bytes, host.kv_bytes, host.load_ns
        row["activate_ns"] = round(group.activate_s * 1e9)
        row["model"] = models.index(host.model) if host.model in models else -1
        row["name"] = names.index(host.model)
        row["resident"] = not group.serves or host.model in group.resident
        if host.model in group.resident:
            row["used_ns"] = -group.resident.index(host.model)
    return rows


def _host_of(executors: NDArray[Any], hosts: NDArray[Any], n_pools: int) -> NDArray[np.int32]:
    found = np.full((len(executors), n_pools), -1, np.int32)
    for e, row in enumerate(executors):
        for host in range(row["first_engine"], row["first_engine"] + row["n_engines"]):
            if row["serves"] == 0:
                found[e] = np.where((row["pools"] >> np.arange(n_pools, dtype=np.uint64)) & np.uint64(1) == 1, host, -1)
            elif hosts[host]["model"] >= 0:
                found[e, hosts[host]["model"]] = host
    return found


def _links(cluster: ClusterSpec) -> NDArray[Any]:
    locations = cluster.locations
    places = len(locations) if cluster.links else 0
    links = np.zeros((places, places), LINK)
    for link in cluster.links:
        a, b = (locations.index(end) for end in link.between)
        links[a, b] = links[b, a] = _link(link)
    return links


def _kv_links(cluster: ClusterSpec) -> NDArray[Any]:
    if cluster.kv_transfer is None:
        return np.zeros((0, 0), LINK)
    places = len(cluster.locations)
    links = np.full((places, places), np.array(_link(cluster.kv_transfer), LINK))
    if cluster.links:
        np.copyto(links, _links(cluster), where=~np.eye(places, dtype=np.bool_))
    return links


def _link(link: Rate) -> tuple[int, float]:
    return round(link.latency_s * 1e9), 1.0 / link.gb_per_s


def _pools(executors: NDArray[Any], n_pools: int) -> NDArray[Any]:
    pools = np.zeros(n_pools, POOL_STATE)
    for pool in range(n_pools):
        serves = (executors["pools"] >> np.uint64(pool)) & np.uint64(1) == 1
        pools["free"][pool] = executors["slots"][serves].sum()
    return pools


def _reference_work_ns(tasks: NDArray[Any], profiles: list[LatencyProfile | None]) -> NDArray[np.int64]:
    """Return the slot time of tasks, each on the reference executor of its model."""
    work_ns = task_work_ns(tasks, profiles[0])
    for model, profile in enumerate(profiles[1:], 1):
        rows = tasks["model"] == model
        work_ns[rows] = task_work_ns(tasks[rows], profile)
    return work_ns


@kernel
def _fill_work(tasks: Rows, latency: NDArray[np.int64], work_ns: NDArray[np.int64]) -> None:
    for t in range(len(tasks)):
        work_ns[t] = slot_time_ns(tasks[t], latency)


@kernel
def slot_time_ns(task: Any, latency: NDArray[np.int64]) -> int:
    """Return what `task_work_ns` does of one task; `latency` are the coefficients."""
    output = np.int64(task.output_tokens)
    if output <= 0:
        return task.duration_ns
    prefill, context = llm_terms(task)
    before = max(task.prompt_tokens - prefill, 0)
    attended = prefill * before + prefill * (prefill - 1) // 2
    return ((output - 1) * latency[0] + iteration_ps(latency, output - 1, prefill, context, attended)) // 1000


@kernel
def _fill_jobs(given: Rows, jobs: Rows) -> None:
    """Write the `JOB_STATE` rows, but for the sums over stages."""
    for j in range(len(jobs)):
        job = jobs[j]
        job.arrival_ns = given[j].arrival_ns
        job.app = given[j].app
        job.first_stage = given[j].first_stage
        job.n_stages = given[j].n_stages
        job.open_stages = given[j].n_stages
        job.finish_ns = FAR
        job.row = -1


@kernel
def _fill_stages(
    given: Rows,
    given_tasks: Rows,
    expected: Rows,
    first_node: NDArray[np.int64],
    pools: NDArray[np.int32],
    jobs: Rows,
    stages: Rows,
) -> None:
    """Write the `STAGE_STATE` rows, but for the truth, and sum up what is expected before anything is revealed."""
    for s in range(len(stages)):
        source, stage = given[s], stages[s]
        stage.ready_ns = FAR
        stage.start_ns = FAR
        stage.finish_ns = FAR
        stage.job = source.job
        stage.node = source.node
        stage.kind = source.kind
        stage.present = source.present
        stage.first_task = source.first_task
        stage.n_tasks = source.n_tasks
        stage.pending_parents = source.n_parents
        stage.first_child = source.first_child
        stage.n_children = source.n_children
        stage.first_reveal = source.first_reveal
        stage.n_reveals = source.n_reveals
        stage.status = StageStatus.BLOCKED if source.revealer < 0 else StageStatus.HIDDEN
        stage.row = -1
        stage.next_prompt_tokens = given_tasks[source.first_task].prompt_tokens if source.n_tasks > 0 else 0
        job = jobs[source.job]
        node = first_node[job.app] + source.node
        stage.pool = pools[node]
        # What is expected must not tell which model a job that differs from others will ask for, nor whether it will.
        mean = expected[min(max(stage.pool, 0), len(expected) - 1), node]
        if stage.pool < -1:
            stage.pool = given_tasks[source.first_task].model if source.n_tasks > 0 else 0
        stage.task_work_ns = mean.task_work_ns
        stage.stage_work_ns = mean.stage_work_ns
        stage.stage_duration_ns = mean.stage_duration_ns
        stage.planned = mean.planned
        share = mean.presence
        if mean.planned == 1:
            share = 0.0  # A stage of a sub-DAG is unknown before its plan; the dynamic stage stands for it.
        elif source.revealer < 0:
            share = 1.0
        stage.work_ns = np.rint(share * mean.stage_work_ns)
        stage.duration_ns = np.rint(share * mean.stage_duration_ns)
        job.total_ns += stage.work_ns
        job.remaining_ns += stage.work_ns


@kernel
def _fill_tasks(given: Rows, contents: Contents, work_ns: NDArray[np.int64], tasks: Rows) -> None:
    """Write the `TASK_STATE` rows."""
    for t in range(len(tasks)):
        source, task = given[t], tasks[t]
        task.start_ns = FAR
        task.scheduled_ns = FAR
        task.first_token_ns = FAR
        task.finish_ns = FAR
        task.duration_ns = source.duration_ns
        task.work_ns = work_ns[t]
        task.stage = source.stage
        task.executor = -1
        task.prompt_tokens = source.prompt_tokens
        task.output_tokens = source.output_tokens
        task.app_prefix = source.app_prefix
        task.app_prefix_tokens = source.app_prefix_tokens
        task.chain = contents.chain[t]
        task.job_prefix_tokens = source.job_prefix_tokens
        task.own_from = contents.own_from[t]
        task.output_bytes = source.output_bytes


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
        if row.kind == StageKind.REGULAR:
            job.true_tool_ns += row.true_work_ns
        job.ideal_ns = max(job.ideal_ns, row.true_path_ns)
