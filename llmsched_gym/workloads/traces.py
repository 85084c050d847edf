"""Readers of public inference traces, from a path that the user gives.

- ``azure``: Azure LLM inference traces of 2023, 2024 and 2025 (https://github.com/Azure/AzurePublicDataset, CC-BY-4.0):
  CSV with ``TIMESTAMP`` such as ``2023-11-16 18:17:03.9799600``, ``ContextTokens``, ``GeneratedTokens``.
- ``burstgpt``: BurstGPT (https://github.com/HPMLL/BurstGPT, CC-BY-4.0): CSV with ``Timestamp`` in seconds since the
  first day, ``Request tokens``, ``Response tokens``.
- ``mooncake``: Mooncake traces (https://github.com/kvcache-ai/Mooncake, Apache-2.0): JSON lines with ``timestamp`` in
  ms, ``input_length``, ``output_length``; ``hash_ids`` are not read.
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
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.files import file_state, open_unpacked, parse_json

TraceFormat = Literal["azure", "burstgpt", "mooncake", "vidur", "llmservingsim", "csv"]

MAX_TOKENS: Final = 2**31 - 1
_MAX_SECONDS: Final = 4e9  # since 1970, that is in 2096
_MAX_SPAN_NS: Final = 10**18
_JSON_LINES: Final = ("mooncake", "llmservingsim")
_WHAT: Final = "a readable file"
_TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?")


@dataclass(frozen=True)
class RequestTrace:
    """Requests of a trace.

    Attributes:
        arrival_ns: int64, ascending, the first is 0.
        prompt_tokens: int32, at least 1.
        output_tokens: int32, at least 1.
        skipped: How many requests had no token on one side, and are not here.
    """

    arrival_ns: NDArray[np.int64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    skipped: int = 0


def read_trace(path: str | Path, format: TraceFormat) -> RequestTrace:
    """Read a trace; rows may come in any order of time, equal times keep the file's order.

    A file is parsed once per process, as long as it stays as it is.

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
    return _parse(str(path), format, file_state(path, _WHAT))


@lru_cache(maxsize=8)
def _parse(path: str, format: TraceFormat, state: tuple[int, ...]) -> RequestTrace:
    """Read a trace; `state` is that of the file, so that a file that has changed is read again."""
    del state
    names, to_ns = _COLUMNS[format]
    rows: list[tuple[int, int, int]] = []
    skipped = 0
    try:
        with open_unpacked(path, _WHAT) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as file:
            lines = _json_lines(path, file) if format in _JSON_LINES else _csv_rows(path, file, names)
            for line, row in lines:
                where = f"{path}, line {line}"
                values = [_value(where, row, name) for name in names]
                arrival_ns = to_ns(where, names[0], values[0])
                prompt, output = (_tokens(where, names[i], values[i]) for i in (1, 2))
                if prompt and output:
                    rows.append((arrival_ns, prompt, output))
                else:
                    skipped += 1
    except UnicodeDecodeError as error:
        raise InputError(path, "", Plain("bytes that are no UTF-8"), "text in UTF-8") from error
    except csv.Error as error:
        raise InputError(path, "", Plain(error), "a CSV file") from error
    if not rows:
        found = f"no request with tokens on both sides, {skipped} without" if skipped else "no request"
        raise InputError(path, "", Plain(found), "at least one row after the header")
    if skipped:
        left_out = f"{skipped} of {skipped + len(rows)} requests have no token on one side, and are left out"
        warnings.warn_explicit(left_out, UserWarning, path, 1)
    table = np.array(rows, dtype=np.int64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    arrival_ns = table[:, 0] - table[0, 0]
    if arrival_ns[-1] > _MAX_SPAN_NS:
        found = Plain(f"requests over {arrival_ns[-1] / 1e9:.3g} s")
        raise InputError(path, names[0], found, f"a trace of at most {_MAX_SPAN_NS / 1e9:g} s")
    columns = (arrival_ns, table[:, 1].astype(np.int32), table[:, 2].astype(np.int32))
    for column in columns:
        column.flags.writeable = False
    return RequestTrace(*columns, skipped)


def _csv_rows(path: str | Path, file: Any, names: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file)
    header = reader.fieldnames or ()
    for name in names:
        if list(header).count(name) != 1:
            found = Plain("two such columns" if name in header else "no such column")
            raise InputError(f"{path}, line 1", name, found, f"a header with {', '.join(names)}")
    for row in reader:
        yield reader.line_num, row


def _json_lines(path: str | Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        row = parse_json(path, text, "one JSON object per line", number)
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}", "", row, "one JSON object per line")
        yield number, row


def _value(where: str, row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise InputError(where, name, Plain("nothing"), "a value")
    return value


def _tokens(where: str, name: str, value: Any) -> int:
    number = _number(value)
    if number is None or number != math.floor(number) or not 0 <= number <= MAX_TOKENS:
        raise InputError(where, name, value, f"a whole number from 0 to {MAX_TOKENS}")
    return int(number)


def _number(value: Any) -> float | None:
    """Return a finite number as a float, else None."""
    try:
        return real_number(float(value) if isinstance(value, str) else value)
    except ValueError:
        return None


def _from_timestamp(where: str, name: str, value: Any) -> int:
    allowed = "a time such as 2023-11-16 18:17:03.9799600"
    match = _TIMESTAMP.fullmatch(str(value).strip())
    if match is None:
        raise InputError(where, name, value, allowed)
    try:
        seconds = datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise InputError(where, name, value, allowed) from error
    return int(seconds) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _from_number(unit_ns: int) -> Callable[[str, str, Any], int]:
    def convert(where: str, name: str, value: Any) -> int:
        number = _number(value)
        limit = _MAX_SECONDS * 1e9 / unit_ns
        if number is None or not 0 <= number <= limit:
            raise InputError(where, name, value, f"a number from 0 to {limit:g}")
        return round(number * unit_ns)

    return convert


_COLUMNS: Final[dict[str, tuple[tuple[str, str, str], Callable[[str, str, Any], int]]]] = {
    "azure": (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _from_timestamp),
    "burstgpt": (("Timestamp", "Request tokens", "Response tokens"), _from_number(1_000_000_000)),
    "mooncake": (("timestamp", "input_length", "output_length"), _from_number(1_000_000)),
    "vidur": (("arrived_at", "num_prefill_tokens", "num_decode_tokens"), _from_number(1_000_000_000)),
    "llmservingsim": (("arrival_time", "input_toks", "output_toks"), _from_number(1_000_000_000)),
    "csv": (("t_s", "in_tokens", "out_tokens"), _from_number(1_000_000_000)),
}
"""Per format: names of the time, prompt and output columns, and what turns a time into ns."""
