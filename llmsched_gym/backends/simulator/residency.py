"""What a dispatch has to wait for: a model that becomes active, inputs that lie elsewhere.

An executor that serves several models has an engine for each, with its own KV room and prefix cache, and one of them is
active. Another one follows only when no task is left; if it is not resident, the models used least recently make room,
whose prefix caches are lost, and it is loaded. Tasks may be dispatched meanwhile: they hold their slots, and join when
the model is there.

A task fetches what its stage's parents have left at other locations, from all of them at once, each task anew. Links
have their rate for each transfer (assumed: they are never full). Loading and fetching overlap.
"""

from __future__ import annotations

import math

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import clear_cache
from llmsched_gym.backends.simulator.state import Engines, engine_at
from llmsched_gym.cluster.lifecycle import set_pools
from llmsched_gym.cluster.state import FAR, ClusterState, Rows


@kernel
def activate(state: ClusterState, engines: Engines, executor: int, model: int) -> int:
    """Let the model of a task that is about to be dispatched be the active one of an executor.

    Call it before the task holds its slot. The executor takes tasks of no other model until it is drained.

    Returns:
        How long loading takes that begins by it, or activating: ns; 0 if the model was active already.
    """
    row = state.executors[executor]
    if row.serves == 0:
        return 0
    now_ns = state.clock[0].now_ns
    wanted = state.host_of[executor, model]
    host = state.hosts[wanted]
    delay_ns = 0
    if wanted != row.engine:
        delay_ns = host.activate_ns
        if host.resident == 0:
            _make_room(state, engines, row, host.bytes)
            host.resident = 1
            row.free_bytes -= host.bytes
            delay_ns = host.load_ns
        row.engine = wanted
        row.ready_ns = now_ns + delay_ns
    host.used_ns = now_ns
    if row.running == 0:
        set_pools(state, executor, np.uint64(1) << np.uint64(model))
    return delay_ns


@kernel
def _make_room(state: ClusterState, engines: Engines, row: Rows, needed: int) -> None:
    """Evict the models of an executor that were used least recently, until there is room."""
    while row.free_bytes < needed:
        victim = _used_least_recently(state, row, -FAR, -1)
        state.hosts[victim].resident = 0
        row.free_bytes += state.hosts[victim].bytes
        clear_cache(engine_at(engines, victim))


@kernel
def _used_least_recently(state: ClusterState, row: Rows, used_ns: int, victim: int) -> int:
    """Return the resident model of an executor that would be evicted next after `victim`, last used at `used_ns`."""
    best = -1
    for e in range(row.first_engine, row.first_engine + row.n_engines):
        host = state.hosts[e]
        later = host.used_ns > used_ns or (host.used_ns == used_ns and e > victim)
        if host.resident == 1 and later and (best < 0 or host.used_ns < state.hosts[best].used_ns):
            best = e
    return best


@kernel
def reload_ns(state: ClusterState, executor: int, needed: int) -> int:
    """Return how long it would take to load back what has to make room for so many bytes."""
    row = state.executors[executor]
    free, total_ns, victim, used_ns = row.free_bytes, 0, -1, -FAR
    while free < needed:
        victim = _used_least_recently(state, row, used_ns, victim)
        used_ns = state.hosts[victim].used_ns
        free += state.hosts[victim].bytes
        total_ns += state.hosts[victim].load_ns
    return total_ns


@kernel
def drain(state: ClusterState, executor: int) -> None:
    """Take note if an executor holds no task any more; one that serves several models can then take those of any."""
    row = state.executors[executor]
    if row.running > 0:
        return
    row.drained_ns = state.clock[0].now_ns
    if row.serves != 0:
        state.hosts[row.engine].used_ns = row.drained_ns
        set_pools(state, executor, row.serves)


@kernel
def fetch_ns(state: ClusterState, stage: int, executor: int) -> int:
    """Return how long it takes until the inputs of a task of a stage are where an executor is, in ns."""
    here = state.executors[executor].location
    longest_ns = 0
    for there in range(state.inputs.shape[1]):
        size = state.inputs[stage, there]
        if there != here and size > 0:
            link = state.links[there, here]
            longest_ns = max(longest_ns, link.latency_ns + math.ceil(size * link.ns_per_byte))
    return longest_ns


@kernel
def bytes_elsewhere(state: ClusterState, stage: int, executor: int) -> int:
    """Return the bytes of a stage's inputs that are not where an executor is."""
    total = 0
    for there in range(state.inputs.shape[1]):
        if there != state.executors[executor].location:
            total += state.inputs[stage, there]
    return total
