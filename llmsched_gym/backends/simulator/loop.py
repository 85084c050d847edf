"""The discrete-event simulator: a cluster whose completions come from engine models and known durations.

Time moves from event to event. At an instant, first everything that ends then is finished, then the jobs that arrive
then arrive, then decisions are made; only after them do the LLM engines plan on, so that a task dispatched at the
very start of an iteration is part of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel
from llmsched_gym.backends.simulator import engine, readings
from llmsched_gym.backends.simulator.event_heap import set_event
from llmsched_gym.backends.simulator.expectations import mean_output, task_s
from llmsched_gym.backends.simulator.residency import activate, bytes_elsewhere, drain, fetch_ns
from llmsched_gym.backends.simulator.state import MOVING, EngineConfig, Engines, engine_at, new_engines
from llmsched_gym.backends.simulator.transfer import best_transfer
from llmsched_gym.cluster.executors import Host, LLMExecutors
from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.latency import iteration_ps, load_profile
from llmsched_gym.cluster.lifecycle import arrive, can_dispatch, finish_task, is_over, least_loaded, start_task
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState, Rows
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.workload import Workload

LAST_ARRIVAL_NS: Final = 4 * 10**15
"""Latest arrival (46 days) that leaves time to serve what has arrived."""
_LAST_EVENT_NS: Final = 9 * 10**15  # engines count picoseconds in 64 bits, which last for 106 days


class Simulation(NamedTuple):
    """Where the simulator keeps what is not part of the cluster's state.

    Attributes:
        engines: One per LLM executor (backends/simulator/state.py).
        heap: (n_executors,) int32; executors by next event.
        moving: (n_executors, slots) `MOVING`, of LLM executors; without columns where nothing has to be waited for.
        unplanned: (n_executors + 1,) int32; count, then executors whose engine must plan on before time moves.
        finished: int32; rows of the tasks that an engine has just finished.
    """

    engines: Engines
    heap: NDArray[np.int32]
    moving: Rows
    unplanned: NDArray[np.int32]
    finished: NDArray[np.int32]


def start(workload: Workload, cluster: ClusterSpec) -> tuple[ClusterState, Simulation]:
    """Set up a workload on a simulated cluster, before anything has happened: `advance` moves to the first decision.

    Raises:
        InputError: The cluster cannot run some task, or a job arrives too late for the clock.
    """
    latest_ns = int(workload.jobs["arrival_ns"].max())
    if latest_ns > LAST_ARRIVAL_NS:
        allowed = f"at most {LAST_ARRIVAL_NS // 10**9} s after the start"
        raise InputError(f"workload {workload.name}", "last arrival", Plain(f"{latest_ns // 10**9} s"), allowed)
    state = initial_state(workload, cluster)
    configs = [engine_config(group, host) for group, host in cluster.engines]
    largest = max((config.max_num_seqs for config in configs), default=1)
    delays = cluster.serves_several or bool(cluster.links) or cluster.kv_transfer is not None
    simulation = Simulation(
        engines=new_engines(configs, largest, workload.contents.total),
        heap=np.zeros(len(state.executors), np.int32),
        moving=np.zeros((len(state.executors), largest if delays else 0), MOVING),
        unplanned=np.zeros(len(state.executors) + 1, np.int32),
        finished=np.zeros(largest, np.int32),
    )
    return state, simulation


def engine_config(group: LLMExecutors, host: Host) -> EngineConfig:
    """Return how the engine of a model on each replica of a group of LLM executors is set up."""
    return EngineConfig(
        profile=load_profile(host.latency),
        max_num_seqs=group.max_num_seqs,
        max_num_batched_tokens=group.max_num_batched_tokens,
        kv_blocks=host.kv_tokens // group.block_size,
        block_size=group.block_size,
        watermark=group.watermark,
        prefix_caching=group.prefix_caching,
        async_scheduling=group.async_scheduling,
        whole_prefixes=group.whole_prefixes,
    )


@inlined_kernel
def dispatch(state: ClusterState, simulation: Simulation, stage: int, executor: int) -> None:
    """Start the next task of a ready stage on an executor that can run it and has a free slot."""
    now_ns = state.clock[0].now_ns
    row = state.executors[executor]
    load_ns = activate(state, simulation.engines, executor, state.stages[stage].pool)
    task = start_task(state, stage, executor, now_ns)
    started = state.tasks[task]
    started.join_ns = now_ns
    fetched_blocks = 0
    if simulation.moving.shape[1] > 0:
        started.load_ns = load_ns
        kv = best_transfer(state, simulation.engines, started, executor)
        started.moved_bytes = bytes_elsewhere(state, stage, executor) + kv.bytes
        started.join_ns = max(now_ns + max(fetch_ns(state, stage, executor), kv.ns), row.ready_ns)
        fetched_blocks = kv.blocks
    _expect_end(state, simulation, stage, executor, started)
    if row.n_engines == 0:
        row.task = task
        set_event(state.clock[0], simulation.heap, state.executors, executor, started.join_ns + started.duration_ns)
    elif started.join_ns > now_ns:
        _move(simulation.moving[executor], row, task, started.join_ns, fetched_blocks)
        _follow_engine(state, simulation, executor)
    else:
        engine.submit(engine_at(simulation.engines, row.engine), state.tasks, task, now_ns, fetched_blocks)
        _follow_engine(state, simulation, executor)


@kernel
def advance(state: ClusterState, simulation: Simulation, waits: bool) -> None:
    """Let time pass until a decision is due, or everything is done; if asked to wait, until anything visible first."""
    while waits or not (can_dispatch(state) or is_over(state)):
        if _step_time(state, simulation):
            waits = False


@kernel
def next_event_ns(state: ClusterState, simulation: Simulation) -> int:
    """Return the time of the next event, visible or not; FAR if nothing will ever happen without a dispatch.

    Engines that have not planned on yet have an event to come, whose time is not known: it counts as now.
    """
    clock = state.clock[0]
    if simulation.unplanned[0] > 0:
        return clock.now_ns
    time_ns = state.executors[simulation.heap[0]].event_ns if clock.heap > 0 else FAR
    if clock.arrived < clock.jobs:
        time_ns = min(time_ns, state.jobs[clock.arrived].arrival_ns)
    return time_ns


@kernel
def run_fcfs(state: ClusterState, simulation: Simulation) -> int:
    """Run to the end, always starting the oldest ready stage that has a free slot, without leaving compiled code.

    Returns:
        The number of dispatches.
    """
    dispatches = 0
    while not is_over(state):
        position = 0
        while position < state.clock[0].ready and can_dispatch(state):
            stage = state.ready[position]
            pool = state.stages[stage].pool
            if state.pools[pool].free > 0:
                dispatch(state, simulation, stage, least_loaded(state, pool))
                dispatches += 1
                if position < state.clock[0].ready and state.ready[position] == stage:
                    continue  # the stage has more tasks to start
            else:
                position += 1
        advance(state, simulation, False)
    return dispatches


@inlined_kernel
def _step_time(state: ClusterState, simulation: Simulation) -> bool:
    """Move to the next event time and let all that is due then happen.

    Returns:
        Whether anything visible happened: a task finished or a job arrived. Ends of engine segments that finish nothing
        are not visible, as they are not on a real server.
    """
    clock = state.clock[0]
    if clock.heap == 0 or state.executors[simulation.heap[0]].event_ns > clock.now_ns:
        _plan_engines(state, simulation)  # not before tasks that take no time have ended, and what follows them started
    time_ns = next_event_ns(state, simulation)
    if time_ns == FAR:
        raise RuntimeError("jobs are unfinished, but nothing will ever happen: some stage can never become ready")
    if time_ns > _LAST_EVENT_NS:
        raise RuntimeError("the jobs take more than 100 days, longer than the clock can count")
    clock.area_ns += clock.active * (time_ns - clock.now_ns)
    clock.now_ns = time_ns
    visible = False
    while clock.heap > 0 and state.executors[simulation.heap[0]].event_ns == time_ns:
        visible |= _executor_event(state, simulation, simulation.heap[0])
    while clock.arrived < clock.jobs and state.jobs[clock.arrived].arrival_ns == time_ns:
        arrive(state, clock.arrived, time_ns)
        visible = True
    return visible


@inlined_kernel
def _plan_engines(state: ClusterState, simulation: Simulation) -> None:
    """Let every engine that is between two segments plan on."""
    for k in range(1, simulation.unplanned[0] + 1):
        e = simulation.unplanned[k]
        engine.plan(engine_at(simulation.engines, state.executors[e].engine), state.tasks)
        set_event(state.clock[0], simulation.heap, state.executors, e, _next_event_ns(state, simulation, e))
    simulation.unplanned[0] = 0


@inlined_kernel
def _executor_event(state: ClusterState, simulation: Simulation, executor: int) -> bool:
    """Finish what ends on an executor now; tells whether any task did."""
    row = state.executors[executor]
    now_ns = state.clock[0].now_ns
    set_event(state.clock[0], simulation.heap, state.executors, executor, FAR)
    if row.n_engines == 0:
        task = row.task
        row.task = -1
        finish_task(state, task, now_ns)
        drain(state, executor)
        return True
    count = 0
    if simulation.engines.rows[row.engine].event_ns == now_ns:
        count = engine.complete(engine_at(simulation.engines, row.engine), state.tasks, simulation.finished)
        for k in range(count):
            finish_task(state, simulation.finished[k], now_ns)
        drain(state, executor)
    if row.moving > 0:
        _join(state, simulation, executor)
    _follow_engine(state, simulation, executor)
    return count > 0


@kernel
def _expect_end(state: ClusterState, simulation: Simulation, stage: int, executor: int, task: Rows) -> None:
    """Take a task that an executor has just been given into account in when it is expected to be drained."""
    row = state.executors[executor]
    if row.n_engines == 0:
        expected_ns = state.stages[stage].task_work_ns
    else:
        its = engine_at(simulation.engines, row.engine)
        _, context = readings.present_decodes(its, state.clock[0].now_ns)
        step_ps = iteration_ps(its.row[0].latency_ps, row.running, 0, context, 0)
        expected_s = task_s(its.row[0].latency_ps, step_ps, task, 0, mean_output(state, stage))
        expected_ns = int(expected_s * 1e9)
    row.drained_ns = max(row.drained_ns, task.join_ns + expected_ns)


@kernel
def _move(moving: Rows, row: Rows, task: int, join_ns: int, fetched_blocks: int) -> None:
    """Note that a task joins its executor later; `moving` are the executor's own rows."""
    position = row.moving
    while position > 0 and moving[position - 1].join_ns > join_ns:
        moving[position] = moving[position - 1]
        position -= 1
    moving[position].join_ns = join_ns
    moving[position].task = task
    moving[position].fetched_blocks = fetched_blocks
    row.moving += 1


