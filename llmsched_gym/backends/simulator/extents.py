"""KV blocks by the run: extents, and the queue in which those that nobody holds are reused.

A full block is known by its *content*: the tokens in it and all before it. Contents are numbered (a prefix of an
application, a chain of a job, the own tokens of a request that was preempted), and a block of one by its position. The
same block may exist more than once: a request that finds a whole prompt cached computes the last block again. An
*extent* is a run of blocks of one copy of a content in one state, held by so many running sequences, or by none and
then in the queue. What a block-by-block cache does to blocks is done here to extents, cut where needed:

- the list of a content (``after``) is in the order in which its blocks entered the cache; of several copies of a block
  the first counts, as in vLLM's hash table;
- the queue starts with blocks without content, which are only counted (``free_blocks``); extents follow, the least
  recently held first. Of an extent the last block is reused first, as requests let go of their last block first.

Row 0 of `extents` is no extent: its ``newer`` is the oldest of the queue, its ``older`` the newest.
"""

from __future__ import annotations

from typing import Any, Final

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.state import Engine, PrefixCache

UNREACHABLE: Final = -1
"""Content that nobody will ask for again."""


@kernel
def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return (tokens + block_size - 1) // block_size


@kernel
def available(row: Any) -> int:
    """Blocks of an engine row that can be had now: those without content, and those that nobody holds."""
    return row.free_blocks + row.cached_blocks


@kernel
def new_extent(engine: Engine, content: int, copy: int, first: int, stop: int) -> int:
    """Return a fresh extent that is in no list."""
    row = engine.row[0]
    index = row.spare_extent
    if index > 0:
        row.spare_extent = engine.extents[index].after
    else:
        row.extents_used += 1
        index = row.extents_used
    extent = engine.extents[index]
    extent.content = content
    extent.copy = copy
    extent.first = first
    extent.stop = stop
    extent.holders = 0
    extent.after = 0
    return index


@kernel
def spare(engine: Engine, index: int) -> None:
    """Keep the row of an extent that is in no list any more for another one."""
    engine.extents[index].after = engine.row[0].spare_extent
    engine.row[0].spare_extent = index


@kernel
def last_of(engine: Engine, content: int) -> int:
    """Return the last extent of a content's list; 0: it has none."""
    index = engine.contents[content].first
    while index > 0 and engine.extents[index].after > 0:
        index = engine.extents[index].after
    return index


@kernel
def remove(engine: Engine, index: int) -> None:
    """Take an extent that is not in the queue out of its content's list, and spare its row."""
    extents, extent = engine.extents, engine.extents[index]
    if extent.content != UNREACHABLE:
        content = engine.contents[extent.content]
        if content.first == index:
            content.first = extent.after
        else:
            before = content.first
            while extents[before].after != index:
                before = extents[before].after
            extents[before].after = extent.after
    spare(engine, index)


@kernel
def find(engine: Engine, content: int, block: int, stop: int) -> tuple[int, int]:
    """Find the copy of a block that counts.

    Returns:
        The extent that holds it (0: none), and up to which block, at most `stop`, it holds those that count.
    """
    index = engine.contents[content].first
    while index > 0:
        extent = engine.extents[index]
        if extent.first <= block < extent.stop:
            return index, min(stop, extent.stop)
        if block < extent.first < stop:
            stop = extent.first
        index = extent.after
    return 0, block


@kernel
def clear_cache(engine: Engine) -> None:
    """Forget all that an idle engine has cached."""
    row = engine.row[0]
    row.free_blocks = row.total_blocks
    row.cached_blocks = 0
    row.spare_extent = 0
    row.extents_used = 0
    engine.extents[0].older = 0
    engine.extents[0].newer = 0
    for k in range(len(engine.contents)):
        engine.contents[k].first = 0


@kernel
def split(engine: Engine, index: int, block: int) -> int:
    """Cut an extent before a block of it; returns the upper part, a new one."""
    extents, lower = engine.extents, engine.extents[index]
    above = new_extent(engine, lower.content, lower.copy, block, lower.stop)
    upper = extents[above]
    lower.stop = block
    upper.holders = lower.holders
    upper.after = lower.after
    lower.after = above
    if lower.holders == 0:
        upper.older = lower.older
        upper.newer = index
        extents[lower.older].newer = above
        lower.older = above
    return above


@kernel
def unlink(engine: Engine, index: int) -> None:
    """Take an extent out of the queue."""
    extent = engine.extents[index]
    engine.extents[extent.older].newer = extent.newer
    engine.extents[extent.newer].older = extent.older


@kernel
def link(engine: Engine, index: int) -> None:
    """Put an extent at the end of the queue."""
    extents, extent = engine.extents, engine.extents[index]
    extent.older = extents[0].older
    extent.newer = 0
    extents[extent.older].newer = index
    extents[0].older = index


@kernel
def let_go(engine: Engine, index: int) -> None:
    """Put an extent that nobody holds any more at the end of the queue, as one with the end where it continues that."""
    extents, extent = engine.extents, engine.extents[index]
    engine.row[0].cached_blocks += extent.stop - extent.first
    newest = extents[0].older
    upper = extents[newest]
    if newest > 0 and upper.content == extent.content and upper.first == extent.stop:
        if extent.after == newest:
            extent.stop = upper.stop
            extent.after = upper.after
            unlink(engine, newest)
            spare(engine, newest)
        elif upper.after == index:
            upper.first = extent.first
            upper.after = extent.after
            spare(engine, index)
            return
    link(engine, index)


@kernel
def abandon(engine: Engine, blocks: int) -> None:
    """Put blocks that are cached, but that nobody will ask for, at the end of the queue."""
    if blocks <= 0:
        return
    engine.row[0].cached_blocks += blocks
    newest = engine.extents[0].older
    if newest > 0 and engine.extents[newest].content == UNREACHABLE:
        engine.extents[newest].stop += blocks
    else:
        link(engine, new_extent(engine, UNREACHABLE, 0, 0, blocks))


@kernel
def take(engine: Engine, blocks: int) -> None:
    """Use `blocks` blocks, at most those available: those without content first, then what was held longest ago."""
    engine.row[0].free_blocks -= blocks
    if engine.row[0].free_blocks < 0:
        _evict(engine)


@kernel
def _evict(engine: Engine) -> None:
    """Take blocks out of the queue, as many as are missing."""
    row = engine.row[0]
    while row.free_blocks < 0:
        index = engine.extents[0].newer
        extent = engine.extents[index]
        evicted = min(extent.stop - extent.first, -row.free_blocks)
        extent.stop -= evicted
        row.cached_blocks -= evicted
        row.free_blocks += evicted
        if extent.stop == extent.first:
            unlink(engine, index)
            if row.prefix_cache == PrefixCache.BLOCKS:
                remove(engine, index)
