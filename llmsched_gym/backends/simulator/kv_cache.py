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
from llmsched_gym.backends.simulator import whole_prefixes
from llmsched_gym.backends.simulator.extents import (
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
from llmsched_gym.backends.simulator.state import Engine, PrefixCache


@kernel
def adds_to_chain(task: Any) -> bool:
    """Tell whether a task's output, like all of its prompt, belongs to its job's chain."""
    return task.own_from > task.prompt_tokens


@kernel
def _content_of(task: Any, sequence: Any, block: int) -> int:
    """Return the content of a sequence's block; -1: its own, which nobody has noted."""
    if block < sequence.app_blocks:
        return task.app_prefix
    return task.chain if block < sequence.shared_blocks else sequence.own


@kernel
def _end_of_part(sequence: Any, block: int, stop: int) -> int:
    """Return up to which block, at most `stop`, a sequence's blocks are of the content that `block` is of."""
    if block < sequence.app_blocks:
        return min(sequence.app_blocks, stop)
    return min(sequence.shared_blocks, stop) if block < sequence.shared_blocks else stop


# --- admission ---


@kernel
def admit(engine: Engine, tasks: Any, request: Any, sequence: Any) -> bool:
    """Give a waiting request the blocks that it finds in the cache, if all that it must compute fits beside them.

    Blocks that it finds but that nobody holds count as free until then. The watermark stays free, unless nothing runs.

    Args:
        engine: The engine.
        tasks: Task rows.
        request: `WAITING` row.
        sequence: `SEQUENCE` row, in which all is set that says what it holds.

    Returns:
        Whether it fits. If not, nothing is held.
    """
    row, task = engine.row[0], tasks[request.task]
    tokens = task.prompt_tokens + request.generated
    room = available(row) - (row.watermark_blocks if row.running > 0 else 0)
    sequence.task = request.task
    sequence.own = request.own
    sequence.hits = 0
    if row.prefix_cache == PrefixCache.PREFIXES:
        return whole_prefixes.admit(engine, task, tokens, room, sequence)
    idle = 0
    if row.prefix_cache == PrefixCache.BLOCKS:
        sequence.app_blocks = task.app_prefix_tokens // row.block_size
        sequence.shared_blocks = task.own_from // row.block_size
        idle = _look_up(engine, tasks, sequence, (tokens - 1) // row.block_size)
    if blocks_for(tokens, row.block_size) - sequence.hits + idle > room:
        return False
    if sequence.hits > 0:
        _hold_hits(engine, task, sequence)
    row.admissions += 1
    sequence.copy = row.admissions
    sequence.written = sequence.hits
    return True


@kernel
def _look_up(engine: Engine, tasks: Any, sequence: Any, limit: int) -> int:
    """Count a sequence's leading blocks, at most `limit`, that are in the cache; returns how many nobody holds."""
    task = tasks[sequence.task]
    block, idle = 0, 0
    caught_up = False
    while block < limit:
        content = _content_of(task, sequence, block)
        if content < 0:
            break
        index, stop = find(engine, content, block, _end_of_part(sequence, block, limit))
        if index > 0:
            if engine.extents[index].holders == 0:
                idle += stop - block
            block = stop
        elif content == task.chain and engine.contents[content].writers > 0 and not caught_up:
            catch_up(engine, tasks, content, engine.row[0].iterations)
            caught_up = True
        else:
            break
    sequence.hits = block
    return idle


@kernel
def cached_blocks(engine: Engine, task: Any) -> int:
    """Count the leading blocks of a task's prompt that are noted in the cache; nothing changes by it.

    Inside a segment, the cache may be behind (`transfer.settle`).
    """
    row = engine.row[0]
    limit = (task.prompt_tokens - 1) // row.block_size
    if row.prefix_cache == PrefixCache.PREFIXES:
        return whole_prefixes.cached_blocks(engine, task, limit)
    if row.prefix_cache != PrefixCache.BLOCKS:
        return 0
    app_blocks, shared_blocks = task.app_prefix_tokens // row.block_size, task.own_from // row.block_size
    block = 0
    while block < min(limit, shared_blocks):
        end = app_blocks if block < app_blocks else shared_blocks
        index, stop = find(engine, task.app_prefix if block < app_blocks else task.chain, block, min(end, limit))
        if index == 0:
            break
        block = stop
    return block


@kernel
def _hold_hits(engine: Engine, task: Any, sequence: Any) -> None:
    """Hold the blocks that a sequence has found."""
    block = 0
    while block < sequence.hits:
        content = _content_of(task, sequence, block)
        index, stop = find(engine, content, block, _end_of_part(sequence, block, sequence.hits))
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
    if row.prefix_cache != PrefixCache.BLOCKS or first >= sequence.shared_blocks:
        return
    if first < min(stop, sequence.app_blocks):
        _write(engine, task.app_prefix, sequence.copy, first, min(stop, sequence.app_blocks))
    first, stop = max(first, sequence.app_blocks), min(stop, sequence.shared_blocks)
    if first < stop:
        if engine.contents[task.chain].writers > 0:
            catch_up(engine, tasks, task.chain, row.iterations)
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
def catch_up(engine: Engine, tasks: Any, chain: int, step: int) -> None:
    """Note the blocks that decoding sequences fill of a chain (-1: of all) once step `step` + 1 is scheduled."""
    row = engine.row[0]
    for k in range(row.decoding):
        sequence = engine.running[k]
        task = tasks[sequence.task]
        if adds_to_chain(task) and (chain < 0 or task.chain == chain):
            # A token whose iteration is in flight is not known yet, and so neither is the block that it fills.
            unknown = row.async_scheduling * (1 + (sequence.done_step == step))
            _write_decoded(engine, task, sequence, step + sequence.base - unknown)


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
    blocks = blocks_for(tokens, row.block_size)
    if row.prefix_cache == PrefixCache.BLOCKS:
        if adds_to_chain(task):
            _write_decoded(engine, task, sequence, tokens)
        full = tokens // row.block_size
        shared = min(full, sequence.shared_blocks)
        row.free_blocks += blocks - full
        if sequence.own >= 0:
            forget(engine, sequence.own)
        abandon(engine, full - shared)
        _release(engine, task, sequence, shared)
    elif row.prefix_cache == PrefixCache.PREFIXES:
        whole_prefixes.share(engine, task, sequence, tokens)
        whole_prefixes.release(engine, task, sequence, blocks)
    else:
        row.free_blocks += blocks


@kernel
def preempt(engine: Engine, task: Any, sequence: Any, tokens: int, known: int) -> None:
    """Let go of the blocks of a sequence with `tokens` tokens in KV, `known` of them cached, that will restart."""
    row = engine.row[0]
    blocks = blocks_for(tokens, row.block_size)
    if row.prefix_cache == PrefixCache.BLOCKS:
        if adds_to_chain(task):
            _write_decoded(engine, task, sequence, known)
        full = known // row.block_size
        row.free_blocks += blocks - full
        own_from = max(sequence.shared_blocks, sequence.hits)
        if full > own_from:
            if sequence.own < 0:
                sequence.own = _new_content(engine)
            _write(engine, sequence.own, sequence.copy, own_from, full)
        _release(engine, task, sequence, full)
    elif row.prefix_cache == PrefixCache.PREFIXES:
        whole_prefixes.release(engine, task, sequence, blocks)
    else:
        row.free_blocks += blocks


@kernel
def _release(engine: Engine, task: Any, sequence: Any, blocks: int) -> None:
    """Let go of a sequence's first `blocks` blocks, the last one first."""
    while blocks > 0:
        content = _content_of(task, sequence, blocks - 1)
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
    return index


@kernel
def forget(engine: Engine, own: int) -> None:
    """Give up the content row of a request that is complete: nobody will ask for its own blocks.

    The caller counts those that its sequence holds as abandoned; the others stay where they are in the queue.
    """
    index = engine.contents[own].first
    while index > 0:
        extent = engine.extents[index]
        after = extent.after
        extent.content = UNREACHABLE
        if extent.holders > 0:
            remove(engine, index)
        index = after
    engine.contents[own].first = 0
    engine.contents[own].writers = engine.row[0].spare_content
    engine.row[0].spare_content = own
