"""The prefix cache of one engine: what requests find in it, and what they leave.

A request's tokens are its application's prefix, then its job's chain, then its own (workloads/contents.py). Blocks of a
running sequence enter the cache as soon as they are scheduled to be full, so that a sibling admitted in the same
iteration finds them; blocks of one that ended stay until they are reused. What nobody but the request itself could ask
for is noted only when it is preempted: then it finds its own prompt and output again, as far as they are still there.

The chain blocks that a decoding sequence fills are not noted one by one, but when somebody asks for them
(`catch_up`): nobody else can add to the chain meanwhile, as engines go iteration by iteration where two do.
"""

from __future__ import annotations

from typing import Any

from llmsched_gym._jit import kernel
from llmsched_gym.backends import whole_prefixes
from llmsched_gym.backends.engine_state import Engine, PrefixCache
from llmsched_gym.backends.extents import (
    UNREACHABLE,
    abandon,
    available,
    blocks_for,
    find,
    last_of,
    let_go,
    new_extent,
    remove,
    split,
    unlink,
)


@kernel
def adds_to_chain(task: Any) -> bool:
    """Tell whether a task's output, like all of its prompt, belongs to its job's chain."""
    return task.own_from > task.prompt_tokens


@kernel
def _part(engine: Engine, task: Any, own: int, block: int) -> tuple[int, int]:
    """Return the content of a request's block (-1: own tokens that nobody has noted), and where it ends in blocks."""
    size = engine.row[0].block_size
    app_blocks = task.app_prefix_tokens // size
    if block < app_blocks:
        return task.app_prefix, app_blocks
    shared_blocks = task.own_from // size
    if block < shared_blocks:
        return task.chain, shared_blocks
    return own, engine.row[0].total_blocks


# --- admission ---


