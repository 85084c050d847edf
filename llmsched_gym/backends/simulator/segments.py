"""Arithmetic of a segment: iterations of one batch, each longer than the one before by as much (`engine`).

In all functions `row` is an `ENGINE` row.
"""

from __future__ import annotations

import math
from typing import Any

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import available
from llmsched_gym.cluster.state import FAR


@kernel
def ceil_ns(ps: int) -> int:
    """Return when a boundary is seen: picoseconds rounded up to nanoseconds."""
    return (ps + 999) // 1000


@kernel
def set_segment(row: Any, boundaries: int) -> None:
    """Let the segment in flight end after so many iterations."""
    row.segment = boundaries
    row.end_ps = row.clock_ps + boundaries * row.now.length_ps + row.growth_ps * (boundaries * (boundaries - 1) // 2)
    row.event_ns = ceil_ns(row.end_ps)


@kernel
def boundary_at(row: Any, now_ns: int) -> int:
    """Number of the segment's first boundary whose event is at `now_ns` or later; at least 1."""
    wanted = (now_ns - 1) * 1000 + 1 - row.clock_ps
    first, growth = row.now.length_ps, row.growth_ps
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
def ended_at(row: Any, now_ns: int) -> int:
    """How many iterations of the segment have ended at `now_ns`, seen by `complete` or not."""
    if row.event_ns <= now_ns:
        return row.segment
    if row.event_ns == FAR or row.segment == 1:
        return 0
    done = boundary_at(row, now_ns)
    passed = done * row.now.length_ps + row.growth_ps * (done * (done - 1) // 2)
    return done if ceil_ns(row.clock_ps + passed) <= now_ns else done - 1


@kernel
def blocks_at(row: Any, step: int) -> int:
    """Blocks that the decoding sequences need anew for the iteration after step `step`."""
    return row.phases[(1 - step) % row.block_size]


@kernel
def growth(row: Any, iterations: int) -> int:
    """Blocks that the decoding sequences need anew for the next `iterations` iterations."""
    cycles = iterations // row.block_size
    blocks = cycles * row.decoding
    phase = (1 - row.iterations) % row.block_size
    for _ in range(iterations - cycles * row.block_size):
        blocks += row.phases[phase]
        phase = (phase if phase > 0 else row.block_size) - 1
    return blocks


@kernel
def affordable(row: Any, iterations: int) -> int:
    """How many of the next `iterations` iterations find all their blocks."""
    room = available(row)
    if (iterations // row.block_size + 1) * row.decoding <= room:
        return iterations
    cycles = room // row.decoding
    room -= cycles * row.decoding
    count = cycles * row.block_size
    phase = (1 - row.iterations) % row.block_size
    while count < iterations:
        room -= row.phases[phase]
        if room < 0:
            break
        phase = (phase if phase > 0 else row.block_size) - 1
        count += 1
    return min(count, iterations)
