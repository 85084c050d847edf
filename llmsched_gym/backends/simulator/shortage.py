"""What happens when KV blocks run out: the last of RUNNING is preempted, until the others find theirs."""

from __future__ import annotations

from typing import Any

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator import whole_prefixes
from llmsched_gym.backends.simulator.extents import available, take
from llmsched_gym.backends.simulator.kv_cache import preempt, stop_writing
from llmsched_gym.backends.simulator.state import Engine, PrefixCache
from llmsched_gym.cluster.state import FAR


@kernel
def decode_short_of_blocks(engine: Engine, tasks: Any) -> None:
    """Serve the decoding sequences of one iteration for which the blocks do not suffice."""
    row = engine.row[0]
    index = 0
    while index < row.decoding:
        sequence = engine.running[index]
        starts_block = (row.iterations + sequence.base - 1) % row.block_size == 0
        if starts_block and sequence.done_step > row.iterations:
            while available(row) == 0 and row.running > index:
                if row.running == 1:
                    make_room_alone(engine, tasks)
                    if available(row) > 0:
                        break
                preempt_last(engine, tasks)
            if row.running == index:
                break
            take(engine, 1)
        index += 1
    row.next_done = FAR
    for k in range(row.decoding):
        if engine.running[k].done_step > row.iterations:
            row.next_done = min(row.next_done, engine.running[k].done_step)


@kernel
def make_room_alone(engine: Engine, tasks: Any) -> None:
    """Let the only running sequence have what its own whole prefixes hold beyond it."""
    row = engine.row[0]
    if row.prefix_cache == PrefixCache.PREFIXES and row.running == 1:
        whole_prefixes.trim_to_own(engine, tasks[engine.running[0].task], engine.running[0])


@kernel
def preempt_last(engine: Engine, tasks: Any) -> None:
    """Move the last of RUNNING, not served in this iteration, to the front of WAITING."""
    row = engine.row[0]
    last = row.running - 1
    sequence = engine.running[last]
    task = tasks[sequence.task]
    coming = 0
    if last >= row.decoding:
        generated = row.prefill_generated
        preempt(engine, task, sequence, row.prefill_done, row.prefill_done)
    else:
        context = row.iterations + sequence.base
        generated = row.iterations - sequence.first_step
        coming = row.flying
        # Of a token whose iteration is in flight the cache knows nothing yet, unless it is the first after a prefill.
        unknown = row.async_scheduling * (sequence.join_step < row.iterations)
        preempt(engine, task, sequence, context - 1, context - 1 - unknown)
        stop_writing(engine, task)
        if sequence.done_step > row.iterations:
            row.phases[sequence.base % row.block_size] -= 1
            row.context_tokens -= context
        else:
            row.leaving -= 1
        row.decoding -= 1
    row.running -= 1
    row.preempted += 1
    row.waiting_head = (row.waiting_head - 1) % len(engine.waiting)
    row.waiting_len += 1
    request = engine.waiting[row.waiting_head]
    request.task = sequence.task
    request.generated = generated
    request.coming = coming
    request.own = sequence.own
    request.fetched_blocks = 0
    task.restarts += 1
