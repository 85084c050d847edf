"""KV of a prompt that another engine has cached: when a task fetches it instead of computing it again.

As KV connectors of vLLM do: what an engine of the same model elsewhere has cached of a prompt's prefix is sent over, if
by the profile that is quicker than computing it, and counts as cached when the request is admitted for the first time.
What it finds is read at dispatch. Nothing is pinned at the source, links are never full, and what has arrived waits
outside the KV cache until the request is admitted: assumed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import take
from llmsched_gym.backends.simulator.kv_cache import cached_blocks, catch_up
from llmsched_gym.backends.simulator.segments import boundary_at, growth
from llmsched_gym.backends.simulator.state import Engine, Engines, PrefixCache, engine_at
from llmsched_gym.cluster.state import FAR, ClusterState, Rows


class Transfer(NamedTuple):
    """KV that a task fetches.

    Attributes:
        blocks: Leading blocks of its prompt that are at hand then, in blocks of the engine that it goes to; 0: it
            fetches nothing.
        bytes: What is sent.
        ns: How long that takes.
    """

    blocks: int
    bytes: int
    ns: int


@kernel
def best_transfer(state: ClusterState, engines: Engines, task: Rows, executor: int) -> Transfer:
    """Choose from where a task that an executor gets now fetches KV, so that it gains most by it, if anything."""
    best = Transfer(0, 0, 0)
    if state.kv_links.shape[0] == 0:
        return best
    now_ns, here = state.clock[0].now_ns, state.host_of[executor, state.stages[task.stage].pool]
    if here < 0 or engines.rows[here].prefix_cache != PrefixCache.BLOCKS:
        return best
    host, size = state.hosts[here], engines.rows[here].block_size
    latency_ps = engines.rows[here].latency_ps
    cached = _cached_tokens(state, engines, here, task, now_ns)
    best_ps = 0
    for e in range(len(state.executors)):
        source = _host_of_name(state, e, host.name)
        if source < 0 or source == here:
            continue
        found = _cached_tokens(state, engines, source, task, now_ns) // size * size
        missing = found - cached
        if missing <= 0:
            continue
        link = state.kv_links[state.executors[e].location, state.executors[executor].location]
        sent = missing * host.kv_bytes
        sent_ns = link.latency_ns + math.ceil(sent * link.ns_per_byte)
        attended = missing * cached + missing * (missing - 1) // 2
        gain_ps = missing * latency_ps[2] + attended * latency_ps[4] - sent_ns * 1000
        if gain_ps > best_ps:
            best_ps = gain_ps
            best = Transfer(found // size, sent, sent_ns)
    return best


@kernel
def _host_of_name(state: ClusterState, executor: int, name: int) -> int:
    """Return the row by which an executor serves a model of the cluster; -1: it does not."""
    row = state.executors[executor]
    for h in range(row.first_engine, row.first_engine + row.n_engines):
        if state.hosts[h].name == name:
            return h
    return -1


@kernel
def _cached_tokens(state: ClusterState, engines: Engines, host: int, task: Rows, now_ns: int) -> int:
    """Return how many leading tokens of a task's prompt are in the prefix cache of an engine now."""
    if state.hosts[host].resident == 0 or engines.rows[host].prefix_cache != PrefixCache.BLOCKS:
        return 0
    engine = engine_at(engines, host)
    settle(engine, state.tasks, now_ns)
    return cached_blocks(engine, task) * engine.row[0].block_size


@kernel
def settle(engine: Engine, tasks: Any, now_ns: int) -> None:
    """Bring the prefix cache of an engine to what an engine that goes iteration by iteration has cached by now.

    The iterations of the segment that have been scheduled by then have taken blocks, which what was cached may have
    had to give up, and have filled blocks of chains.
    """
    row = engine.row[0]
    later = 0
    if row.event_ns != FAR:
        later = min(boundary_at(row, now_ns), row.segment) - 1
        blocks = growth(row, later)
        take(engine, blocks - row.settled_blocks)
        row.settled_blocks = blocks
    catch_up(engine, tasks, -1, row.iterations + later - 1)
