"""The event heap gives executors in the order of a sorted list, whatever is set, moved and taken off."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_gym.backends.simulator.event_heap import set_event
from llmsched_gym.cluster.state import CLOCK, EXECUTOR_STATE, FAR

N_EXECUTORS = 9
TIMES = st.one_of(st.integers(0, 5), st.just(int(FAR)))  # few times, so that ties are common


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, N_EXECUTORS - 1), TIMES), max_size=60))
def test_first_is_the_least_of_all_events(changes: list[tuple[int, int]]) -> None:
    clock, heap = np.zeros(1, CLOCK), np.zeros(N_EXECUTORS, np.int32)
    executors = np.zeros(N_EXECUTORS, EXECUTOR_STATE)
    executors["event_ns"], executors["heap_position"] = FAR, -1
    events: dict[int, int] = {}
    for executor, time_ns in changes:
        set_event(clock[0], heap, executors, executor, time_ns)
        events.pop(executor, None)
        if time_ns != FAR:
            events[executor] = time_ns
        assert clock[0]["heap"] == len(events)
        if events:
            assert (executors["event_ns"][heap[0]], heap[0]) == min((time, index) for index, time in events.items())
    drained = []
    while clock[0]["heap"]:
        first = int(heap[0])
        drained.append((int(executors["event_ns"][first]), first))
        set_event(clock[0], heap, executors, first, FAR)
    assert drained == sorted((time, index) for index, time in events.items())
    assert (executors["heap_position"] == -1).all()
