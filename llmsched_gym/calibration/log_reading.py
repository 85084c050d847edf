"""Read what a server's request log measured.

Beside arrival, prompt and output (`replay.read_requests`) it has when the last token came, and better the first, too.
Requests without tokens failed, and are left out. Those whose end is not known are served, and count for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from llmsched_gym.backends.csv_rows import number, read_rows
from llmsched_gym.backends.replay import MAX_SECONDS, MAX_SPAN_S, columns_of, requests_of
from llmsched_gym.calibration.measured_log import Floats, MeasuredLog
from llmsched_gym.errors import InputError, Plain

CLOCK: Final[tuple[tuple[str, ...], ...]] = (
    ("first_token_s", "first_token", "first_token_time_s", "first_token_time"),
    ("finish_s", "finish", "finish_time_s", "finish_time"),
)
"""Columns of first and last tokens by the clock of the arrivals, in seconds."""

SINCE_ARRIVAL: Final[tuple[Mapping[str, float], ...]] = (
    {"ttft_s": 1.0, "ttft_ms": 1e-3},
    {"e2e_s": 1.0, "e2e_ms": 1e-3, "latency_s": 1.0, "latency_ms": 1e-3},
)
"""The same since the request's own arrival, with the seconds of their unit."""

_UNKNOWN: Final = ("", "nan", "none", "null")
_NO_TOKENS: Final = (*_UNKNOWN, "0", "0.0")

Row = tuple[str, dict[str, str | None]]


def read_measured(path: str | Path) -> tuple[MeasuredLog, int]:
    """Read a request log with the times of first and last tokens.

    Returns:
        The log, and how many requests without prompt or output are left out.

    Raises:
        InputError: The file is not usable, has no column of ends, or a time before an earlier one.
    """
    header, rows = read_rows(path, "requests")
    names = columns_of(path, header)
    served = [row for row in rows if not any(_is(row, names[key], _NO_TOKENS) for key in ("prompt", "output"))]
    if not served:
        raise InputError(path, "", Plain(f"{len(rows)} requests without tokens"), "requests that were served")
    requests = requests_of(served, names)
    arrival = requests.arrival_ns.astype(np.float64) * 1e-9
    first, end = (_since(arrival, served, _column(header, place)) for place in (0, 1))
    if end is None:
        allowed = f"when requests ended: a column {' or '.join((*CLOCK[1], *SINCE_ARRIVAL[1]))}"
        raise InputError(path, "header", ",".join(header), allowed)
    first = np.full_like(end, np.nan) if first is None else first
    for (source, _), before, after in zip(served, first.tolist(), end.tolist(), strict=True):
        if before <= 0.0 or after <= 0.0 or before > after or after > MAX_SPAN_S:
            found = Plain(f"tokens {before:.6g} and {after:.6g} s after arrival")
            raise InputError(source, "", found, "arrival < first token <= last token, by one clock")
    streamed = (first < end) | (requests.output_tokens == 1)
    return MeasuredLog(requests, np.where(streamed, first, np.nan), end), len(rows) - len(served)


def _is(row: Row, name: str, texts: tuple[str, ...]) -> bool:
    return (row[1].get(name) or "").strip().lower() in texts


def _column(header: list[str], place: int) -> tuple[str, float | None] | None:
    """Return the column of first or last tokens, with the seconds of its unit if it counts since arrival."""
    known = {**dict.fromkeys(CLOCK[place]), **SINCE_ARRIVAL[place]}
    return next(((name, unit) for name, unit in known.items() if name in header), None)


def _since(arrival: Floats, rows: list[Row], column: tuple[str, float | None] | None) -> Floats | None:
    """Return seconds since arrival, float64 (n,), nan where they are not known; None without such a column."""
    if column is None:
        return None
    name, unit = column
    known = np.array([not _is(row, name, _UNKNOWN) for row in rows])
    times = np.full(len(rows), np.nan)
    most = MAX_SECONDS / (unit or 1.0)
    times[known] = [number(row[0], name, row[1][name], most) for row, here in zip(rows, known, strict=True) if here]
    return times - arrival if unit is None else times * unit
