"""KV blocks of one engine: free blocks, prefix entries, and what a sequence shares with them.

A block is *used* (private to a running sequence, or in a prefix entry that a running sequence holds), *reclaimable*
(in an entry that nobody holds: it can still be hit, and counts as free) or *free*; the three always add up to the
total.

Two entries can serve a request: that of its application prefix, which holds the leading blocks that all jobs of the
application share, and that of its job prefix, which holds the blocks after those. An entry takes over full blocks from
the sequence that computes them, as soon as they are scheduled, and once more when the sequence finishes (a
conversation that grows). Only a sequence that shares an entry up to its end can extend it, so an entry never mixes two
continuations.

Simplifications against vLLM, whose cache is a hash table of single blocks:

- an entry is one chain: of siblings that continue a prefix differently, one continuation is kept;
- an entry is used or reclaimable as a whole: a holder of its head keeps its tail alive, unless the tail is needed
  (`trim`); eviction takes the least recently used entry's tail first;
- generated tokens can be hit only after their request finished, and a preempted request finds its prompt's entries
  again but not its own generated tokens.

In all functions `engine` is a row of `ENGINE`, `entries` the engine's row of `PREFIX`, `task` a row of `TASK_STATE` and
`sequence` a row of `SEQUENCE`.
"""

from __future__ import annotations

from typing import Any

from llmsched_gym._jit import kernel


@kernel
def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return (tokens + block_size - 1) // block_size


@kernel
def available(engine: Any) -> int:
    """Blocks that can be had now: free ones, and those of entries that nobody holds."""
    return engine.free_blocks + engine.reclaimable_blocks


@kernel
def unlink(engine: Any, entries: Any, index: int) -> None:
    """Take an entry out of the LRU list."""
    entry = entries[index]
    if entry.previous >= 0:
        entries[entry.previous].next = entry.next
    else:
        engine.lru_head = entry.next
    if entry.next >= 0:
        entries[entry.next].previous = entry.previous
    else:
        engine.lru_tail = entry.previous


@kernel
def take(engine: Any, entries: Any, blocks: int) -> None:
    """Use `blocks` blocks, evicting the least recently used entries if needed; at most `available`."""
    engine.free_blocks -= blocks
    while engine.free_blocks < 0:
        index = engine.lru_head
        entry = entries[index]
        evicted = min(entry.blocks, -engine.free_blocks)
        entry.blocks -= evicted
        engine.reclaimable_blocks -= evicted
        engine.free_blocks += evicted
        if entry.blocks == 0:
            unlink(engine, entries, index)


@kernel
def hold(engine: Any, entries: Any, index: int) -> None:
    """Count one more running sequence that holds the entry."""
    entry = entries[index]
    if entry.holders == 0 and entry.blocks > 0:
        unlink(engine, entries, index)
        engine.reclaimable_blocks -= entry.blocks
    entry.holders += 1


@kernel
def drop(engine: Any, entries: Any, index: int) -> None:
    """Count one holder less; the last one makes the entry reclaimable, as the most recently used."""
    entry = entries[index]
    entry.holders -= 1
    if entry.holders == 0 and entry.blocks > 0:
        engine.reclaimable_blocks += entry.blocks
        entry.previous = engine.lru_tail
        entry.next = -1
        if engine.lru_tail >= 0:
            entries[engine.lru_tail].next = index
        else:
            engine.lru_head = index
        engine.lru_tail = index


@kernel
def trim(engine: Any, entries: Any, index: int, blocks: int) -> None:
    """Free what an entry holds beyond its first `blocks` blocks."""
    entry = entries[index]
    surplus = entry.blocks - blocks
    if surplus <= 0:
        return
    if entry.holders == 0:
        engine.reclaimable_blocks -= surplus
        if blocks == 0:
            unlink(engine, entries, index)
    entry.blocks = blocks
    engine.free_blocks += surplus


@kernel
def app_share(engine: Any, task: Any) -> int:
    """Full blocks at the start of the task's prompt that belong to its application's prefix."""
    return task.app_prefix_tokens // engine.block_size if task.app_prefix >= 0 else 0


