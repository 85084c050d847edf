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
from llmsched_gym.cluster.state import ClusterState, Rows
from llmsched_gym.envs.columns import Ahead, Placement, Residency, System
from llmsched_gym.envs.tables import Tables
from llmsched_gym.workloads.template import StageKind

_SECONDS: Final = 1e-9  # per nanosecond


@kernel
def show_placements(state: ClusterState, simulation: Simulation, tables: Tables) -> None:
    """Fill ``placements`` and ``models``.

    Args:
        state: The cluster.
        simulation: The simulator.
        tables: Both are zeros.
    """
    for e in range(len(state.executors)):
        _show_models(state, simulation, e, tables.models[e])
        row = state.executors[e]
        if row.engine >= 0:
            its = engine_at(simulation.engines, row.engine)
            _, row.context_tokens = readings.present_decodes(its, state.clock[0].now_ns)
    for i in range(min(state.clock[0].ready, len(tables.placements))):
        s = state.ready[i]
        pool, output = state.stages[s].pool, 0.0
        if state.stages[s].kind == StageKind.LLM:
            output = mean_output(state, s)
        for e in range(len(state.executors)):
            shown = tables.placements[i, e]
            shown[Placement.MODEL] = -1
            if state.host_of[e, pool] >= 0 or (
                state.executors[e].n_engines == 0 and (state.executors[e].pools >> pool) & 1
            ):
                _show_placement(state, simulation, s, e, output, shown)


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
            models[host.name, Residency.LOADING_S] = max(row.ready_ns - state.clock[0].now_ns, 0) * _SECONDS


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
        if h == row.engine:
            shown[Placement.LOAD_S] = max(row.ready_ns - state.clock[0].now_ns, 0) * _SECONDS
        elif host.resident == 1:
            shown[Placement.LOAD_S] = host.activate_ns * _SECONDS
        else:
            shown[Placement.LOAD_S] = host.load_ns * _SECONDS
            shown[Placement.EVICT_S] = reload_ns(state, executor, host.bytes) * _SECONDS
        task = state.tasks[stage.first_task + stage.started_tasks]
        engine = engine_at(simulation.engines, h)
        kv = best_transfer(state, simulation.engines, task, executor)
        blocks = max(kv.blocks, cached_blocks(engine, task)) if host.resident == 1 else kv.blocks
        cached = blocks * engine.row[0].block_size
        shown[Placement.FETCH_S] = kv.ns * _SECONDS
        active = h == row.engine
        batch, context = row.running + 1 if active else 1, row.context_tokens if active else 0
        shown[Placement.CACHED_TOKENS] = cached
        shown[Placement.TASK_S] = task_s(engine.row[0].latency_ps, batch, context, task, cached, output)
    shown[Placement.SERVES] = 1
    shown[Placement.FETCH_S] = max(shown[Placement.FETCH_S], fetch_ns(state, s, executor) * _SECONDS)
    overdue_ns = 1 if row.n_engines > 0 else 0  # a batch takes at least that long until something can have changed
    drained_s = max(row.drained_ns - state.clock[0].now_ns, overdue_ns) * _SECONDS
    if (row.pools >> stage.pool) & 1 == 0:
        shown[Placement.WAIT_S] = drained_s
    elif row.running == row.slots:
        shown[Placement.WAIT_S] = drained_s / row.slots  # the first of so many that end at any time until then
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
