"""LLM engines that batch as vLLM V1 does, exact to the iteration, at the cost of one step per change of the batch.

**An iteration.** RUNNING sequences are served in order, each with its missing tokens as far as the token budget goes
(one token if it decodes, a chunk of the prompt if its prefill is under way). If nothing was preempted, WAITING
requests follow while budget and slots last, up to the first whose whole prompt does not fit in the KV cache above the
watermark. When a running sequence can get no block, the last of RUNNING is preempted: its blocks are freed, it goes to
the front of WAITING, and its prompt and generated tokens are recomputed. An iteration takes ``a + b * n_decode + c *
prefill_tokens + d * (prompt + generated tokens of the decoding sequences)``. The first token of a request comes at the
end of the iteration that ends its prefill, its last after ``output - 1`` more.

**A segment.** With one batch of ``n`` decoding sequences and context ``C``, ``m`` iterations take ``m (a + b n + d C)
+ d n m (m - 1) / 2``: the engine jumps over all iterations up to the next completion or shortage of KV blocks at once,
and a submission cuts the segment at the boundary at which that iteration-by-iteration loop would see it. Whatever
computes prompt tokens or preempts is a segment of one iteration.

**Time.** Boundaries are int64 picoseconds, so the engine agrees with a loop over iterations bit for bit; events are
boundaries rounded up to nanoseconds. A boundary sees all that was submitted no later than its event. Times up to 10^6
s fit.

What differs from vLLM: no speculative tokens, encoder budgets, priorities or structured output; no null block
(capacity is one block larger); blocks of prefixes as `kv_cache` says. The token budget is at least `max_num_seqs`, as
vLLM demands; so at most one prefill is under way between iterations, and it is the last of RUNNING.

In all functions `e` is the engine's row, `tasks` an array of `TASK_STATE`.
"""

from __future__ import annotations

import math
from typing import Any

from llmsched_gym._jit import kernel
from llmsched_gym.backends.kv_cache import attach, available, blocks_for, release, share, take, trim
from llmsched_gym.cluster.state import FAR


@kernel
def _ceil_ns(ps: int) -> int:
    return (ps + 999) // 1000


