"""Serve a log of independent requests with one engine: for checks against other simulators and servers, and fits."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.backends.csv_rows import number, read_rows
from llmsched_gym.backends.simulator.engine import complete, plan, submit
from llmsched_gym.backends.simulator.state import EngineConfig, Engines, engine_at, kv_tokens_needed, new_engines
from llmsched_gym.cluster.state import FAR, TASK_STATE
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads import contents
from llmsched_gym.workloads.files import write_atomic
from llmsched_gym.workloads.prefix_tree import prefix_tree
from llmsched_gym.workloads.traces import BLOCK_TOKENS, RequestTrace, TraceFormat, find_format, read_trace

COLUMNS: Final = (
    "request_id",
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "first_scheduled_s",
    "first_token_s",
    "finish_s",
    "restarts",
)
"""Columns of a replay's result file."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "arrival": ("arrival_s", "arrival", "arrival_time_s", "arrival_time"),
    "prompt": ("prompt_tokens", "prompt", "input_tokens", "num_prefill_tokens"),
    "output": ("output_tokens", "output", "num_decode_tokens"),
}
MAX_SECONDS: Final = 4e9
"""Latest time of a log: it may be counted since 1970."""

MAX_SPAN_S: Final = 1_000_000
"""From the first arrival to the last; the engine counts picoseconds in 64 bits."""

_MAX_TOKENS: Final = 2**24

SEGMENT: Final = np.dtype(
    [
        ("iterations", "i8"),  # with one batch
        ("n_decode", "i8"),
        ("prefill_tokens", "i8"),
        ("prefill_context", "i8"),  # tokens of each chunk times the tokens in KV before it, summed
        ("decode_context", "i8"),  # prompt + generated tokens of the decoding sequences, in the first iteration
    ]
)
"""What an engine did between two events."""


class Turns(NamedTuple):
    """Requests that arrive some time after another one is over.

    Attributes:
        next: int64 (n,) The request that waits for this one; -1: none.
        delay_ns: int64 (n,) How long after it that one arrives.
    """

    next: NDArray[np.int64]
    delay_ns: NDArray[np.int64]


class RequestLog(NamedTuple):
    """Requests in the order of a file.

    Attributes:
        ids: Their names.
        arrival_ns: int64 (n,).
        prompt_tokens: int64 (n,), at least 1.
        output_tokens: int64 (n,), at least 1.
        contents: int64 (n, 5), `workloads.contents.COLUMNS`; None: no request shares a prefix with another.
        shared_tokens: int64 (n,) Leading prompt tokens that a request of before had; None: not known.
        turns: Which requests wait for others; None: none does.
    """

    ids: list[str]
    arrival_ns: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    contents: NDArray[np.int64] | None = None
    shared_tokens: NDArray[np.int64] | None = None
    turns: Turns | None = None


def _tokens(source: str, field: str, text: str | None) -> int:
    value = number(source, field, text, _MAX_TOKENS)
    if value < 1 or value != int(value):
        raise InputError(source, field, text or "", f"a whole number from 1 to {_MAX_TOKENS}")
    return int(value)


def read_requests(path: str | Path) -> RequestLog:
    """Read a request log, or a trace of a format of `workloads.traces`, which its columns tell.

    Args:
        path: File. A log is CSV with columns `arrival_s`, `prompt_tokens` and `output_tokens` (or their usual other
            names), `request_id` (optional), and others that are ignored; rows in any order; token counts may be
            written "260.0".

    Returns:
        The requests; those of a trace by arrival, named by their number.

    Raises:
        InputError: The file cannot be read, a column is missing, or a row is not usable (file, line, column).
    """
    format = find_format(path)
    if format is not None:
        return _trace_requests(path, format)
    header, records = read_rows(path, "requests")
    return requests_of(records, columns_of(path, header))


def _trace_requests(path: str | Path, format: TraceFormat) -> RequestLog:
    trace = read_trace(path, format)
    span_s = float(trace.arrival_ns[-1]) / 1e9
    if span_s > MAX_SPAN_S:
        raise InputError(path, "", Plain(f"requests over {span_s:.9g} s"), f"a trace of at most {MAX_SPAN_S} s")
    prompt, output = trace.prompt_tokens.astype(np.int64), trace.output_tokens.astype(np.int64)
    most = int(max(prompt.max(), output.max()))
    if most > _MAX_TOKENS:
        raise InputError(path, "", Plain(f"a request of {most} tokens"), f"at most {_MAX_TOKENS} on one side")
    ids = [str(number) for number in range(len(prompt))]
    log = RequestLog(ids, trace.arrival_ns, prompt, output, turns=_turns_of(trace))
    if not len(trace.block_ends):
        return log
    tree = prefix_tree(trace.blocks, prompt, BLOCK_TOKENS)
    return log._replace(contents=tree.contents, shared_tokens=tree.shared_tokens)