@kernel
def _join(state: ClusterState, simulation: Simulation, executor: int) -> None:
    """Submit the tasks of an LLM executor that join it now."""
    row, moving = state.executors[executor], simulation.moving[executor]
    now_ns, joined = state.clock[0].now_ns, 0
    while joined < row.moving and moving[joined].join_ns == now_ns:
        one = moving[joined]
        engine.submit(engine_at(simulation.engines, row.engine), state.tasks, one.task, now_ns, one.fetched_blocks)
        joined += 1
    for k in range(joined, row.moving):
        moving[k - joined] = moving[k]
    row.moving -= joined


@inlined_kernel
def _next_event_ns(state: ClusterState, simulation: Simulation, executor: int) -> int:
    """Return when the segment in flight of an LLM executor ends, or before it a task joins; FAR if neither is due."""
    row = state.executors[executor]
    event_ns = simulation.engines.rows[row.engine].event_ns
    return min(event_ns, simulation.moving[executor, 0].join_ns) if row.moving > 0 else event_ns


@kernel
def _follow_engine(state: ClusterState, simulation: Simulation, executor: int) -> None:
    """Take over an engine's next event, or remember that the engine has to plan on if it holds any request."""
    row = simulation.engines.rows[state.executors[executor].engine]
    set_event(state.clock[0], simulation.heap, state.executors, executor, _next_event_ns(state, simulation, executor))
    if row.event_ns == FAR and row.running + row.waiting_len > 0:
        for k in range(1, simulation.unplanned[0] + 1):
            if simulation.unplanned[k] == executor:
                return
        simulation.unplanned[0] += 1
        simulation.unplanned[simulation.unplanned[0]] = executor


