"""Drive engines event by event, as the simulator does, and look at them in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_engine import PlainEngine, Request
from random_loads import Load

from llmsched_gym.backends.simulator.engine import complete, plan, submit
from llmsched_gym.backends.simulator.readings import used_blocks
from llmsched_gym.backends.simulator.state import Engine, EngineConfig, Engines, PrefixCache, new_engines
from llmsched_gym.cluster.state import FAR, TASK_STATE
from llmsched_gym.workloads.contents import COLUMNS, prompt_contents
from llmsched_gym.workloads.workload import TASK

N_PREFIXES = 8


def view(engines: Engines, e: int = 0) -> Engine:
    """One engine, as compiled functions take it from Python."""
    rows, *others = engines
    return Engine(rows[e : e + 1], *(array[e] for array in others))


def prompts(*requests: Sequence[int]) -> NDArray[Any]:
    """`TASK` rows of (prompt, output[, application prefix, its tokens[, job prefix, its tokens]]); -1: no prefix."""
    tasks = np.zeros(len(requests), TASK)
    names = ("prompt_tokens", "output_tokens", "app_prefix", "app_prefix_tokens", "job_prefix", "job_prefix_tokens")
    for task, request in zip(tasks, requests, strict=True):
        for name, value in zip(names, (*request, *(-1, 0, -1, 0)[len(request) - 2 :]), strict=True):
            task[name] = value
        if task["job_prefix"] < 0:
            task["job_prefix_tokens"] = task["app_prefix_tokens"]
    return tasks


def task_rows(tasks: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """`TASK` rows as an engine's task rows, and how many contents they have."""
    contents = prompt_contents(tasks, N_PREFIXES // 2, N_PREFIXES)
    rows = np.zeros(len(tasks), TASK_STATE)
    rows["prompt_tokens"], rows["output_tokens"] = tasks["prompt_tokens"], tasks["output_tokens"]
    for name, values in zip(COLUMNS, contents.columns(tasks).T, strict=True):
        rows[name] = values
    return rows, contents.total


def moments(
    engine: Engine, tasks: NDArray[Any], arrivals: Sequence[int], probes: Sequence[int] = ()
) -> Iterator[tuple[int, bool]]:
    """Feed an engine from a sorted list of arrivals; yields each time, after what ends then, and whether it is a probe.

    What is submitted at a time is submitted after the yield, as decisions are.
    """
    finished = np.zeros(len(engine.running), np.int32)
    following = probe = 0
    while True:
        arrival = arrivals[following] if following < len(arrivals) else FAR
        look = probes[probe] if probe < len(probes) else FAR
        now = min(int(engine.row[0]["event_ns"]), arrival, look)
        if now == FAR:
            return
        if engine.row[0]["event_ns"] == now:
            complete(engine, tasks, finished)
        yield now, look == now
        probe += look == now
        while following < len(arrivals) and arrivals[following] == now:
            submit(engine, tasks, following, now, 0)
            following += 1
        plan(engine, tasks)


def serve(config: EngineConfig, tasks: NDArray[Any], arrivals: Sequence[int]) -> NDArray[Any]:
    """Serve `TASK` rows with a compiled engine, checking its blocks at every event; returns its task rows."""
    rows, n_contents = task_rows(tasks)
    engine = view(new_engines([config], len(tasks), n_contents))
    for _ in moments(engine, rows, arrivals):
        check_blocks(engine)
    return rows


def used_at(load: Load, probes: Sequence[int]) -> list[int]:
    """KV blocks in use on a compiled engine at some times."""
    rows, n_contents = task_rows(load.tasks)
    engine = view(new_engines([load.config], len(rows), n_contents))
    return [
        used_blocks(engine, now)
        for now, looked_at in moments(engine, rows, load.arrival_ns.tolist(), probes)
        if looked_at
    ]


def plain_used_at(load: Load, probes: Sequence[int]) -> list[int]:
    """The same on a plain engine, which goes iteration by iteration."""
    engine, requests, used = PlainEngine(load.config), load.requests, []
    arrivals, probe = list(requests), 0
    while True:
        arrival = arrivals[0].arrival_ns if arrivals else FAR
        look = probes[probe] if probe < len(probes) else FAR
        now = min(FAR if engine.next_ns is None else engine.next_ns, arrival, look)
        if now == FAR:
            return used
        if engine.next_ns == now:
            engine.land()
            idle = True
        else:
            idle = engine.next_ns is None
        if look == now:
            used.append(engine.shown_used)
            probe += 1
        while arrivals and arrivals[0].arrival_ns == now:
            engine.submit(arrivals.pop(0), now)
        if idle:
            engine.launch()


def boundaries_of(load: Load) -> list[int]:
    """Times of all boundaries between iterations."""
    engine, times = PlainEngine(load.config), []
    arrivals: list[Request] = load.requests
    while arrivals or engine.next_ns is not None:
        if engine.next_ns is None:
            engine.submit(arrivals[0], arrivals.pop(0).arrival_ns)
        else:
            times.append(engine.next_ns)
            engine.land()
        while arrivals and arrivals[0].arrival_ns <= -(-engine.clock_ps // 1000):
            engine.submit(arrivals[0], arrivals.pop(0).arrival_ns)
        engine.launch()
    return times


def check_blocks(engine: Engine) -> None:
    """Assert that the queue of extents is whole and that blocks add up."""
    row, extents = engine.row[0], engine.extents
    assert min(row["free_blocks"], row["cached_blocks"]) >= 0
    assert row["free_blocks"] + row["cached_blocks"] <= row["total_blocks"]
    queued, before, index = [], 0, int(extents[0]["newer"])
    while index > 0:
        extent = extents[index]
        assert extent["older"] == before
        assert extent["holders"] == 0
        assert extent["first"] < extent["stop"]
        queued.append(index)
        before, index = index, int(extent["newer"])
    assert extents[0]["older"] == before
    assert row["cached_blocks"] == sum(int(extents[k]["stop"] - extents[k]["first"]) for k in queued)
    if row["prefix_cache"] == PrefixCache.BLOCKS:
        _check_contents(engine, queued)


def _check_contents(engine: Engine, queued: list[int]) -> None:
    """Assert that every extent in use is in the list of its content, and held or queued; that copies do not overlap."""
    listed: list[int] = []
    for content, head in enumerate(engine.contents[: engine.row[0]["contents_used"]]["first"].tolist()):
        blocks: set[tuple[int, int]] = set()
        index = head
        while index > 0:
            extent = engine.extents[index]
            assert extent["content"] == content
            assert (extent["holders"] == 0) == (index in queued)
            if extent["holders"] > 0:
                own = {(int(extent["copy"]), block) for block in range(extent["first"], extent["stop"])}
                assert not own & blocks
                blocks |= own
            listed.append(index)
            index = int(extent["after"])
    spare, index = [], int(engine.row[0]["spare_extent"])
    while index > 0:
        spare.append(index)
        index = int(engine.extents[index]["after"])
    unreachable = [k for k in queued if engine.extents[k]["content"] < 0]
    assert sorted([*listed, *spare, *unreachable]) == list(range(1, int(engine.row[0]["extents_used"]) + 1))
