"""Readers of public inference traces, from a path that the user gives.

- ``azure``: Azure LLM inference traces of 2023, 2024 and 2025 (https://github.com/Azure/AzurePublicDataset, CC-BY-4.0):
  CSV with ``TIMESTAMP`` such as ``2023-11-16 18:17:03.9799600``, ``ContextTokens``, ``GeneratedTokens``.
- ``burstgpt``: BurstGPT (https://github.com/HPMLL/BurstGPT, CC-BY-4.0): CSV with ``Timestamp`` in seconds since the
  first day, ``Request tokens``, ``Response tokens``.
- ``mooncake``: Mooncake traces (https://github.com/kvcache-ai/Mooncake, Apache-2.0): JSON lines with ``timestamp`` in
  ms, ``input_length``, ``output_length``, and ``hash_ids``, one per block of 512 prompt tokens; with ``session_id``,
  turns of a session may have a ``delay`` in ms after the turn before them instead of a timestamp.
- ``vidur``: traces of microsoft/vidur (MIT): CSV with ``arrived_at``, ``num_prefill_tokens``, ``num_decode_tokens``.
- ``llmservingsim``: request logs of LLMServingSim (MIT): JSON lines with ``arrival_time`` in seconds since 1970,
  ``input_toks``, ``output_toks``.
- ``csv``: a reduced CSV with ``t_s``, ``in_tokens``, ``out_tokens``.

Each may be compressed with gzip. Other columns are left alone. Requests without a token on one side, which some traces
have many of, are left out and counted, and a warning says so.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TextIO, get_args

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number, whole_number
from llmsched_gym.workloads import trace_cache
from llmsched_gym.workloads.files import file_state, open_unpacked, parse_json
from llmsched_gym.workloads.trace_rows import TIMESTAMPS, Columns, csv_pieces, numbers_of, row_of

TraceFormat = Literal["azure", "burstgpt", "mooncake", "vidur", "llmservingsim", "csv"]

BLOCK_TOKENS: Final = 512
"""Tokens of a block that Mooncake's ``hash_ids`` name."""

_MAX_SPAN_NS: Final = 10**18
_MAX_DELAY_MS: Final = 1e12
_WHAT: Final = "a readable file"

_COLUMNS: Final = {
    "azure": Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", TIMESTAMPS),
    "burstgpt": Columns("Timestamp", "Request tokens", "Response tokens", numbers_of(1_000_000_000)),
    "mooncake": Columns("timestamp", "input_length", "output_length", numbers_of(1_000_000)),
    "vidur": Columns("arrived_at", "num_prefill_tokens", "num_decode_tokens", numbers_of(1_000_000_000)),
    "llmservingsim": Columns("arrival_time", "input_toks", "output_toks", numbers_of(1_000_000_000)),
    "csv": Columns("t_s", "in_tokens", "out_tokens", numbers_of(1_000_000_000)),
}
_JSON_LINES: Final = ("mooncake", "llmservingsim")


