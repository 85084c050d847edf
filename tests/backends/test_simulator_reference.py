"""The compiled simulator equals a plain event loop over engine iterations, and hand-solved schedules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from plain_simulator import PlainSimulator
from random_clusters import check
from random_workloads import Case, cases

from llmsched_gym.backends.simulator import loop
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.toy import toy


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_equals_the_plain_event_loop(case: Case) -> None:
    draft, cluster, _ = case.draw()
    workload = draft.assemble()
    plain = PlainSimulator(workload, cluster)
    start_ns, finish_ns = plain.run()
    state, simulation = loop.start(workload, cluster)
    assert loop.run_fcfs(state, simulation) == plain.dispatches == len(workload.tasks)
    assert state.tasks["start_ns"].tolist() == start_ns
    assert state.tasks["finish_ns"].tolist() == finish_ns


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Case(seed=165, n_apps=1, n_jobs=4, n_stages=3, spread_ns=0, short_of_kv=True))  # a submission cuts a segment
@example(Case(seed=195, n_apps=2, n_jobs=6, n_stages=4, spread_ns=10**10, short_of_kv=True))  # preempts a prefill ahead
@example(Case(seed=4340, n_apps=1, n_jobs=8, n_stages=1, spread_ns=0, short_of_kv=True))  # preempts, computes nothing
@given(cases())
def test_engines_show_what_the_plain_event_loop_shows(case: Case) -> None:
    verdict = check(case)
    assert verdict.equal
    assert verdict.wrong == 0 < verdict.readings


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Case(seed=2, n_apps=1, n_jobs=2, n_stages=4, spread_ns=0, short_of_kv=False))  # one model, not resident
@given(cases())
def test_equals_the_plain_event_loop_where_models_are_loaded(case: Case) -> None:
    verdict = check(case, models=True)
    assert verdict.equal
    assert verdict.wrong == 0 < verdict.readings


@pytest.mark.parametrize("name", ["mixed", "planning"])
def test_equals_the_plain_event_loop_on_applications(name: str) -> None:
    scenario = load_scenario(name).replaced(jobs=12)
    workload = scenario.build("train", 3)
    cluster = scenario.cluster.with_llm_settings(whole_prefixes=False)
    state, simulation = loop.start(workload, cluster)
    loop.run_fcfs(state, simulation)
    start_ns, finish_ns = PlainSimulator(workload, cluster).run()
    assert state.tasks["start_ns"].tolist() == start_ns
    assert state.tasks["finish_ns"].tolist() == finish_ns


def test_first_come_first_served_on_the_hand_solved_workload() -> None:
    state, simulation = loop.start(toy(), load_scenario("toy").cluster)
    assert loop.run_fcfs(state, simulation) == 10
    assert (state.jobs["finish_ns"] / 1e9).tolist() == [6.0, 7.0, 11.0, 12.0, 13.0]
    assert state.clock[0]["area_ns"] == 49 * 10**9
    assert np.unique(state.tasks["executor"]).tolist() == [0, 1]
