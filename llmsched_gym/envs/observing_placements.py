"""What a policy that chooses executors sees: what it would cost to run each candidate on each of them.

All of it follows from what is revealed, from historical means, and from what lies where. Tokens that a running task has
just put out, and that another of its job would find in the cache, may be missing where engines do not fetch KV.
"""

from __future__ import annotations

from typing import Final

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator import readings
from llmsched_gym.backends.simulator.expectations import SECONDS_PER_PS, mean_output, task_s
from llmsched_gym.backends.simulator.kv_cache import cached_blocks
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.backends.simulator.residency import fetch_ns, reload_ns
from llmsched_gym.backends.simulator.state import engine_at
from llmsched_gym.backends.simulator.transfer import best_transfer
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.state import ClusterState, Rows
from llmsched_gym.envs.columns import Ahead, Placement, Residency, System
from llmsched_gym.envs.tables import Tables
from llmsched_gym.workloads.template import StageKind

_SECONDS: Final = 1e-9  # per nanosecond


@kernel
def show_placements(state: ClusterState, simulation: Simulation, tables: Tables) -> None:
    """Fill ``placements`` and ``models``.

    Args:
        state: The cluster. Of executors and hosts, what is the same for all candidates is noted in their rows.
        simulation: The simulator.
        tables: Both are zeros.
    """
    for e in range(len(state.executors)):
        _note_executor(state, simulation, e)
        _show_models(state, simulation, e, tables.models[e])
    for i in range(min(state.clock[0].ready, len(tables.placements))):
        s = state.ready[i]
        pool, output = state.stages[s].pool, 0.0
        if state.stages[s].kind == StageKind.LLM:
            output = mean_output(state, s)
        location, fetch_s = -1, 0.0
        for e in range(len(state.executors)):
            row, shown = state.executors[e], tables.placements[i, e]
            shown[Placement.MODEL] = -1
            if state.host_of[e, pool] < 0 and (row.n_engines > 0 or (row.pools >> pool) & 1 == 0):
                continue
            if row.location != location:
                location, fetch_s = row.location, fetch_ns(state, s, e) * _SECONDS
            shown[Placement.FETCH_S] = fetch_s
            _show_placement(state, simulation, s, e, output, shown)


@kernel
def _note_executor(state: ClusterState, simulation: Simulation, executor: int) -> None:
    """Note in its row, and in those of its hosts, what an executor would make of any task."""
    row, now_ns = state.executors[executor], state.clock[0].now_ns
    overdue_ns = 1 if row.n_engines > 0 else 0  # a batch takes at least that long until something can have changed
    row.wait_s = max(row.drained_ns - now_ns, overdue_ns) * _SECONDS
    for h in range(row.first_engine, row.first_engine + row.n_engines):
        host, latency_ps = state.hosts[h], simulation.engines.rows[h].latency_ps
        host.step_ps = iteration_ps(latency_ps, 1, 0, 0, 0)
        host.evict_s = 0.0
        if h == row.engine:
            _, context = readings.present_decodes(engine_at(simulation.engines, h), now_ns)
            host.step_ps = iteration_ps(latency_ps, row.running + 1, 0, context, 0)
            host.start_s = max(row.ready_ns - now_ns, 0) * _SECONDS
        elif host.resident == 1:
            host.start_s = host.activate_ns * _SECONDS
        else:
            host.start_s = host.load_ns * _SECONDS
            host.evict_s = reload_ns(state, executor, host.bytes) * _SECONDS


@kernel
def _show_models(state: ClusterState, simulation: Simulation, executor: int, models: Rows) -> None:
    row = state.executors[executor]
    for h in range(row.first_engine, row.first_engine + row.n_engines):
        host, latency_ps = state.hosts[h], simulation.engines.rows[h].latency_ps
        models[host.name, Residency.SERVES] = 1
        models[host.name, Residency.LOAD_S] = host.load_ns * _SECONDS
        models[host.name, Residency.STEP_S] = (latency_ps[0] + latency_ps[1]) * SECONDS_PER_PS
        models[host.name, Residency.PREFILL_S] = latency_ps[2] * SECONDS_PER_PS
        models[host.name, Residency.RESIDENT] = host.resident
        if h == row.engine:
            models[host.name, Residency.ACTIVE] = 1
            models[host.name, Residency.LOADING_S] = host.start_s


@kernel
def _show_placement(
    state: ClusterState, simulation: Simulation, s: int, executor: int, output: float, shown: Rows
) -> None:
    """Fill what it would cost to run the next task of a stage, of a mean output, on an executor that serves it."""
    stage, row = state.stages[s], state.executors[executor]
    if row.n_engines == 0:
        shown[Placement.TASK_S] = stage.task_work_ns * _SECONDS
    else:
        h = state.host_of[executor, stage.pool]
        host = state.hosts[h]
        shown[Placement.MODEL] = host.name
        shown[Placement.LOAD_S] = host.start_s
        shown[Placement.EVICT_S] = host.evict_s
        task = state.tasks[stage.first_task + stage.started_tasks]
        engine = engine_at(simulation.engines, h)
        kv = best_transfer(state, simulation.engines, task, executor)
        blocks = max(kv.blocks, cached_blocks(engine, task)) if host.resident == 1 else kv.blocks
        cached = blocks * engine.row[0].block_size
        shown[Placement.FETCH_S] = max(shown[Placement.FETCH_S], kv.ns * _SECONDS)
        shown[Placement.CACHED_TOKENS] = cached
        shown[Placement.TASK_S] = task_s(engine.row[0].latency_ps, host.step_ps, task, cached, output)
    shown[Placement.SERVES] = 1
    if (row.pools >> stage.pool) & 1 == 0:
        shown[Placement.WAIT_S] = row.wait_s
    elif row.running == row.slots:
        shown[Placement.WAIT_S] = row.wait_s / row.slots  # the first of so many that end at any time until then
    else:
        shown[Placement.LEGAL] = 1


@kernel
def show_ahead(state: ClusterState, tables: Tables) -> None:
    """Fill ``ahead``: what a planner needs to know of the stages in ``nodes`` beside what stands there.

    Args:
        state: The cluster; `show_graph` has shown it.
        tables: ``ahead`` is zeros.
    """
    for i in range(int(tables.system[System.JOB_ROWS])):
        job = state.jobs[state.active[i]]
        for s in range(job.first_stage, job.first_stage + job.n_stages):
            stage = state.stages[s]
            if stage.row < 0:
                continue
            shown, mean = tables.ahead[stage.row], state.means[state.first_node[job.app] + stage.node]
            shown[Ahead.MODEL] = -1
            for h in range(len(state.hosts)):
                if stage.kind == StageKind.LLM and state.hosts[h].model == stage.pool:
                    shown[Ahead.MODEL] = state.hosts[h].name
                    break
            shown[Ahead.OUTPUT_TOKENS] = mean.output_tokens
            shown[Ahead.OUTPUT_BYTES] = mean.output_bytes
