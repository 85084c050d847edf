"""What can be seen of an engine at any instant, also inside a segment: KV blocks, tokens, the present batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import available
from llmsched_gym.backends.simulator.segments import boundary_at, ended_at, growth
from llmsched_gym.backends.simulator.state import Engine
from llmsched_gym.cluster.state import FAR


@kernel
def used_blocks(engine: Engine, now_ns: int) -> int:
    """Return the KV blocks that running sequences hold at `now_ns`, those of the iteration that runs included.

    Shared ones count once, as in vLLM's ``kv_cache_usage``. What an iteration that is scheduled ahead does to them
    shows when it starts, unlike there: it tells whose last token is in flight, which nobody knows of real requests.
    """
    row = engine.row[0]
    used = row.total_blocks - available(row) - row.settled_blocks
    if row.event_ns == FAR:
        return used
    if row.segment > 1 and row.async_scheduling == 0:
        return used + growth(row, min(boundary_at(row, now_ns), row.segment) - 1)
    ended = ended_at(row, now_ns)
    return used + growth(row, ended - 1) if ended > 0 else used - row.ahead_blocks


@kernel
def present_decodes(engine: Engine, now_ns: int) -> tuple[int, int]:
    """Return how many sequences of an engine decode at present, and their prompt and generated tokens.

    Without asynchronous scheduling they are those of the first iteration of the segment that runs: it begins where
    something is seen. With it, one may begin where a last token is in flight, which nobody knows of real requests; so
    they are those of the iteration that runs now. What is scheduled ahead does not count: it may have preempted a
    sequence that the iteration that runs still decodes.
    """
    row = engine.row[0]
    if row.event_ns == FAR:
        return row.decoding, row.context_tokens
    ended = ended_at(row, now_ns) if row.async_scheduling == 1 else 0
    return row.now.n_decode, row.now.decode_context + ended * row.now.n_decode


@kernel
def count_tokens(engine: Engine, now_ns: int, tokens: NDArray[np.int32]) -> int:
    """Count the tokens that have come out by `now_ns` of the requests that an engine holds, those before restarts too.

    Args:
        engine: The engine.
        now_ns: Not before its last boundary.
        tokens: int32 (tasks,), or without rows; receives the number of each of them.

    Returns:
        Their sum.
    """
    row = engine.row[0]
    step = row.iterations - row.flying + ended_at(row, now_ns)
    total = 0
    for k in range(row.running + row.waiting_len):
        if k < row.running:
            sequence = engine.running[k]
            task = sequence.task
            generated = row.prefill_generated
            if k < row.decoding:
                generated = max(step, sequence.join_step - 1) - sequence.first_step
        else:
            request = engine.waiting[(row.waiting_head + k - row.running) % len(engine.waiting)]
            task = request.task
            generated = request.generated - request.coming
        total += generated
        if len(tokens) > 0:
            tokens[task] = generated
    return total