def _turns_of(trace: RequestTrace) -> Turns | None:
    if not len(trace.follows):
        return None
    n = len(trace.follows)
    turns = Turns(np.full(n, -1, np.int64), np.zeros(n, np.int64))
    waiting = np.flatnonzero(trace.follows >= 0)
    turns.next[trace.follows[waiting]] = waiting
    turns.delay_ns[trace.follows[waiting]] = trace.delay_ns[waiting]
    return turns


def columns_of(path: str | Path, header: list[str]) -> dict[str, str]:
    """Return the names that a request log has for arrival, prompt and output.

    Raises:
        InputError: A column is missing.
    """
    names: dict[str, str] = {}
    for quantity, known in _NAMES.items():
        present = [name for name in known if name in header]
        if not present:
            raise InputError(path, "header", ",".join(header), f"a column {' or '.join(known)}")
        names[quantity] = present[0]
    return names


def requests_of(records: Sequence[tuple[str, Mapping[str, str | None]]], names: Mapping[str, str]) -> RequestLog:
    """Return the requests that rows hold.

    Args:
        records: Rows by `read_rows`, with where they stand; at least one.
        names: Columns by `columns_of`.

    Raises:
        InputError: A row is not usable (file, line, column).
    """
    ids: list[str] = []
    rows: list[tuple[int, int, int]] = []
    for source, row in records:
        arrival = number(source, names["arrival"], row[names["arrival"]], MAX_SECONDS)
        prompt, output = (_tokens(source, names[key], row[names[key]]) for key in ("prompt", "output"))
        ids.append(row.get("request_id") or str(len(rows)))
        rows.append((round(arrival * 1e9), prompt, output))
    columns = np.array(rows, np.int64)
    last = int(np.argmax(columns[:, 0]))
    if columns[last, 0] - columns[:, 0].min() > MAX_SPAN_S * 10**9:
        source, row = records[last]
        allowed = f"at most {MAX_SPAN_S} s after the first request"
        raise InputError(source, names["arrival"], row[names["arrival"]], allowed)
    return RequestLog(ids, columns[:, 0], columns[:, 1], columns[:, 2])


class _Record(NamedTuple):
    """Where a replay writes: the segments, and the requests that finish at a boundary."""

    segments: NDArray[Any]
    finished: NDArray[np.int32]


class _Queue(NamedTuple):
    """Requests by arrival: the first ``known[0]`` of `order`; others come when those that they wait for are over."""

    order: NDArray[np.int64]
    known: NDArray[np.int64]


@kernel
def _enqueue(queue: _Queue, tasks: Any, submitted: int, task: Any, arrival_ns: Any) -> None:
    """Have a request arrive, behind those that arrive at the same time."""
    order = queue.order
    place = queue.known[0]
    while place > submitted and tasks[order[place - 1]].start_ns > arrival_ns:
        order[place] = order[place - 1]
        place -= 1
    order[place] = task
    tasks[task].start_ns = arrival_ns
    queue.known[0] += 1


@kernel
def _drive(
    engines: Engines, tasks: Any, queue: _Queue, turns: Turns, submitted: int, record: _Record
) -> tuple[int, int]:
    """Run the first engine on `tasks`, which arrive at their start_ns, until all is done or the record is full.

    Returns:
        How many requests are submitted and how many segments are written. All is done if the record is not full.
    """
    engine = engine_at(engines, 0)
    row, order = engine.row[0], queue.order
    written = 0
    while written < len(record.segments):
        arrival = tasks[order[submitted]].start_ns if submitted < queue.known[0] else FAR
        now = min(row.event_ns, arrival)
        if now == FAR:
            break
        if row.event_ns == now:
            segment = record.segments[written]
            segment.iterations = row.segment
            segment.n_decode = row.now.n_decode
            segment.prefill_tokens = row.now.prefill_tokens
            segment.prefill_context = row.now.prefill_context
            segment.decode_context = row.now.decode_context
            written += 1
            for k in range(complete(engine, tasks, record.finished)):
                finished = record.finished[k]
                if turns.next[finished] >= 0:
                    _enqueue(queue, tasks, submitted, turns.next[finished], now + turns.delay_ns[finished])
        while submitted < queue.known[0] and tasks[order[submitted]].start_ns == now:
            submit(engine, tasks, order[submitted], now, 0)
            submitted += 1
        plan(engine, tasks)
    return submitted, written