@kernel
def _iterations_until(engine: Any, now_ns: int) -> int:
    """Iterations of the segment in flight up to the first boundary whose event is at `now_ns` or later; at least 1."""
    wanted = (now_ns - 1) * 1000 + 1 - engine.clock_ps
    first, growth = engine.period_ps, engine.growth_ps
    if wanted <= first:
        return 1
    linear = first - 0.5 * growth
    count = max(1, int(2.0 * wanted / (linear + math.sqrt(linear * linear + 2.0 * growth * wanted))))
    while count * first + growth * (count * (count - 1) // 2) < wanted:
        count += 1
    while count > 1 and (count - 1) * first + growth * ((count - 1) * (count - 2) // 2) >= wanted:
        count -= 1
    return count


@kernel
def _set_segment(engine: Any, iterations: int) -> None:
    engine.segment = iterations
    engine.end_ps = (
        engine.clock_ps + iterations * engine.period_ps + engine.growth_ps * (iterations * (iterations - 1) // 2)
    )
    engine.event_ns = _ceil_ns(engine.end_ps)


@kernel
def _queue(engine: Any, queue: Any, position: int, task: int, generated: int) -> None:
    """Put a request `position` places behind the head of WAITING (-1: in front)."""
    index = (engine.waiting_head + position) % len(queue)
    queue[index].task = task
    queue[index].generated = generated
    if position < 0:
        engine.waiting_head = index
    engine.waiting_len += 1


@kernel
def submit(
    engines: Any, sequences: Any, waiting: Any, prefixes: Any, tasks: Any, e: int, task: int, now_ns: int
) -> None:
    """Put a task at the end of WAITING; cuts the segment in flight if the task may be admitted before its end.

    Call it in order of time, and before `plan` where both are due. The caller makes sure that running and waiting
    requests stay within the capacity given to `new_engines` and that `kv_tokens_needed` is within
    `EngineConfig.kv_tokens`.
    """
    engine = engines[e]
    row = tasks[task]
    row.scheduled_ns = FAR
    row.first_token_ns = FAR
    row.finish_ns = FAR
    row.restarts = 0
    row.cached_tokens = 0
    if engine.running + engine.waiting_len == 0:
        engine.clock_ps = max(engine.clock_ps, now_ns * 1000)
    # Behind a request that waits, or without a slot, nothing is admitted before the segment's own end.
    admissible = engine.waiting_len == 0 and engine.running < engine.max_num_seqs
    _queue(engine, waiting[e], engine.waiting_len, task, 0)
    if admissible and engine.event_ns != FAR and engine.segment > 1:
        iterations = _iterations_until(engine, now_ns)
        if iterations < engine.segment:
            _set_segment(engine, iterations)


@kernel
def _blocks_at(engine: Any, step: int) -> int:
    """Blocks that the decoding sequences need anew for the iteration that starts at `step`."""
    return engine.phases[(1 - step) % engine.block_size]


@kernel
def _growth(engine: Any, iterations: int) -> int:
    """Blocks that the decoding sequences need anew for the `iterations` iterations after the segment's first."""
    cycles = iterations // engine.block_size
    blocks = cycles * engine.decoding
    step = engine.iterations + 1
    for later in range(iterations - cycles * engine.block_size):
        blocks += _blocks_at(engine, step + later)
    return blocks


@kernel
def _affordable(engine: Any, iterations: int) -> int:
    """How many of the `iterations` iterations after the segment's first find all their blocks."""
    room = available(engine)
    if (iterations // engine.block_size + 1) * engine.decoding <= room:
        return iterations
    cycles = room // engine.decoding
    room -= cycles * engine.decoding
    count = cycles * engine.block_size
    while count < iterations:
        room -= _blocks_at(engine, engine.iterations + 1 + count)
        if room < 0:
            break
        count += 1
    return min(count, iterations)


@kernel
def _preempt_last(engine: Any, running: Any, queue: Any, entries: Any, tasks: Any) -> None:
    """Move the last of RUNNING, not served in this iteration, to the front of WAITING."""
    last = engine.running - 1
    sequence = running[last]
    task = tasks[sequence.task]
    if last >= engine.decoding:
        release(engine, entries, task, sequence, engine.prefill_done)
        _queue(engine, queue, -1, sequence.task, engine.prefill_generated)
    else:
        context = engine.iterations + sequence.base
        release(engine, entries, task, sequence, context - 1)
        _queue(engine, queue, -1, sequence.task, engine.iterations - sequence.first_step)
        engine.phases[sequence.base % engine.block_size] -= 1
        engine.context_tokens -= context
        engine.decoding -= 1
    engine.running -= 1
    task.restarts += 1


@kernel
def _trim_to_own(engine: Any, entries: Any, task: Any, sequence: Any) -> None:
    """Cut the entries that a sequence holds down to its own blocks: alone on the engine, it needs no more of them."""
    if engine.prefix_caching != 0 and task.app_prefix >= 0:
        trim(engine, entries, task.app_prefix, sequence.app_blocks)
    if sequence.job_blocks >= 0:
        trim(engine, entries, task.job_prefix, sequence.job_blocks)


@kernel
def _decode_short_of_blocks(engine: Any, running: Any, queue: Any, entries: Any, tasks: Any) -> None:
    """Serve the decoding sequences of one iteration for which the blocks do not suffice."""
    index = 0
    while index < engine.decoding:
        sequence = running[index]
        if (engine.iterations + sequence.base - 1) % engine.block_size == 0:
            while available(engine) == 0 and engine.running > index:
                if engine.running == 1:
                    _trim_to_own(engine, entries, tasks[sequence.task], sequence)
                    if available(engine) > 0:
                        break
                _preempt_last(engine, running, queue, entries, tasks)
            if engine.running == index:
                break
            take(engine, entries, 1)
        index += 1
    engine.next_done = FAR
    for index in range(engine.decoding):
        engine.next_done = min(engine.next_done, running[index].done_step)


@kernel
def _prefill(engine: Any, entries: Any, tasks: Any, sequence: Any, budget: int) -> int:
    """Schedule the next chunk of the prefill under way, whose blocks are known to be available; returns its tokens."""
    chunk = min(engine.prefill_target - engine.prefill_done, budget)
    done = engine.prefill_done + chunk
    engine.attended += chunk * engine.prefill_done + chunk * (chunk - 1) // 2
    task = tasks[sequence.task]
    take(engine, entries, blocks_for(done, engine.block_size) - blocks_for(engine.prefill_done, engine.block_size))
    engine.prefill_done = done
    share(engine, entries, task, sequence, min(done, task.prompt_tokens))
    sequence.first_step = engine.iterations - engine.prefill_generated
    if done == engine.prefill_target:
        sequence.done_step = sequence.first_step + task.output_tokens
        sequence.base = done - engine.iterations
        engine.phases[sequence.base % engine.block_size] += 1
        engine.next_done = min(engine.next_done, sequence.done_step)
        engine.joining += 1
        engine.joining_context += done + 1
    return chunk


@kernel
def plan(engines: Any, sequences: Any, waiting: Any, prefixes: Any, tasks: Any, e: int) -> None:
    """Plan the segment that starts at the present boundary and set `event_ns` to its end (FAR: nothing to do).

    Call it after all submissions of the present time. Does nothing while a segment is in flight.
    """
    engine = engines[e]
    if engine.event_ns != FAR or engine.running + engine.waiting_len == 0:
        return
    running, queue, entries = sequences[e], waiting[e], prefixes[e]
    size = engine.block_size
    engine.joining = 0
    engine.joining_context = 0
    engine.attended = 0
    served = engine.running
    blocks = _blocks_at(engine, engine.iterations)
    if blocks <= available(engine):
        take(engine, entries, blocks)
    else:
        _decode_short_of_blocks(engine, running, queue, entries, tasks)
    budget = engine.max_num_batched_tokens - engine.decoding
    if engine.running > engine.decoding:
        chunk = min(engine.prefill_target - engine.prefill_done, budget)
        blocks = blocks_for(engine.prefill_done + chunk, size) - blocks_for(engine.prefill_done, size)
        if blocks > available(engine) and engine.running == 1:
            _trim_to_own(engine, entries, tasks[running[0].task], running[0])
        if blocks <= available(engine):
            budget -= _prefill(engine, entries, tasks, running[engine.decoding], budget)
        else:
            _preempt_last(engine, running, queue, entries, tasks)
    preempted = engine.running < served
    while not preempted and budget > 0 and engine.waiting_len > 0 and engine.running < engine.max_num_seqs:
        request = queue[engine.waiting_head]
        task = tasks[request.task]
        sequence = running[engine.running]
        target = task.prompt_tokens + request.generated
        if not attach(engine, entries, task, target, sequence):
            break
        sequence.task = request.task
        engine.waiting_head = (engine.waiting_head + 1) % len(queue)
        engine.waiting_len -= 1
        engine.running += 1
        engine.prefill_target = target
        engine.prefill_generated = request.generated
        engine.prefill_done = (sequence.app_blocks + max(sequence.job_blocks, 0)) * size
        if task.scheduled_ns == FAR:
            task.scheduled_ns = _ceil_ns(engine.clock_ps)
            task.cached_tokens = engine.prefill_done
        budget -= _prefill(engine, entries, tasks, sequence, budget)
    engine.prefill_tokens = engine.max_num_batched_tokens - engine.decoding - budget
    if engine.decoding + engine.prefill_tokens == 0:
        return
    engine.growth_ps = engine.context_ps * engine.decoding
    engine.period_ps = (
        engine.iteration_ps
        + engine.decode_ps * engine.decoding
        + engine.prefill_ps * engine.prefill_tokens
        + engine.context_ps * engine.context_tokens
        + engine.attention_ps * engine.attended
    )
    iterations = 1
    if engine.prefill_tokens == 0 and not preempted:
        iterations += _affordable(engine, engine.next_done - engine.iterations - 1)
    _set_segment(engine, iterations)


@kernel
def complete(engines: Any, sequences: Any, waiting: Any, prefixes: Any, tasks: Any, e: int, finished: Any) -> int:
    """End the segment that was due at `event_ns`; then submit what is to be submitted at this time, and `plan`.

    Args:
        engines: Engine rows.
        sequences: Running sequences.
        waiting: Waiting requests; not used, there so that all functions take the same arrays.
        prefixes: Prefix entries.
        tasks: Task rows; first-token and finish times are written.
        e: Engine.
        finished: int32 (at least max_num_seqs,). Receives the tasks that finish, in scheduling order.

    Returns:
        How many tasks finish.
    """
    engine = engines[e]
    running, entries = sequences[e], prefixes[e]
    now_ns = engine.event_ns
    if engine.segment > 1:
        take(engine, entries, _growth(engine, engine.segment - 1))
    engine.context_tokens += engine.decoding * engine.segment + engine.joining_context
    for index in range(engine.decoding, engine.decoding + engine.joining):
        task = tasks[running[index].task]
        if task.first_token_ns == FAR:
            task.first_token_ns = now_ns
    engine.decoding += engine.joining
    engine.joining = 0
    engine.joining_context = 0
    engine.iterations += engine.segment
    engine.segment = 0
    engine.clock_ps = engine.end_ps
    engine.event_ns = FAR
    step = engine.iterations
    if engine.next_done > step:
        return 0
    n_finished = 0
    kept = 0
    next_done = FAR
    for index in range(engine.decoding):
        sequence = running[index]
        if sequence.done_step == step:
            task = tasks[sequence.task]
            tokens = step + sequence.base - 1
            share(engine, entries, task, sequence, tokens)
            release(engine, entries, task, sequence, tokens)
            engine.phases[sequence.base % engine.block_size] -= 1
            engine.context_tokens -= tokens + 1
            task.finish_ns = now_ns
            finished[n_finished] = sequence.task
            n_finished += 1
        else:
            next_done = min(next_done, sequence.done_step)
            if kept < index:
                running[kept] = sequence
            kept += 1
    if engine.running > engine.decoding:
        running[kept] = running[engine.decoding]
    engine.running -= n_finished
    engine.decoding = kept
    engine.next_done = next_done
    return n_finished


@kernel
def progress(engines: Any, sequences: Any, e: int, now_ns: int) -> int:
    """Step of the engine at `now_ns`: running sequence i has generated ``step - sequences[e, i].first_step`` tokens."""
    engine = engines[e]
    step = engine.iterations
    if engine.event_ns == FAR or engine.segment <= 1:
        return step
    done = _iterations_until(engine, now_ns)
    passed = done * engine.period_ps + engine.growth_ps * (done * (done - 1) // 2)
    if _ceil_ns(engine.clock_ps + passed) > now_ns:
        done -= 1
    return step + min(done, engine.segment)