@dataclass(frozen=True)
class RequestTrace:
    """Requests of a trace.

    Attributes:
        arrival_ns: int64 (n,), ascending, the first is 0. That of a turn that follows another is its session's.
        prompt_tokens: int32 (n,), at least 1.
        output_tokens: int32 (n,), at least 1.
        follows: int64 (n,) The request that must be over before; -1: none. Empty where none follows another.
        delay_ns: int64 (n,) How long after that; empty likewise.
        block_ids: int64. Blocks of all prompts, one after the other; empty where the trace names none.
        block_ends: int64 (n,) Where those of each prompt end; empty likewise.
        skipped: How many requests had no token on one side, and are not here.
    """

    arrival_ns: NDArray[np.int64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    follows: NDArray[np.int64]
    delay_ns: NDArray[np.int64]
    block_ids: NDArray[np.int64]
    block_ends: NDArray[np.int64]
    skipped: int = 0

    @property
    def blocks(self) -> list[NDArray[np.int64]]:
        """The block ids of each prompt."""
        return np.split(self.block_ids, self.block_ends[:-1]) if len(self.block_ends) else []


def read_trace(path: str | Path, format: TraceFormat) -> RequestTrace:
    """Read a trace; rows may come in any order of time, equal times keep the file's order.

    A file is parsed once per process, as long as it stays as it is, and a large one once per machine
    (`llmsched_gym.workloads.trace_cache`).

    Args:
        path: The file; plain or compressed with gzip.
        format: See the module.

    Returns:
        The requests; do not write into the arrays.

    Raises:
        InputError: Unknown format, unreadable file, no row, or the first bad row.
    """
    if format not in get_args(TraceFormat):
        raise InputError(path, "format", format, suggest(str(format), get_args(TraceFormat)))
    return _read(str(path), format, file_state(path, _WHAT))


def find_format(path: str | Path) -> TraceFormat | None:
    """Return the format whose columns a file has, by its first line; None: of none of them.

    Raises:
        InputError: The file cannot be read.
    """
    with open_unpacked(path, _WHAT) as content:
        line = content.readline(1_000_000).decode("utf-8-sig", "replace").strip()
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    json_lines = isinstance(row, dict)
    names = set(row) if json_lines else set(next(csv.reader([line]), []))
    for format in get_args(TraceFormat):
        columns = _COLUMNS[format]
        wanted = {columns.prompt, columns.output} if json_lines else set(columns.names)
        if (format in _JSON_LINES) == json_lines and wanted <= names:
            return format
    return None


def refuse_turns(path: str | Path, trace: RequestTrace) -> None:
    """Refuse a trace whose later turns have no times of their own.

    Raises:
        InputError: A request follows another.
    """
    turns = int((trace.follows >= 0).sum())
    if turns:
        allowed = "turns with a timestamp each: when the turn before is over is not known here"
        raise InputError(path, "delay", Plain(f"{turns} turns with a delay after the one before"), allowed)


@lru_cache(maxsize=8)
def _read(path: str, format: TraceFormat, state: tuple[int, ...]) -> RequestTrace:
    """Read a trace; `state` is that of the file, so that a file that has changed is read again."""
    large = state[1] >= trace_cache.LEAST_BYTES
    key = f"{trace_cache.content_digest(path)}-{format}" if large else ""
    columns = trace_cache.kept(key) if large else None
    if columns is None or columns.keys() != {*_NAMES, "skipped"}:
        columns = _parse(path, format)
        if large:
            trace_cache.keep(key, columns)
    skipped, n = int(columns["skipped"]), len(columns["arrival_ns"])
    if skipped:
        left_out = f"{skipped} of {skipped + n} requests have no token on one side, and are left out"
        warnings.warn_explicit(left_out, UserWarning, path, 1)
    for column in columns.values():
        column.flags.writeable = False
    return RequestTrace(**{name: columns[name] for name in _NAMES}, skipped=skipped)


_NAMES: Final = ("arrival_ns", "prompt_tokens", "output_tokens", "follows", "delay_ns", "block_ids", "block_ends")


def _parse(path: str, format: TraceFormat) -> dict[str, NDArray[Any]]:
    """Return the columns of a trace, by the names that `RequestTrace` has for them."""
    names = _COLUMNS[format]
    turns = _Turns()
    try:
        with open_unpacked(path, _WHAT) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as file:
            if format in _JSON_LINES:
                pieces = [np.array([*turns.read(path, _json_lines(path, file), names)], np.int64).reshape(-1, 3)]
            else:
                pieces = [*csv_pieces(path, file, names)]
    except UnicodeDecodeError as error:
        raise InputError(path, "", Plain("bytes that are no UTF-8"), "text in UTF-8") from error
    except csv.Error as error:
        raise InputError(path, "", Plain(error), "a CSV file") from error
    table = np.concatenate([np.zeros((0, 3), np.int64), *pieces])
    del pieces
    used = np.flatnonzero((table[:, 1:] > 0).all(axis=1))
    if not len(used):
        found = f"no request with tokens on both sides, {len(table)} without" if len(table) else "no request"
        raise InputError(path, "", Plain(found), "at least one row after the header")
    order = used[np.argsort(table[used, 0], kind="stable")]
    arrival_ns = table[order, 0] - table[order[0], 0]
    if arrival_ns[-1] > _MAX_SPAN_NS:
        found = Plain(f"requests over {arrival_ns[-1] / 1e9:.3g} s")
        raise InputError(path, names.time, found, f"a trace of at most {_MAX_SPAN_NS / 1e9:g} s")
    return {
        "arrival_ns": arrival_ns,
        "prompt_tokens": table[order, 1].astype(np.int32),
        "output_tokens": table[order, 2].astype(np.int32),
        **turns.columns(order),
        "skipped": np.array(len(table) - len(used)),
    }


class _Turns:
    """What rows of JSON say of blocks and sessions, gathered row by row."""

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []
        self._follows: list[int] = []
        self._delay_ns: list[int] = []
        self._sessions: dict[Any, tuple[int, int]] = {}

    def read(
        self, path: str, lines: Iterator[tuple[int, Mapping[str, Any]]], names: Columns
    ) -> Iterator[tuple[int, int, int]]:
        """Yield time in ns, prompt and output tokens of rows."""
        for number, (line, row) in enumerate(lines):
            where = f"{path}, line {line}"
            self._blocks.append(_block_ids(where, row))
            session, before, delay_ns = row.get("session_id"), -1, 0
            if names.time not in row and row.get("delay") is not None:
                before, begin_ns = self._before(where, session)
                delay_ns = _delay_ns(where, row["delay"])
                time_ns, *tokens = row_of(where, {**row, names.time: begin_ns / 1e6}, names)
            else:
                time_ns, *tokens = row_of(where, row, names)
            if isinstance(session, str | int):
                self._sessions[session] = (number, self._sessions.get(session, (0, time_ns))[1])
            self._follows.append(before)
            self._delay_ns.append(delay_ns)
            yield time_ns, tokens[0], tokens[1]

    def _before(self, where: str, session: Any) -> tuple[int, int]:
        """Return the row of the turn before, and when the session began."""
        known = self._sessions.get(session) if isinstance(session, str | int) else None
        if known is None:
            raise InputError(where, "session_id", session, "that of an earlier line, which this turn has a delay after")
        return known

    def columns(self, order: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the columns of the rows that are left, in their order."""
        none = np.zeros(0, np.int64)
        follows, delay_ns, ids, ends = none, none, none, none
        if any(before >= 0 for before in self._follows):
            place = {int(row): position for position, row in enumerate(order)}
            found = [self._last_left(int(row), place) for row in order]
            follows, delay_ns = (np.array(column, np.int64) for column in zip(*found, strict=True))
        if any(self._blocks):
            blocks = [self._blocks[row] for row in order]
            ids = np.array([block for one in blocks for block in one], np.int64)
            ends = np.cumsum([len(one) for one in blocks])
        return {"follows": follows, "delay_ns": delay_ns, "block_ids": ids, "block_ends": ends}

    def _last_left(self, row: int, place: Mapping[int, int]) -> tuple[int, int]:
        """Return the place of the turn before a row, and the delay after it, passing over turns that were left out."""
        delay_ns, before = self._delay_ns[row], self._follows[row]
        while before >= 0 and before not in place:
            delay_ns, before = delay_ns + self._delay_ns[before], self._follows[before]
        return (place[before], delay_ns) if before >= 0 else (-1, 0)


def _block_ids(where: str, row: Mapping[str, Any]) -> list[int]:
    ids = row.get("hash_ids") or []
    if not isinstance(ids, list) or any(whole_number(one) is None or not 0 <= one < 2**63 for one in ids):
        raise InputError(where, "hash_ids", ids, "a list of whole numbers from 0 on, one per block")
    return ids


def _delay_ns(where: str, value: Any) -> int:
    number = real_number(value)
    if number is None or not 0 <= number <= _MAX_DELAY_MS:
        raise InputError(where, "delay", value, f"a number of milliseconds from 0 to {_MAX_DELAY_MS:g}")
    return round(number * 1e6)


def _json_lines(path: str | Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        row = parse_json(path, text, "one JSON object per line", number)
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}", "", row, "one JSON object per line")
        yield number, row