@kernel
def kv_share(state: ClusterState, simulation: Simulation, executor: int) -> float:
    """Return the share of KV blocks that running sequences hold on an LLM executor, as vLLM's ``kv_cache_usage``.

    It is that of the active model; 0 before the first is.
    """
    if state.executors[executor].engine < 0:
        return 0.0
    its = engine_at(simulation.engines, state.executors[executor].engine)
    return readings.used_blocks(its, state.clock[0].now_ns) / its.row[0].total_blocks


@inlined_kernel
def count_tokens(state: ClusterState, simulation: Simulation, executor: int, tokens: NDArray[np.int32]) -> int:
    """Count the tokens that the sequences on an LLM executor have generated so far.

    Args:
        state: The cluster.
        simulation: The simulator.
        executor: Row of the executor.
        tokens: int32 (tasks,), or without rows; receives the number of each of them.

    Returns:
        Their sum.
    """
    its = engine_at(simulation.engines, state.executors[executor].engine)
    return readings.count_tokens(its, state.clock[0].now_ns, tokens)


@inlined_kernel
def mean_iteration_s(state: ClusterState, simulation: Simulation) -> float:
    """Return the mean length of the present iterations of the active engines, in seconds.

    An idle engine counts as one that decodes a single sequence without context.
    """
    rows, total_ps, active = simulation.engines.rows, 0, 0
    for e in range(len(state.executors)):
        row = state.executors[e].engine
        if row >= 0:
            its = engine_at(simulation.engines, row)
            n_decode, context = readings.present_decodes(its, state.clock[0].now_ns)
            total_ps += iteration_ps(rows[row].latency_ps, max(n_decode, 1), 0, context, 0)
            active += 1
    return total_ps * 1e-12 / max(active, 1)
