"""LLM engines that batch as vLLM V1 does, exact to the iteration, at the cost of one step per change of the batch.

**An iteration.** RUNNING sequences are served in order, each with its missing tokens as far as the token budget goes
(one token if it decodes, a chunk of the prompt if its prefill is under way). If nothing was preempted, WAITING
requests follow while budget and slots last, up to the first whose whole prompt does not fit in the KV cache above the
watermark (which an engine where nothing runs does not keep). When a running sequence can get no block, the last of
RUNNING is preempted: its blocks are let go, it goes to the front of WAITING, and what it does not find in the prefix
cache again of its prompt and generated tokens is recomputed. How long an iteration takes says
`cluster.latency.iteration_ps`. The first token of a request comes at the end of the iteration that ends its prefill,
its last after ``output - 1`` more.

**Asynchronous scheduling.** vLLM on a GPU schedules iteration i + 1 when i starts, not when it ends, so that the GPU
never waits. Then what a boundary brings (arrivals, freed slots and blocks) is of use one iteration later; a sequence
whose last token is in flight keeps its slot and blocks without being served; a preempted one still gets the token that
was in flight.

**A segment.** With one batch of ``n`` decoding sequences and context ``C``, ``m`` iterations take ``m (a + b n + d C)
+ d n m (m - 1) / 2``: the engine jumps over all iterations up to the next completion or shortage of KV blocks at once,
and a submission cuts the segment at the boundary at which that iteration-by-iteration loop would see it. Whatever
computes prompt tokens or preempts is a segment of one iteration.

**Time.** Boundaries are int64 picoseconds, so the engine agrees with a loop over iterations bit for bit; events are
boundaries rounded up to nanoseconds. A boundary sees all that was submitted no later than its event. Times up to 10^6
s fit.

Equal to vLLM's own scheduler in all of this (docs/engine.md). Left out: speculative tokens, encoder budgets,
priorities, structured output. The token budget is at least `max_num_seqs`, as vLLM demands; so at most one prefill is
under way between iterations, and it is the last of RUNNING.

In all functions `tasks` is an array of `TASK_STATE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import available, blocks_for, take
from llmsched_gym.backends.simulator.kv_cache import (
    adds_to_chain,
    admit,
    catch_up,
    finish,
    forget,
    start_writing,
    stop_writing,
    write_prompt,
)
from llmsched_gym.backends.simulator.segments import affordable, blocks_at, boundary_at, ceil_ns, growth, set_segment
from llmsched_gym.backends.simulator.shortage import decode_short_of_blocks, make_room_alone, preempt_last
from llmsched_gym.backends.simulator.state import Engine
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.state import FAR

# --- submissions ---


@kernel
def submit(engine: Engine, tasks: Any, task: int, now_ns: int, fetched_blocks: int) -> None:
    """Put a task at the end of WAITING; cuts the segment in flight if the task may be admitted before its end.

    Call it in order of time, and before `plan` where both are due. The caller makes sure that running and waiting
    requests stay within the capacity given to `new_engines` and that `kv_tokens_needed` is within
    `EngineConfig.kv_tokens`. The first `fetched_blocks` blocks of its prompt are at hand from elsewhere.
    """
    row = engine.row[0]
    task_row = tasks[task]
    task_row.scheduled_ns = FAR
    task_row.first_token_ns = FAR
    task_row.finish_ns = FAR
    task_row.restarts = 0
    task_row.cached_tokens = 0
    if row.running + row.waiting_len == 0:
        row.clock_ps = max(row.clock_ps, now_ns * 1000)
    # Behind a request that waits, or without a slot, nothing is admitted before the segment's own end.
    admissible = row.waiting_len == 0 and row.running < row.max_num_seqs
    request = engine.waiting[(row.waiting_head + row.waiting_len) % len(engine.waiting)]
    request.task = task
    request.generated = 0
    request.coming = 0
    request.own = -1
    request.fetched_blocks = fetched_blocks
    row.waiting_len += 1
    if admissible and row.event_ns != FAR and row.segment > 1:
        boundary = boundary_at(row, now_ns)
        if boundary < row.segment:
            set_segment(row, boundary)


# --- planning ---


@kernel
def plan(engine: Engine, tasks: Any) -> None:
    """Plan the segment that starts at the present boundary and set `event_ns` to its end (FAR: nothing to do).

    Call it after all submissions of the present time. Does nothing while a segment is in flight.
    """
    row = engine.row[0]
    if row.event_ns != FAR or row.running + row.waiting_len == 0:
        return
    depth = 1 + row.async_scheduling
    room = available(row)
    while row.flying < depth and _schedule(engine, tasks):
        if row.flying == 0:
            row.now = row.next
            room = available(row)
        row.flying += 1
    row.ahead_blocks = room - available(row)
    if row.flying == 0:
        return
    # With two in flight, the first must be like the second, too, and have nothing to hand out.
    settled = row.flying == depth and row.now.prefill_tokens + row.next.prefill_tokens + row.leaving == 0
    boundaries = 1
    row.growth_ps = 0
    if row.waiting_len > 0 and row.running < row.max_num_seqs:
        settled = settled and not _waits_for_blocks_to_come(engine, tasks)
    if settled and row.preempted == 0 and row.shared_chains == 0:
        row.growth_ps = row.latency_ps[3] * row.decoding
        boundaries += affordable(row, row.next_done - row.iterations)
    set_segment(row, boundaries)


@kernel
def _waits_for_blocks_to_come(engine: Engine, tasks: Any) -> bool:
    """Tell whether the request that is next to be admitted may fit as soon as a running one fills blocks it shares."""
    row = engine.row[0]
    task = tasks[engine.waiting[row.waiting_head].task]
    if task.chain < 0 or engine.contents[task.chain].writers == 0:
        return False
    for k in range(row.decoding):
        other = tasks[engine.running[k].task]
        if other.chain == task.chain and adds_to_chain(other) and other.prompt_tokens < task.own_from:
            return True
    return False


@kernel
def _schedule(engine: Engine, tasks: Any) -> bool:
    """Schedule one more iteration, and say in `next` what it computes; returns whether there is anything to compute."""
    row = engine.row[0]
    row.preempted = 0
    row.next.prefill_context = 0
    if row.next_done == row.iterations:
        _set_aside_leaving(engine)
    blocks = blocks_at(row, row.iterations)
    if blocks <= available(row):
        take(engine, blocks)
    else:
        decode_short_of_blocks(engine, tasks)
    if row.shared_chains > 0:
        catch_up(engine, tasks, -1, row.iterations)
    n_decode = row.decoding - row.leaving
    row.next.n_decode = n_decode
    row.next.decode_context = row.context_tokens
    row.context_tokens += n_decode
    budget = row.max_num_batched_tokens - n_decode
    attended = 0
    while budget > 0:
        if row.running == row.decoding and not _admit_next(engine, tasks):
            break
        chunk = min(row.prefill_target - row.prefill_done, budget)
        blocks = blocks_for(row.prefill_done + chunk, row.block_size) - blocks_for(row.prefill_done, row.block_size)
        if blocks > available(row):
            make_room_alone(engine, tasks)
        if blocks > available(row):
            preempt_last(engine, tasks)
            break
        take(engine, blocks)
        attended += _prefill(engine, tasks, chunk)
        budget -= chunk
    row.next.prefill_tokens = row.max_num_batched_tokens - n_decode - budget
    if n_decode + row.next.prefill_tokens == 0:
        return False
    row.next.length_ps = iteration_ps(
        row.latency_ps, n_decode, row.next.prefill_tokens, row.next.decode_context, attended
    )
    row.iterations += 1
    return True


@kernel
def _admit_next(engine: Engine, tasks: Any) -> bool:
    """Let the first of WAITING begin its prefill, if it may."""
    row = engine.row[0]
    if row.preempted > 0 or row.waiting_len == 0 or row.running == row.max_num_seqs:
        return False
    request, sequence = engine.waiting[row.waiting_head], engine.running[row.running]
    if not admit(engine, tasks, request, sequence):
        return False
    task = tasks[request.task]
    row.prefill_target = task.prompt_tokens + request.generated
    row.prefill_generated = request.generated
    row.prefill_done = sequence.hits * row.block_size
    if request.fetched_blocks > sequence.hits:
        take(engine, request.fetched_blocks - sequence.hits)
        row.prefill_done = request.fetched_blocks * row.block_size
        write_prompt(engine, tasks, sequence, sequence.hits, request.fetched_blocks)
    if task.scheduled_ns == FAR:
        task.scheduled_ns = ceil_ns(row.clock_ps + row.flying * row.now.length_ps)
        task.cached_tokens = row.prefill_done
    row.waiting_head = (row.waiting_head + 1) % len(engine.waiting)
    row.waiting_len -= 1
    row.running += 1
    return True


@kernel
def _set_aside_leaving(engine: Engine) -> None:
    """Serve the sequences no more whose last token the iteration that runs will bring."""
    row = engine.row[0]
    row.next_done = FAR
    for k in range(row.decoding):
        sequence = engine.running[k]
        if sequence.done_step == row.iterations:
            row.phases[sequence.base % row.block_size] -= 1
            row.context_tokens -= row.iterations + sequence.base
            row.leaving += 1
        else:
            row.next_done = min(row.next_done, sequence.done_step)


@kernel
def _prefill(engine: Engine, tasks: Any, chunk: int) -> int:
    """Schedule `chunk` tokens of the prefill under way, for which blocks are taken.

    Returns:
        How many tokens stand before them, summed over them.
    """
    row = engine.row[0]
    sequence = engine.running[row.decoding]
    before = row.prefill_done
    done = before + chunk
    row.prefill_done = done
    write_prompt(engine, tasks, sequence, before // row.block_size, done // row.block_size)
    if done == row.prefill_target:
        task = tasks[sequence.task]
        sequence.join_step = row.iterations + 1
        sequence.first_step = row.iterations - row.prefill_generated
        sequence.done_step = sequence.first_step + task.output_tokens
        sequence.base = done - row.iterations
        row.phases[sequence.base % row.block_size] += 1
        row.next_done = min(row.next_done, sequence.done_step)
        row.context_tokens += done + 1
        row.decoding += 1
        start_writing(engine, task)
    row.next.prefill_context += chunk * before
    return chunk * before + chunk * (chunk - 1) // 2


# --- boundaries ---


@kernel
def complete(engine: Engine, tasks: Any, finished: NDArray[np.int32]) -> int:
    """End the segment that was due at `event_ns`; then submit what is to be submitted at this time, and `plan`.

    Args:
        engine: The engine.
        tasks: Task rows; first-token and finish times are written.
        finished: int32 (at least max_num_seqs,). Receives the tasks that finish, in scheduling order.

    Returns:
        How many tasks finish.
    """
    row = engine.row[0]
    now_ns = row.event_ns
    later = row.segment - 1
    if later > 0:
        take(engine, growth(row, later) - row.settled_blocks)
        row.settled_blocks = 0
        row.context_tokens += row.decoding * later
        row.iterations += later
    row.clock_ps = row.end_ps
    row.event_ns = FAR
    step = row.iterations - row.flying + 1
    row.flying -= 1
    if row.flying > 0:
        row.now = row.next
        row.now.length_ps += row.growth_ps * later
        row.now.decode_context += row.decoding * later
    for k in range(row.decoding - 1, -1, -1):
        sequence = engine.running[k]
        if sequence.join_step < step:
            break
        if sequence.join_step == step and tasks[sequence.task].first_token_ns == FAR:
            tasks[sequence.task].first_token_ns = now_ns
    n_finished = 0
    if row.leaving > 0 or row.next_done == step:
        n_finished = _retire(engine, tasks, step, finished)
        for k in range(n_finished):
            tasks[finished[k]].finish_ns = now_ns
    if row.preempted > 0 and row.async_scheduling != 0:
        n_finished = _deliver_to_preempted(engine, tasks, now_ns, finished, n_finished)
    return n_finished


@kernel
def _retire(engine: Engine, tasks: Any, step: int, finished: NDArray[np.int32]) -> int:
    """Let go of the sequences that are complete with step `step`; returns how many."""
    row = engine.row[0]
    n_finished, kept = 0, 0
    row.next_done = FAR
    for k in range(row.decoding):
        sequence = engine.running[k]
        if sequence.done_step > step:
            row.next_done = min(row.next_done, sequence.done_step)
            if kept < k:
                engine.running[kept] = sequence
            kept += 1
            continue
        task = tasks[sequence.task]
        finish(engine, task, sequence, step + sequence.base - 1)
        stop_writing(engine, task)
        if row.leaving == 0:
            row.phases[sequence.base % row.block_size] -= 1
            row.context_tokens -= step + sequence.base
        finished[n_finished] = sequence.task
        n_finished += 1
    if row.running > row.decoding:
        engine.running[kept] = engine.running[row.decoding]
    row.running -= n_finished
    row.decoding = kept
    row.leaving = 0
    return n_finished


@kernel
def _deliver_to_preempted(engine: Engine, tasks: Any, now_ns: int, finished: NDArray[np.int32], n_finished: int) -> int:
    """Give the requests that the last scheduled iteration preempted the tokens that were in flight then.

    Returns:
        `n_finished` and the number of those that are complete with them.
    """
    row, size = engine.row[0], len(engine.waiting)
    for k in range(row.preempted):
        request = engine.waiting[(row.waiting_head + k) % size]
        task = tasks[request.task]
        request.coming = 0
        if request.generated > 0 and task.first_token_ns == FAR:
            task.first_token_ns = now_ns
        if request.generated == task.output_tokens:
            task.finish_ns = now_ns
            if request.own >= 0:
                forget(engine, request.own)
            finished[n_finished] = request.task
            n_finished += 1
    gap = 0
    for k in range(row.preempted - 1, -1, -1):
        request = engine.waiting[(row.waiting_head + k) % size]
        if request.generated == tasks[request.task].output_tokens:
            gap += 1
        elif gap > 0:
            engine.waiting[(row.waiting_head + k + gap) % size] = request
    row.waiting_head = (row.waiting_head + gap) % size
    row.waiting_len -= gap
    row.preempted = 0
    return n_finished
