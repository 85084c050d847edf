"""The compiled engine equals a plain loop over iterations and blocks, whatever is submitted."""

from __future__ import annotations

import numpy as np
import pytest
from engine_runs import boundaries_of, check_blocks, moments, plain_used_at, task_rows, used_at, view
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from plain_engine import PlainEngine
from random_loads import Load, random_load
from random_workloads import Case

from llmsched_gym.backends.replay import serve
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.state import new_engines, reset
from llmsched_gym.cluster.state import FAR

RANDOM_LOADS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

COMPARED = {
    "scheduled_ns": "scheduled_ns",
    "first_token_ns": "first_token_ns",
    "finish_ns": "finish_ns",
    "restarts": "restarts",
    "cached_tokens": "cached",
}
"""Columns of the compiled engine's tasks, and the attributes of the plain engine's requests."""


def loads() -> st.SearchStrategy[Load]:
    """Random loads, half of them on engines that schedule asynchronously."""
    return st.builds(
        lambda seed, asynchronous: random_load(seed).scheduled(asynchronous=asynchronous),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )


@RANDOM_LOADS
@given(loads())
def test_equals_the_loop_over_iterations_and_blocks(load: Load) -> None:
    plain, requests = PlainEngine(load.config), load.requests
    plain.run(requests)
    tasks, segments = serve(load.log, load.config)
    for column, attribute in COMPARED.items():
        assert tasks[column].tolist() == [getattr(request, attribute) for request in requests], column
    if not load.config.async_scheduling:
        assert segments["iterations"].sum() == plain.iterations
    event(f"preemptions: {any(request.restarts for request in requests)}")
    event(f"cache hits: {any(request.cached for request in requests)}")


@RANDOM_LOADS
@given(loads())
def test_blocks_add_up_at_every_event_and_an_engine_can_be_reset(load: Load) -> None:
    tasks, n_contents = task_rows(load.tasks)
    engines = new_engines([load.config], len(tasks), n_contents)
    engine = view(engines)
    for _ in moments(engine, tasks, load.arrival_ns.tolist()):
        check_blocks(engine)
    assert engine.row[0]["free_blocks"] + engine.row[0]["cached_blocks"] == load.config.kv_blocks
    reset(engines, n_contents)
    again, _ = task_rows(load.tasks)
    for _ in moments(engine, again, load.arrival_ns.tolist()):
        pass
    assert again.tobytes() == tasks.tobytes()


@settings(RANDOM_LOADS, max_examples=100)
@given(loads())
def test_blocks_in_use_are_exact_at_any_instant(load: Load) -> None:
    """Inside the stretches of iterations that the engine jumps over, and on the boundaries between them."""
    boundaries = boundaries_of(load)
    rng = np.random.default_rng(len(boundaries))
    between = rng.integers(0, boundaries[-1] + 1, 50).tolist()
    on = rng.choice(boundaries, 50).tolist()
    probes = sorted({*between, *on, *(time + 1 for time in on)})
    assert used_at(load, probes) == plain_used_at(load, probes)


@pytest.mark.parametrize("seed", [27, 443])
def test_a_request_alone_may_cut_whole_prefixes_that_it_holds(seed: int) -> None:
    """Once, a request whose own prefix's tail took the last blocks preempted itself and was never admitted again.

    In case 27 it was in the middle of its prefill, in case 443 it became alone by preempting the other one.
    """
    draft, cluster, _ = Case(seed, n_apps=2, n_jobs=6, n_stages=6, spread_ns=10**9, short_of_kv=True).draw()
    state, simulation = loop.start(draft.assemble(), cluster.with_llm_settings(whole_prefixes=True))
    loop.run_fcfs(state, simulation)
    assert int(state.tasks["restarts"].sum()) > 0
    assert np.all(state.jobs["finish_ns"] < FAR)
