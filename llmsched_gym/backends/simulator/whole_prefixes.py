"""The prefix cache of the environments of version 0: prefixes as wholes, and nothing else.

Their dynamics are frozen, and this is part of them. Against vLLM's cache (`kv_cache`) it differs so:

- one extent per application prefix and per chain, held or not as a whole, and extended only by a sequence that shares
  it up to its end: of siblings that continue a prefix differently, the continuation of the first stays;
- blocks that nobody but their own request could ask for are not kept: a request that ended leaves more room for
  prefixes than in vLLM, and one that was preempted finds only what it shares.

Extent ``1 + content`` is that of a content, in the queue while it has blocks and nobody holds it.
"""

from __future__ import annotations

from typing import Any

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import blocks_for, link, unlink
from llmsched_gym.backends.simulator.state import Engine


@kernel
def _blocks(engine: Engine, content: int) -> int:
    """Blocks that are cached of a content (-1: none)."""
    return engine.extents[1 + content].stop - engine.extents[1 + content].first if content >= 0 else 0


@kernel
def _hold(engine: Engine, content: int, blocks: int, short: bool) -> None:
    """Count one more holder of a content (-1: none), which needs `blocks` of it; `short` of others, keeps no more."""
    if content < 0:
        return
    extent = engine.extents[1 + content]
    if short and extent.holders == 0:
        _trim(engine, content, blocks)
    if extent.holders == 0 and _blocks(engine, content) > 0:
        unlink(engine, 1 + content)
        engine.row[0].cached_blocks -= _blocks(engine, content)
    extent.holders += 1


@kernel
def _drop(engine: Engine, content: int) -> None:
    """Count one holder less; without one, the content is the most recently used."""
    extent = engine.extents[1 + content]
    extent.holders -= 1
    if extent.holders == 0 and _blocks(engine, content) > 0:
        engine.row[0].cached_blocks += _blocks(engine, content)
        link(engine, 1 + content)


@kernel
def _trim(engine: Engine, content: int, blocks: int) -> None:
    """Free what is cached of a content beyond its first `blocks` blocks."""
    row, extent = engine.row[0], engine.extents[1 + content]
    surplus = _blocks(engine, content) - blocks
    if surplus <= 0:
        return
    if extent.holders == 0:
        row.cached_blocks -= surplus
        if blocks == 0:
            unlink(engine, 1 + content)
    extent.stop -= surplus
    row.free_blocks += surplus


@kernel
def _look_up(engine: Engine, task: Any, tokens: int) -> tuple[int, int]:
    """Return the cached blocks of the application's prefix and of the chain (-1: of no use) for a prefill of `tokens`.

    At least one token is left to compute. A chain that cannot be reached because the prefix before it is gone is
    discarded.
    """
    size = engine.row[0].block_size
    limit, start = (tokens - 1) // size, task.app_prefix_tokens // size
    app_cached = _blocks(engine, task.app_prefix)
    app_blocks = min(start, limit, app_cached)
    if task.chain < 0:
        return app_blocks, -1
    extent = engine.extents[1 + task.chain]
    if extent.first != start or app_cached < start:
        if extent.holders > 0:
            return app_blocks, -1
        _trim(engine, task.chain, 0)
        extent.first = start
        extent.stop = start
    job_blocks = min(task.job_prefix_tokens // size, limit) - start
    return app_blocks, max(0, min(job_blocks, _blocks(engine, task.chain)))


@kernel
def cached_blocks(engine: Engine, task: Any, limit: int) -> int:
    """Count the leading blocks of a task's prompt, at most `limit`, that are cached; nothing changes by it."""
    size = engine.row[0].block_size
    start, app_cached = task.app_prefix_tokens // size, _blocks(engine, task.app_prefix)
    blocks = min(start, limit, app_cached)
    if task.chain < 0 or blocks < start or engine.extents[1 + task.chain].first != start:
        return blocks
    job_blocks = min(task.job_prefix_tokens // size, limit) - start
    return blocks + max(0, min(job_blocks, _blocks(engine, task.chain)))


@kernel
def admit(engine: Engine, task: Any, tokens: int, room: int, sequence: Any) -> bool:
    """Give a request its cached blocks if the whole of its prefill fits in `room`; if not, nothing is held."""
    row = engine.row[0]
    app_blocks, job_blocks = _look_up(engine, task, tokens)
    app, chain = task.app_prefix, task.chain if job_blocks >= 0 else -1
    pinned, whole = 0, 0  # blocks that nobody holds: what the hits need of them, and all of their contents
    if app >= 0 and engine.extents[1 + app].holders == 0:
        pinned += app_blocks
        whole += _blocks(engine, app)
    if chain >= 0 and engine.extents[1 + chain].holders == 0:
        pinned += job_blocks
        whole += _blocks(engine, chain)
    need = blocks_for(tokens, row.block_size) - app_blocks - max(job_blocks, 0)
    if need + pinned > room:
        return False
    short = need + whole > room
    _hold(engine, app, app_blocks, short)
    _hold(engine, chain, job_blocks, short)
    sequence.app_blocks = app_blocks
    sequence.job_blocks = job_blocks
    sequence.hits = app_blocks + max(job_blocks, 0)
    return True


@kernel
def share(engine: Engine, task: Any, sequence: Any, tokens: int) -> None:
    """Let contents take over the full blocks of a sequence's first `tokens` tokens where they continue them."""
    size = engine.row[0].block_size
    full, start = tokens // size, task.app_prefix_tokens // size
    if task.app_prefix >= 0:
        blocks = _blocks(engine, task.app_prefix)
        if sequence.app_blocks == blocks and min(full, start) > blocks:
            engine.extents[1 + task.app_prefix].stop = min(full, start)
            sequence.app_blocks = min(full, start)
    if 0 <= sequence.job_blocks < full - start and sequence.job_blocks == _blocks(engine, task.chain):
        engine.extents[1 + task.chain].stop = full
        sequence.job_blocks = full - start


@kernel
def release(engine: Engine, task: Any, sequence: Any, blocks: int) -> None:
    """Free those of a sequence's `blocks` blocks that only it uses, and drop its contents."""
    engine.row[0].free_blocks += blocks - sequence.app_blocks - max(sequence.job_blocks, 0)
    if sequence.job_blocks >= 0:
        _drop(engine, task.chain)
    if task.app_prefix >= 0:
        _drop(engine, task.app_prefix)


@kernel
def trim_to_own(engine: Engine, task: Any, sequence: Any) -> None:
    """Cut what a sequence holds down to its own blocks: alone on the engine, it needs no more of them."""
    if task.app_prefix >= 0:
        _trim(engine, task.app_prefix, sequence.app_blocks)
    if sequence.job_blocks >= 0:
        _trim(engine, task.chain, sequence.job_blocks)
