"""The compiled engine equals a plain loop over iterations, whatever is submitted, with and without prefix cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmsched_gym.backends.engine import complete, plan, progress, submit
from llmsched_gym.backends.engine_state import EngineConfig, Engines, kv_tokens_needed, new_engines, reset
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.state import FAR, TASK_STATE
from llmsched_gym.errors import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from plain_engine import PlainEngine, Request  # noqa: E402 - benchmarks is a folder of scripts, not a package

INPUTS = ("prompt", "output", "app_prefix", "app_prefix_tokens", "job_prefix", "job_prefix_tokens")
COLUMNS = ("prompt_tokens", "output_tokens", *INPUTS[2:])


def task_rows(requests: list[Request]) -> NDArray[Any]:
    """The requests as the engine's task rows."""
    tasks = np.zeros(len(requests), TASK_STATE)
    for column, attribute in zip(COLUMNS, INPUTS, strict=True):
        tasks[column] = [getattr(request, attribute) for request in requests]
    return tasks


def blocks_add_up(state: Engines, tasks: NDArray[Any]) -> None:
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
            blocks_add_up(state, tasks)
        while following < len(arrivals) and arrivals[following] == now:
            submit(*state, tasks, 0, following, now)
            following += 1
        plan(*state, tasks, 0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[EngineConfig, list[Request]]:
    """An engine, often short of KV blocks, and requests that share prefixes."""
    block_size = draw(st.sampled_from([1, 3, 4, 16]))
    slots = draw(st.integers(1, 6))
    coefficients = [draw(st.integers(low, 10**high)) for low, high in ((1, 7), (0, 5), (0, 5), (0, 4))]
    config = EngineConfig(
        LatencyProfile("test", *coefficients),
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
        assert (row["scheduled_ns"], row["first_token_ns"], row["finish_ns"], row["restarts"], row["cached_tokens"]) == (
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