@kernel
def look_up(engine: Any, entries: Any, task: Any, tokens: int) -> tuple[int, int]:
    """Blocks that a prefill of `tokens` tokens finds in the cache; at least one token is left to compute.

    A job entry that cannot be reached because the application's blocks before it are gone is discarded.

    Returns:
        Blocks of the application's entry, and of the job's entry (-1: the job's entry is of no use to the task).
    """
    if engine.prefix_caching == 0:
        return 0, -1
    size = engine.block_size
    limit = (tokens - 1) // size
    start = app_share(engine, task)
    app_cached = entries[task.app_prefix].blocks if task.app_prefix >= 0 else 0
    app_blocks = min(start, limit, app_cached)
    if task.job_prefix < 0:
        return app_blocks, -1
    job = entries[task.job_prefix]
    if job.start != start or app_cached < start:
        if job.holders > 0:
            return app_blocks, -1
        trim(engine, entries, task.job_prefix, 0)
        job.start = start
    job_blocks = min(task.job_prefix_tokens // size, limit) - start
    return app_blocks, max(0, min(job_blocks, job.blocks))


@kernel
def attach(engine: Any, entries: Any, task: Any, tokens: int, sequence: Any) -> bool:
    """Give a request its cached blocks if the whole of its prefill fits, as admission demands.

    Args:
        engine: Engine row.
        entries: Prefix entries of the engine.
        task: Task row.
        tokens: Tokens of the whole prefill.
        sequence: Row whose `app_blocks` and `job_blocks` are set.

    Returns:
        Whether it fits. If not, nothing is held.
    """
    app_blocks, job_blocks = look_up(engine, entries, task, tokens)
    app = task.app_prefix if engine.prefix_caching != 0 else -1
    job = task.job_prefix if job_blocks >= 0 else -1
    pinned = 0  # reclaimable blocks that the hits need, and that their whole entries have
    whole = 0
    if app >= 0 and entries[app].holders == 0:
        pinned += app_blocks
        whole += entries[app].blocks
    if job >= 0 and entries[job].holders == 0:
        pinned += job_blocks
        whole += entries[job].blocks
    need = blocks_for(tokens, engine.block_size) - app_blocks - max(job_blocks, 0)
    room = available(engine) - engine.watermark_blocks
    if need + pinned > room:
        return False
    if app >= 0:
        if need + whole > room and entries[app].holders == 0:
            trim(engine, entries, app, app_blocks)
        hold(engine, entries, app)
    if job >= 0:
        if need + whole > room and entries[job].holders == 0:
            trim(engine, entries, job, job_blocks)
        hold(engine, entries, job)
    sequence.app_blocks = app_blocks
    sequence.job_blocks = job_blocks
    return True


@kernel
def share(engine: Any, entries: Any, task: Any, sequence: Any, tokens: int) -> None:
    """Let the entries take over the full blocks of the sequence's first `tokens` tokens where they continue them."""
    full = tokens // engine.block_size
    start = app_share(engine, task)
    if engine.prefix_caching != 0 and task.app_prefix >= 0:
        app = entries[task.app_prefix]
        if sequence.app_blocks == app.blocks and min(full, start) > app.blocks:
            app.blocks = min(full, start)
            sequence.app_blocks = app.blocks
    if sequence.job_blocks >= 0:
        job = entries[task.job_prefix]
        if sequence.job_blocks == job.blocks and full - start > job.blocks:
            job.blocks = full - start
            sequence.job_blocks = job.blocks


@kernel
def release(engine: Any, entries: Any, task: Any, sequence: Any, tokens: int) -> None:
    """Free the private blocks of a sequence with `tokens` tokens in KV and drop its entries."""
    shared = sequence.app_blocks + max(sequence.job_blocks, 0)
    engine.free_blocks += blocks_for(tokens, engine.block_size) - shared
    if sequence.job_blocks >= 0:
        drop(engine, entries, task.job_prefix)
    if engine.prefix_caching != 0 and task.app_prefix >= 0:
        drop(engine, entries, task.app_prefix)
