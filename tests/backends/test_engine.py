"""The compiled engine equals a plain loop over iterations, whatever is submitted, with and without prefix cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_engine import PlainEngine, Request
from random_workloads import Case

from llmsched_gym.backends import simulator
from llmsched_gym.backends.engine import complete, plan, progress, submit
from llmsched_gym.backends.engine_state import EngineConfig, Engines, kv_tokens_needed, new_engines, reset
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.state import FAR, TASK_STATE
from llmsched_gym.errors import InputError

INPUTS = ("prompt", "output", "app_prefix", "app_prefix_tokens", "job_prefix", "job_prefix_tokens")
COLUMNS = ("prompt_tokens", "output_tokens", *INPUTS[2:])


def task_rows(requests: list[Request]) -> NDArray[Any]:
    """The requests as the engine's task rows."""
    tasks = np.zeros(len(requests), TASK_STATE)
    for column, attribute in zip(COLUMNS, INPUTS, strict=True):
        tasks[column] = [getattr(request, attribute) for request in requests]
    return tasks


def blocks_add_up(state: Engines) -> None:
    """Assert used + reclaimable + free == total at a boundary, and that the LRU list holds the reclaimable entries."""
    engine = state.engines[0]
    entries = state.prefixes[0]
    used = int(entries["blocks"][entries["holders"] > 0].sum())
    for index in range(engine["running"]):
        row = state.sequences[0, index]
        partial = index >= engine["decoding"]
        tokens = engine["prefill_done"] if partial else engine["iterations"] + row["base"] - 1
        used += -(-int(tokens) // int(engine["block_size"])) - row["app_blocks"] - max(0, row["job_blocks"])
    listed, index = [], int(engine["lru_head"])
    while index >= 0:
        listed.append(index)
        index = int(entries[index]["next"])
    unheld = np.flatnonzero((entries["holders"] == 0) & (entries["blocks"] > 0))
    assert sorted(listed) == unheld.tolist()
    assert engine["reclaimable_blocks"] == entries["blocks"][unheld].sum()
    assert used + engine["reclaimable_blocks"] + engine["free_blocks"] == engine["total_blocks"]
    assert min(engine["free_blocks"], engine["reclaimable_blocks"]) >= 0


def serve(state: Engines, tasks: NDArray[Any], arrivals: list[int]) -> None:
    """Feed one engine from a sorted list of arrivals, checking the blocks at every boundary."""
    finished = np.zeros(state.sequences.shape[1], np.int32)
    following = 0
    while True:
        event = int(state.engines[0]["event_ns"])
        now = min(event, arrivals[following] if following < len(arrivals) else FAR)
        if now == FAR:
            return
        if now == event:
            complete(*state, tasks, 0, finished)
            blocks_add_up(state)
        while following < len(arrivals) and arrivals[following] == now:
            submit(*state, tasks, 0, following, now)
            following += 1
        plan(*state, tasks, 0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[EngineConfig, list[Request]]:
    """An engine, often short of KV blocks, and requests that share prefixes."""
    block_size = draw(st.sampled_from([1, 3, 4, 16]))
    slots = draw(st.integers(1, 6))
    a, b, c, d = (draw(st.integers(low, 10**high)) for low, high in ((1, 7), (0, 5), (0, 5), (0, 4)))
    config = EngineConfig(
        LatencyProfile("test", a, b, c, d, attention_ps=draw(st.sampled_from([0, 1, 300]))),
        max_num_seqs=slots,
        max_num_batched_tokens=draw(st.integers(slots, 80)),
        kv_blocks=draw(st.integers(-(-64 // block_size) + 1, 40 if block_size == 16 else 160)),
        block_size=block_size,
        watermark=draw(st.sampled_from([0.0, 0.01, 0.1])),
        prefix_caching=draw(st.booleans()),
    )
    room = min(config.kv_tokens, 120)
    gap = draw(st.sampled_from([1, 1000, 10**5]))
    app_tokens = [draw(st.integers(0, 30)) for _ in range(2)]
    requests: list[Request] = []
    arrival = 0
    for _ in range(draw(st.integers(1, 25))):
        arrival += draw(st.integers(0, gap))
        prompt = draw(st.integers(1, max(1, room // 2)))
        output = draw(st.integers(1, room - prompt + 1))
        app = draw(st.integers(-1, 1))
        shared = min(prompt, app_tokens[app]) if app >= 0 else 0
        job = draw(st.integers(-1, 3))
        chain = draw(st.integers(shared, prompt)) if job >= 0 else 0
        requests.append(Request(arrival, prompt, output, app, shared, 2 + job if job >= 0 else -1, chain))
    return config, requests


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_equals_iteration_by_iteration_loop(case: tuple[EngineConfig, list[Request]]) -> None:
    config, requests = case
    plain = PlainEngine(config)
    plain.run(requests, check=True)
    tasks = task_rows(requests)
    state = new_engines([config], len(requests), 6)
    serve(state, tasks, [request.arrival_ns for request in requests])
    for row, request in zip(tasks, requests, strict=True):
        assert (
            row["scheduled_ns"],
            row["first_token_ns"],
            row["finish_ns"],
            row["restarts"],
            row["cached_tokens"],
        ) == (
            request.scheduled_ns,
            request.first_token_ns,
            request.finish_ns,
            request.restarts,
            request.cached,
        )
    engine = state.engines[0]
    assert engine["iterations"] == plain.iterations
    assert engine["free_blocks"] == plain.free
    assert engine["clock_ps"] == plain.clock_ps
    reset(state)
    assert engine["free_blocks"] == config.kv_blocks
    assert engine["max_num_seqs"] == config.max_num_seqs
    again = task_rows(requests)
    serve(state, again, [request.arrival_ns for request in requests])
    assert again.tobytes() == tasks.tobytes()


@pytest.mark.parametrize("seed", [27, 443])
def test_a_request_alone_may_cut_entries_that_it_holds(seed: int) -> None:
    """Once, a request whose own entry's tail took the last blocks preempted itself and was never admitted again.

    In case 27 it was in the middle of its prefill, in case 443 it became alone by preempting the other one.
    """
    draft, cluster, _ = Case(seed, n_apps=2, n_jobs=6, n_stages=6, spread_ns=10**9, short_of_kv=True).draw()
    workload = draft.assemble()
    state, simulation = simulator.start(workload, cluster)
    simulator.run_fcfs(state, simulation)
    assert int(state.tasks["restarts"].sum()) > 0
    assert np.all(state.jobs["finish_ns"] < FAR)


MS = LatencyProfile.from_ms("ms", (1.0, 0.0, 0.0, 0.0))


def served(config: EngineConfig, requests: list[Request]) -> NDArray[Any]:
    tasks = task_rows(requests)
    serve(new_engines([config], len(requests), 8), tasks, [request.arrival_ns for request in requests])
    return tasks


def test_a_submission_is_seen_by_the_first_iteration_that_starts_no_earlier() -> None:
    at_boundary, after = 3_000_000, 3_000_001  # iterations start every millisecond
    tasks = served(EngineConfig(MS), [Request(0, 4, 100), Request(at_boundary, 4, 5), Request(after, 4, 5)])
    assert tasks["scheduled_ns"].tolist() == [0, 3_000_000, 4_000_000]
    assert tasks["first_token_ns"].tolist() == [1_000_000, 4_000_000, 5_000_000]
    assert tasks["finish_ns"].tolist() == [100_000_000, 8_000_000, 9_000_000]


def test_siblings_sampled_from_one_prompt_hit_in_the_same_step() -> None:
    prompt = 16 * 6 + 5
    siblings = [Request(0, prompt, 3, -1, 0, 2, prompt) for _ in range(3)]
    tasks = served(EngineConfig(MS), siblings)
    assert tasks["cached_tokens"].tolist() == [0, 96, 96]
    assert tasks["scheduled_ns"].tolist() == [0, 0, 0]
    assert served(EngineConfig(MS, prefix_caching=False), siblings)["cached_tokens"].tolist() == [0, 0, 0]


def test_a_growing_conversation_hits_its_prompt_and_output() -> None:
    first, second = Request(0, 40, 30, 0, 20, 2, 20), Request(10**9, 90, 5, 0, 20, 2, 70)
    other = Request(2 * 10**9, 90, 5, 0, 20, 3, 20)
    tasks = served(EngineConfig(MS), [first, second, other])
    # 69 tokens of the first turn were computed: 4 blocks; another job of the application finds one block of its prefix.
    assert tasks["cached_tokens"].tolist() == [0, 64, 16]


def test_a_hit_leaves_one_token_to_compute() -> None:
    tasks = served(EngineConfig(MS), [Request(0, 32, 2, 0, 32), Request(10**9, 32, 2, 0, 32)])
    assert tasks["cached_tokens"].tolist() == [0, 16]


def test_least_recently_used_prefix_is_evicted() -> None:
    config = EngineConfig(MS, kv_blocks=9, watermark=0.0)
    turns = [Request(10**9 * turn, 50, 2, -1, 0, job, 50) for turn, job in enumerate([2, 3, 2, 4, 2, 3])]
    # Three blocks stay of each job. Job 4 takes three free ones and one of job 3, the least recently used.
    assert served(config, turns)["cached_tokens"].tolist() == [0, 0, 48, 0, 48, 32]


def test_the_last_of_running_is_preempted_and_restarts_in_front() -> None:
    config = EngineConfig(MS, max_num_seqs=4, kv_blocks=7, block_size=4, watermark=0.0)
    tasks = served(config, [Request(0, 8, 17), Request(0, 8, 9), Request(7_000_000, 4, 2)])
    # With 13 tokens each, the first two want an eighth block. The second needs 4 blocks to restart, the first leaves 3;
    # the third would fit, but waits behind it.
    assert tasks["restarts"].tolist() == [0, 1, 0]
    assert tasks["scheduled_ns"].tolist() == [0, 0, 17_000_000]
    assert tasks["finish_ns"].tolist() == [17_000_000, 21_000_000, 19_000_000]


def test_progress_counts_the_iterations_that_have_ended() -> None:
    state = new_engines([EngineConfig(MS)], 1, 0)
    tasks = task_rows([Request(0, 10, 50)])
    submit(*state, tasks, 0, 0, 0)
    plan(*state, tasks, 0)
    assert state.engines[0]["event_ns"] == 1_000_000
    complete(*state, tasks, 0, np.zeros(128, np.int32))
    plan(*state, tasks, 0)
    assert state.engines[0]["event_ns"] == 50_000_000
    generated = {
        now: progress(state.engines, state.sequences, 0, now) - int(state.sequences[0, 0]["first_step"])
        for now in (1_000_000, 1_999_999, 2_000_000, 25_500_000, 50_000_000)
    }
    assert list(generated.values()) == [1, 1, 2, 25, 50]


def test_a_request_of_exactly_the_capacity_is_served() -> None:
    config = EngineConfig(MS, kv_blocks=100, watermark=0.05)
    assert config.kv_tokens == 95 * 16
    assert kv_tokens_needed(1000, 521) == config.kv_tokens
    assert served(config, [Request(0, 1000, 521)])["finish_ns"][0] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 127),
        ("block_size", 0),
        ("block_size", 4096),
        ("watermark", 1.0),
        ("watermark", float("nan")),
        ("kv_blocks", 0),
    ],
)
def test_impossible_engines_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        EngineConfig(MS, **{field: value})  # pyright: ignore[reportArgumentType] - one field of each type