def serve(log: RequestLog, config: EngineConfig, source: object = "requests") -> tuple[NDArray[Any], NDArray[Any]]:
    """Serve requests with one engine.

    Args:
        log: The requests; served by arrival, ties in their order.
        config: The engine.
        source: What to name in errors.

    Returns:
        `TASK_STATE` rows in the order of `log` (times, restarts), and `SEGMENT` rows in order of time.

    Raises:
        InputError: A request can never fit in the KV cache.
    """
    n = len(log.ids)
    tasks = np.zeros(n, TASK_STATE)
    begin = log.arrival_ns.min()
    tasks["start_ns"] = log.arrival_ns - begin
    tasks["prompt_tokens"], tasks["output_tokens"] = log.prompt_tokens, log.output_tokens
    tasks["app_prefix"] = tasks["chain"] = -1
    n_contents = 0
    if log.contents is not None:
        for column, values in zip(contents.COLUMNS, log.contents.T, strict=True):
            tasks[column] = values
        n_contents = int(log.contents[:, (0, 2)].max(initial=-1)) + 1
    worst = int(np.argmax(log.prompt_tokens + log.output_tokens))
    needed = kv_tokens_needed(int(log.prompt_tokens[worst]), int(log.output_tokens[worst]))
    if needed > config.kv_tokens:
        raise InputError(
            source,
            f"request {log.ids[worst]}: KV tokens",
            needed,
            f"at most {config.kv_tokens}, the engine's KV capacity",
        )
    engines = new_engines([config], n, n_contents)
    turns = log.turns or Turns(np.full(n, -1, np.int64), np.zeros(n, np.int64))
    queue = _queue(log.arrival_ns, turns)
    record = _Record(np.zeros(4 * n + 1024, SEGMENT), np.zeros(config.max_num_seqs, np.int32))
    parts: list[NDArray[Any]] = []
    submitted, written = 0, len(record.segments)
    while written == len(record.segments):
        submitted, written = _drive(engines, tasks, queue, turns, submitted, record)
        parts.append(record.segments[:written].copy())
    for name in ("start_ns", "scheduled_ns", "first_token_ns", "finish_ns"):
        tasks[name] += begin
    return tasks, np.concatenate(parts)


def _queue(arrival_ns: NDArray[np.int64], turns: Turns) -> _Queue:
    """Return the requests that wait for no other, by arrival."""
    waits = np.zeros(len(arrival_ns), np.bool_)
    waits[turns.next[turns.next >= 0]] = True
    order = np.argsort(arrival_ns, kind="stable").astype(np.int64)
    known = np.array([(~waits).sum()], np.int64)
    return _Queue(np.concatenate([order[~waits[order]], order[waits[order]]]), known)


class Reuse(NamedTuple):
    """Shares of all prompt tokens.

    Attributes:
        ideal: What a cache finds that serves one request after the other and forgets nothing.
        realised: What the engine found when it first admitted the requests.
    """

    ideal: float
    realised: float


def reuse_of(log: RequestLog, tasks: NDArray[Any]) -> Reuse | None:
    """Return how much of the prompts came from the prefix cache; None if the log does not say what they share.

    Args:
        log: The requests.
        tasks: What `serve` returned for them.
    """
    if log.shared_tokens is None:
        return None
    total = float(log.prompt_tokens.sum())
    return Reuse(float(log.shared_tokens.sum()) / total, float(tasks["cached_tokens"].sum()) / total)


def replay(requests: str | Path, config: EngineConfig) -> list[dict[str, str]]:
    """Serve the requests of a file with one engine.

    Where KV blocks run short, results differ from Vidur's vLLM schedulers: those want one block free for every running
    request in every iteration, V1 only when a request starts a block, so V1 preempts an iteration or two later.

    Args:
        requests: See `read_requests`.
        config: The engine.

    Returns:
        One row per request in the file's order, as text, with `COLUMNS` as keys; times in seconds with nine decimals.

    Raises:
        InputError: The file is not usable, or a request can never fit in the KV cache.
    """
    log = read_requests(requests)
    tasks, _ = serve(log, config, requests)
    return result_rows(log, tasks)


def result_rows(log: RequestLog, tasks: NDArray[Any]) -> list[dict[str, str]]:
    """Return what `replay` does, of requests that are served.

    Args:
        log: The requests.
        tasks: What `serve` returned for them.
    """
    rows: list[dict[str, str]] = []
    for name, task in zip(log.ids, tasks, strict=True):
        times = ("start_ns", "scheduled_ns", "first_token_ns", "finish_ns")
        arrival, scheduled, first, finish = (f"{int(task[key]) // 10**9}.{int(task[key]) % 10**9:09d}" for key in times)
        tokens = (str(task["prompt_tokens"]), str(task["output_tokens"]))
        values = (name, arrival, *tokens, scheduled, first, finish, str(task["restarts"]))
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write_rows(rows: list[dict[str, str]], path: str | Path) -> None:
    """Write a replay's rows as CSV, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[column] for column in COLUMNS] for row in rows)
    write_atomic(path, text.getvalue().encode())
