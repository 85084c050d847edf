"""A binary heap of executors by the time of their next event, with in-place updates.

Ties break by executor index, so the order of events never depends on the order of insertions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import FAR, Rows


@kernel
def set_event(clock: Rows, heap: NDArray[np.int32], executors: Rows, executor: int, event_ns: int) -> None:
    """Set the time of an executor's next event; FAR takes it off the heap.

    Args:
        clock: `CLOCK` record; its field ``heap`` is the length of the heap.
        heap: int32 (n_executors,), executor indices.
        executors: `EXECUTOR_STATE` rows.
        executor: Whose event.
        event_ns: When.
    """
    executors[executor].event_ns = event_ns
    position = executors[executor].heap_position
    if event_ns == FAR:
        if position < 0:
            return
        clock.heap -= 1
        last = heap[clock.heap]
        executors[executor].heap_position = -1
        if last == executor:
            return
        heap[position] = last
        executors[last].heap_position = position
        _settle(clock, heap, executors, position)
        return
    if position < 0:
        position = clock.heap
        heap[position] = executor
        executors[executor].heap_position = position
        clock.heap += 1
    _settle(clock, heap, executors, position)


@kernel
def _settle(clock: Rows, heap: NDArray[np.int32], executors: Rows, position: int) -> None:
    """Move one entry up or down to where it belongs."""
    while position > 0 and _before(executors, heap[position], heap[(position - 1) // 2]):
        position = _swap(heap, executors, position, (position - 1) // 2)
    while True:
        child = 2 * position + 1
        if child >= clock.heap:
            return
        if child + 1 < clock.heap and _before(executors, heap[child + 1], heap[child]):
            child += 1
        if not _before(executors, heap[child], heap[position]):
            return
        position = _swap(heap, executors, position, child)


@kernel
def _before(executors: Rows, left: int, right: int) -> bool:
    if executors[left].event_ns != executors[right].event_ns:
        return executors[left].event_ns < executors[right].event_ns
    return left < right


@kernel
def _swap(heap: NDArray[np.int32], executors: Rows, position: int, other: int) -> int:
    heap[position], heap[other] = heap[other], heap[position]
    executors[heap[position]].heap_position = position
    executors[heap[other]].heap_position = other
    return other