@kernel
def admit(engine: Engine, tasks: Any, request: Any, sequence: Any) -> bool:
    """Give a waiting request the blocks that it finds in the cache, if all that it must compute fits beside them.

    Blocks that it finds but that nobody holds count as free until then. The watermark stays free, unless nothing runs.

    Args:
        engine: The engine.
        tasks: Task rows.
        request: `WAITING` row.
        sequence: `SEQUENCE` row, of which is set what says what it holds.

    Returns:
        Whether it fits. If not, nothing is held.
    """
    row, task = engine.row[0], tasks[request.task]
    if row.prefix_cache == PrefixCache.PREFIXES:
        return whole_prefixes.admit(engine, task, task.prompt_tokens + request.generated, sequence)
    tokens = task.prompt_tokens + request.generated
    hits, idle = 0, 0
    if row.prefix_cache == PrefixCache.BLOCKS:
        hits, idle = _look_up(engine, tasks, request, (tokens - 1) // row.block_size)
    watermark = row.watermark_blocks if row.running > 0 else 0
    if blocks_for(tokens, row.block_size) - hits + idle + watermark > available(row):
        return False
    _hold(engine, task, request.own, hits)
    row.admissions += 1
    sequence.copy = row.admissions
    sequence.hits = hits
    sequence.written = hits
    sequence.own = request.own
    return True


@kernel
def _look_up(engine: Engine, tasks: Any, request: Any, limit: int) -> tuple[int, int]:
    """Return how many leading blocks, at most `limit`, are in the cache, and how many of them nobody holds."""
    task = tasks[request.task]
    block, idle = 0, 0
    caught_up = False
    while block < limit:
        content, end = _part(engine, task, request.own, block)
        if content < 0:
            break
        index, stop = find(engine, content, block, min(limit, end))
        if index > 0:
            if engine.extents[index].holders == 0:
                idle += stop - block
            block = stop
        elif content == task.chain and engine.contents[content].writers > 0 and not caught_up:
            catch_up(engine, tasks, content)
            caught_up = True
        else:
            break
    return block, idle


@kernel
def _hold(engine: Engine, task: Any, own: int, hits: int) -> None:
    """Hold a request's first `hits` blocks, all in the cache."""
    block = 0
    while block < hits:
        content, end = _part(engine, task, own, block)
        index, stop = find(engine, content, block, min(hits, end))
        if engine.extents[index].first < block:
            index = split(engine, index, block)
        if engine.extents[index].stop > stop:
            split(engine, index, stop)
        extent = engine.extents[index]
        if extent.holders == 0:
            unlink(engine, index)
            engine.row[0].cached_blocks -= stop - block
        extent.holders += 1
        block = stop


# --- what a running sequence adds ---


@kernel
def _write(engine: Engine, content: int, copy: int, first: int, stop: int) -> None:
    """Note blocks that a running sequence has filled."""
    last = last_of(engine, content)
    extent = engine.extents[last]
    if last > 0 and extent.copy == copy and extent.stop == first and extent.holders == 1:
        extent.stop = stop
        return
    index = new_extent(engine, content, copy, first, stop)
    engine.extents[index].holders = 1
    if last > 0:
        extent.after = index
    else:
        engine.contents[content].first = index


@kernel
def write_prompt(engine: Engine, tasks: Any, sequence: Any, first: int, stop: int) -> None:
    """Note the blocks of a sequence's prefix and chain among its blocks `first` to `stop`, which a chunk has filled."""
    row, task = engine.row[0], tasks[sequence.task]
    if row.prefix_cache == PrefixCache.PREFIXES:
        whole_prefixes.share(engine, task, sequence, min(row.prefill_done, task.prompt_tokens))
    if row.prefix_cache != PrefixCache.BLOCKS:
        return
    app_blocks, shared_blocks = task.app_prefix_tokens // row.block_size, task.own_from // row.block_size
    if first < min(stop, app_blocks):
        _write(engine, task.app_prefix, sequence.copy, first, min(stop, app_blocks))
    first, stop = max(first, app_blocks), min(stop, shared_blocks)
    if first < stop:
        if engine.contents[task.chain].writers > 0:
            catch_up(engine, tasks, task.chain)
        _write(engine, task.chain, sequence.copy, first, stop)
    sequence.written = stop


@kernel
def start_writing(engine: Engine, task: Any) -> None:
    """Take note that a sequence goes on to add to its chain."""
    if engine.row[0].prefix_cache == PrefixCache.BLOCKS and adds_to_chain(task):
        content = engine.contents[task.chain]
        content.writers += 1
        engine.row[0].shared_chains += content.writers == 2


@kernel
def stop_writing(engine: Engine, task: Any) -> None:
    """Take note that a sequence adds to its chain no more."""
    if engine.row[0].prefix_cache == PrefixCache.BLOCKS and adds_to_chain(task):
        content = engine.contents[task.chain]
        content.writers -= 1
        engine.row[0].shared_chains -= content.writers == 1


@kernel
def catch_up(engine: Engine, tasks: Any, chain: int) -> None:
    """Note the blocks that decoding sequences have filled of a chain (-1: of all), after they were scheduled."""
    row = engine.row[0]
    for k in range(row.decoding):
        sequence = engine.running[k]
        task = tasks[sequence.task]
        if adds_to_chain(task) and (chain < 0 or task.chain == chain):
            # A token whose iteration is in flight is not known yet, and so neither is the block that it fills.
            unknown = row.async_scheduling * (1 + (sequence.done_step == row.iterations))
            _write_decoded(engine, task, sequence, row.iterations + sequence.base - unknown)


@kernel
def _write_decoded(engine: Engine, task: Any, sequence: Any, tokens: int) -> None:
    """Note the blocks that a decoding sequence has filled of its chain with its first `tokens` tokens."""
    full = tokens // engine.row[0].block_size
    if full > sequence.written:
        _write(engine, task.chain, sequence.copy, sequence.written, full)
        sequence.written = full


# --- the end ---


@kernel
def finish(engine: Engine, task: Any, sequence: Any, tokens: int) -> None:
    """Let go of the blocks of a sequence that is complete, with `tokens` tokens in KV."""
    row = engine.row[0]
    if row.prefix_cache == PrefixCache.PREFIXES:
        whole_prefixes.share(engine, task, sequence, tokens)
        whole_prefixes.release(engine, task, sequence, tokens)
        return
    full = tokens // row.block_size if row.prefix_cache == PrefixCache.BLOCKS else 0
    row.free_blocks += blocks_for(tokens, row.block_size) - full
    if full == 0:
        return
    if adds_to_chain(task):
        _write_decoded(engine, task, sequence, tokens)
    shared = min(full, task.own_from // row.block_size)
    forget(engine, sequence.own)
    abandon(engine, full - shared)
    _release(engine, task, sequence, shared)


@kernel
def preempt(engine: Engine, task: Any, sequence: Any, tokens: int, known: int) -> None:
    """Let go of the blocks of a sequence with `tokens` tokens in KV, `known` of them cached, that will restart."""
    row = engine.row[0]
    if row.prefix_cache == PrefixCache.PREFIXES:
        whole_prefixes.release(engine, task, sequence, tokens)
        return
    full = known // row.block_size if row.prefix_cache == PrefixCache.BLOCKS else 0
    row.free_blocks += blocks_for(tokens, row.block_size) - full
    if full == 0:
        return
    if adds_to_chain(task):
        _write_decoded(engine, task, sequence, known)
    own_from = max(task.own_from // row.block_size, sequence.hits)
    if full > own_from:
        if sequence.own < 0:
            sequence.own = _new_content(engine)
        _write(engine, sequence.own, sequence.copy, own_from, full)
    _release(engine, task, sequence, full)


@kernel
def _release(engine: Engine, task: Any, sequence: Any, blocks: int) -> None:
    """Let go of a sequence's first `blocks` blocks, the last one first."""
    while blocks > 0:
        content, _ = _part(engine, task, sequence.own, blocks - 1)
        index, _ = find(engine, content, blocks - 1, blocks)
        if blocks > sequence.hits:
            while engine.extents[index].copy != sequence.copy or engine.extents[index].stop < blocks:
                index = engine.extents[index].after
        extent = engine.extents[index]
        blocks = extent.first
        extent.holders -= 1
        if extent.holders == 0:
            let_go(engine, index)


@kernel
def _new_content(engine: Engine) -> int:
    """Return a content row for a request's own tokens."""
    row = engine.row[0]
    index = row.spare_content
    if index >= 0:
        row.spare_content = engine.contents[index].writers
    else:
        index = row.contents_used
        row.contents_used += 1
    engine.contents[index].first = 0
    return index


@kernel
def forget(engine: Engine, own: int) -> None:
    """Give up the content row of a request that is complete (-1: none): nobody will ask for its own blocks.

    The caller counts those that its sequence holds as abandoned; the others stay where they are in the queue.
    """
    if own < 0:
        return
    index = engine.contents[own].first
    while index > 0:
        extent = engine.extents[index]
        after = extent.after
        if extent.holders > 0:
            extent.content = UNREACHABLE
            remove(engine, index)
        else:
            extent.content = UNREACHABLE
        index = after
    engine.contents[own].writers = engine.row[0].spare_content
    engine.row[0].spare_content = own
