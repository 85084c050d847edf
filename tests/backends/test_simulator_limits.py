"""What the clock cannot count is refused, instead of wrapping around."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmsched_gym.backends.simulator import loop
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.toy import toy
from llmsched_gym.workloads.workload import Workload


def delayed(by_ns: int) -> Workload:
    """The hand-solved workload, its jobs arriving later."""
    workload = toy()
    jobs = workload.jobs.copy()
    jobs["arrival_ns"] = by_ns
    return replace(workload, jobs=jobs)


def test_the_last_possible_arrival_gives_the_same_schedule() -> None:
    state, simulation = loop.start(delayed(loop.LAST_ARRIVAL_NS), load_scenario("toy").cluster)
    loop.run_fcfs(state, simulation)
    jct_s = (state.jobs["finish_ns"] - state.jobs["arrival_ns"]) / 1e9
    assert jct_s.tolist() == [6.0, 7.0, 11.0, 12.0, 13.0]


def test_later_arrivals_are_refused() -> None:
    with pytest.raises(InputError, match="last arrival: got 4000001 s; expected at most 4000000 s"):
        loop.start(delayed(loop.LAST_ARRIVAL_NS + 10**9), load_scenario("toy").cluster)


def test_episodes_that_outlast_the_clock_end_with_an_error() -> None:
    workload = delayed(loop.LAST_ARRIVAL_NS)
    tasks = workload.tasks.copy()
    tasks["duration_ns"][tasks["model"] < 0] = 2 * 10**15
    state, simulation = loop.start(replace(workload, tasks=tasks), load_scenario("toy").cluster)
    with pytest.raises(RuntimeError, match="more than 100 days"):
        loop.run_fcfs(state, simulation)
