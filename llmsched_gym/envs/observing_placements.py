"""What a policy that chooses executors sees: what it would cost to run each candidate on each of them.

All of it follows from what is revealed, from historical means, and from what lies where. Tokens that a running task has
just put out, and that another of its job would find in the cache, may be missing.
"""

from __future__ import annotations

from typing import Final

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator import readings
from llmsched_gym.backends.simulator.kv_cache import cached_blocks
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.backends.simulator.residency import fetch_ns, reload_ns
from llmsched_gym.backends.simulator.state import Engine, engine_at
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.state import ClusterState, Rows
from llmsched_gym.envs.columns import Placement, Residency
from llmsched_gym.envs.tables import Tables

_SECONDS: Final = 1e-9  # per nanosecond
_SECONDS_PER_PS: Final = 1e-12


@kernel
def show_placements(state: ClusterState, simulation: Simulation, tables: Tables) -> None:
    """Fill ``placements`` and ``models``.

    Args:
        state: The cluster.
        simulation: The simulator.
        tables: Both are zeros.
    """
    for e in range(len(state.executors)):
        _show_models(state, e, tables.models[e])
        _expect_ends(state, simulation, e)
    for i in range(min(state.clock[0].ready, len(tables.placements))):
        for e in range(len(state.executors)):
            _show_placement(state, simulation, state.ready[i], e, tables.placements[i, e])


@kernel
def _show_models(state: ClusterState, executor: int, models: Rows) -> None:
    row = state.executors[executor]
    for h in range(row.first_engine, row.first_engine + row.n_engines):
        host = state.hosts[h]
        models[host.name, Residency.RESIDENT] = host.resident
        if h == row.engine:
            models[host.name, Residency.ACTIVE] = 1
            models[host.name, Residency.LOADING_S] = max(row.ready_ns - state.clock[0].now_ns, 0) * _SECONDS


@kernel
def _expect_ends(state: ClusterState, simulation: Simulation, executor: int) -> None:
    """Work out when an executor is expected to have a free slot, and to hold no task any more."""
    row, now_ns = state.executors[executor], state.clock[0].now_ns
    row.slot_s = 0.0
    row.drained_s = 0.0
    if row.running == 0:
        return
    if row.n_engines == 0:
        task = state.tasks[row.task]
        done_ns = task.join_ns + state.stages[task.stage].task_work_ns
        row.slot_s = max(done_ns - now_ns, 0) * _SECONDS
        row.drained_s = row.slot_s
        return
    engine = engine_at(simulation.engines, row.engine)
    its = engine.row[0]
    step_s = _iteration_s(engine, now_ns, row.running, 0.0)
    step = its.iterations - its.flying + readings.ended_at(its, now_ns)
    first_s, last_s = 1e30, 0.0
    for k in range(its.running + its.waiting_len):
        if k < its.running:
            sequence = engine.running[k]
            task = state.tasks[sequence.task]
            generated = its.prefill_generated
            if k < its.decoding:
                generated = max(step, sequence.join_step - 1) - sequence.first_step
        else:
            request = engine.waiting[(its.waiting_head + k - its.running) % len(engine.waiting)]
            task = state.tasks[request.task]
            generated = request.generated - request.coming
        left_s = max(_mean_output(state, task) - generated, 1.0) * step_s
        if generated == 0:
            left_s += task.prompt_tokens * its.latency_ps[2] * _SECONDS_PER_PS
        first_s = min(first_s, left_s)
        last_s = max(last_s, left_s)
    for k in range(row.moving):
        moving = simulation.moving[executor, k]
        task = state.tasks[moving.task]
        left_s = (moving.join_ns - now_ns) * _SECONDS + _mean_output(state, task) * step_s
        left_s += task.prompt_tokens * its.latency_ps[2] * _SECONDS_PER_PS
        first_s = min(first_s, left_s)
        last_s = max(last_s, left_s)
    row.slot_s = first_s
    row.drained_s = last_s


@kernel
def _show_placement(state: ClusterState, simulation: Simulation, s: int, executor: int, shown: Rows) -> None:
    """Fill what it would cost to run the next task of a stage on an executor."""
    stage, row = state.stages[s], state.executors[executor]
    shown[Placement.MODEL] = -1
    if row.n_engines == 0:
        if (row.pools >> stage.pool) & 1 == 0:
            return
        shown[Placement.TASK_S] = stage.task_work_ns * _SECONDS
    else:
        h = _host_of(state, row, stage.pool)
        if h < 0:
            return
        host = state.hosts[h]
        shown[Placement.MODEL] = host.name
        cached = 0
        if h == row.engine:
            shown[Placement.LOAD_S] = max(row.ready_ns - state.clock[0].now_ns, 0) * _SECONDS
        elif host.resident == 1:
            shown[Placement.LOAD_S] = host.activate_ns * _SECONDS
        else:
            shown[Placement.LOAD_S] = host.load_ns * _SECONDS
            shown[Placement.EVICT_S] = reload_ns(state, executor, host.bytes) * _SECONDS
        task = state.tasks[stage.first_task + stage.started_tasks]
        engine = engine_at(simulation.engines, h)
        if host.resident == 1:
            cached = cached_blocks(engine, task) * engine.row[0].block_size
        batch = row.running + 1 if h == row.engine else 1
        output = _mean_output(state, task)
        step_s = _iteration_s(engine, state.clock[0].now_ns, batch, task.prompt_tokens + 0.5 * output)
        prefill_s = max(task.prompt_tokens - cached, 1) * engine.row[0].latency_ps[2] * _SECONDS_PER_PS
        shown[Placement.CACHED_TOKENS] = cached
        shown[Placement.TASK_S] = output * step_s + prefill_s
    shown[Placement.SERVES] = 1
    shown[Placement.FETCH_S] = fetch_ns(state, s, executor) * _SECONDS
    if (row.pools >> stage.pool) & 1 == 0:
        shown[Placement.WAIT_S] = row.drained_s
    elif row.running == row.slots:
        shown[Placement.WAIT_S] = row.slot_s
    else:
        shown[Placement.LEGAL] = 1


@kernel
def _host_of(state: ClusterState, row: Rows, pool: int) -> int:
    """Return the engine by which an LLM executor serves the tasks of a pool; -1 if it serves them not."""
    if row.serves == 0:
        return row.first_engine if (row.pools >> pool) & 1 else -1
    for h in range(row.first_engine, row.first_engine + row.n_engines):
        if state.hosts[h].model == pool:
            return h
    return -1


@kernel
def _iteration_s(engine: Engine, now_ns: int, sequences: int, context: float) -> float:
    """Return how long an iteration takes with so many sequences, and so much context beside that of those present."""
    its: Rows = engine.row[0]
    _, present = readings.present_decodes(engine, now_ns)
    own_ps: float = its.latency_ps[3] * context
    return (iteration_ps(its.latency_ps, sequences, 0, present, 0) + own_ps) * _SECONDS_PER_PS


@kernel
def _mean_output(state: ClusterState, task: Rows) -> float:
    """Return the historical mean of the tokens that a task of this stage generates."""
    stage = state.stages[task.stage]
    node: int = state.first_node[state.jobs[stage.job].app] + stage.node
    return state.mean_output[node]
