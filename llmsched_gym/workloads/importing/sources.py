"""The files of recordings: plain or gzip, JSON, JSON lines or CSV, and which kind of recording they hold."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.files import decode_text, open_unpacked, parse_json

Format = Literal["otel", "wfcommons", "steps"]

_WHAT: Final = "an OpenTelemetry trace (OTLP/JSON), a WfCommons instance (JSON) or a step log (CSV, JSON lines)"
_MOST_BYTES: Final = 4 * 2**30


@dataclass(frozen=True)
class Source:
    """The content of a file.

    Attributes:
        path: The file.
        rows: Its JSON values, or its rows of CSV by column, each with the line that it begins in.
        format: What it holds.
        columns: Columns of a CSV file.
    """

    path: str | Path
    rows: list[tuple[int, dict[str, Any]]]
    format: Format
    columns: tuple[str, ...] = ()


def read_source(path: str | Path, format: Format | None) -> Source:
    """Read a file.

    Args:
        path: The file; gzip is told by its first bytes, CSV by the first line.
        format: What it holds; None: that is told by its content.

    Raises:
        InputError: Unreadable, no text in UTF-8, no JSON and no CSV, empty, or of another kind.
    """
    with open_unpacked(path, _WHAT) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise InputError(path, "", Plain("more than 4 GiB"), "a smaller file: give its parts")
    text = decode_text(path, content, _WHAT)
    if not text.strip():
        raise InputError(path, "", Plain("nothing"), _WHAT)
    if text.lstrip()[0] in "{[":
        rows = _json_rows(path, text)
        found = _kind(path, rows[0][1]) if format is None else format
        return Source(path, rows, found)
    if format in ("otel", "wfcommons"):
        parse_json(path, text, "JSON")  # says what is wrong
    return _csv(path, text)


def _json_rows(path: str | Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a JSON file: those of its lines if each line is one, else the file as a whole."""
    first, _, rest = text.lstrip().partition("\n")
    values: list[tuple[int, Any]]
    if rest.strip() and first.rstrip().endswith("}") and rest.lstrip().startswith("{"):
        lines = enumerate(text.split("\n"), start=1)
        values = [(n, parse_json(path, line, "one JSON object per line", n)) for n, line in lines if line.strip()]
    else:
        whole = parse_json(path, text, _WHAT)
        values = [(1, one) for one in whole] if isinstance(whole, list) else [(1, whole)]
    if not values:
        raise InputError(path, "", Plain("an empty list"), _WHAT)
    for line, value in values:
        if not isinstance(value, dict):
            raise InputError(path, f"line {line}", value, "JSON objects")
    return values


def _kind(path: str | Path, value: dict[str, Any]) -> Format:
    if "resourceSpans" in value:
        return "otel"
    if "workflow" in value:
        return "wfcommons"
    if "run" in value:
        return "steps"
    for name, what in (("resourceMetrics", "metrics"), ("resourceLogs", "logs")):
        if name in value:
            raise InputError(path, name, Plain(what), "traces: resourceSpans")
    known = "resourceSpans (OpenTelemetry), workflow (WfCommons) or run (step log) in its first object"
    raise InputError(path, "", Plain(f"an object with {', '.join(list(value)[:8]) or 'nothing'}"), known)


def _csv(path: str | Path, text: str) -> Source:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = tuple(name.strip() for name in reader.fieldnames or ())
    if "run" not in columns:
        found = Plain(f"a first line of {', '.join(columns[:8])}"[:200])
        raise InputError(path, "line 1", found, f"{_WHAT}; a step log names its columns, run and kind among them")
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(path, "line 1", name, "column names that differ")
    reader.fieldnames = list(columns)
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        for row in reader:
            if None in row:
                raise InputError(path, f"line {reader.line_num}", Plain("more values"), f"{len(columns)} values")
            rows.append((reader.line_num, {name: value for name, value in row.items() if value not in ("", None)}))
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num}", Plain(error), "a CSV file") from error
    if not rows:
        raise InputError(path, "", Plain("no row"), "at least one step")
    return Source(path, rows, "steps", columns)


def check_format(name: str | None) -> Format | None:
    """Return a format by its name.

    Raises:
        InputError: There is no such format.
    """
    known: tuple[Format, ...] = ("otel", "wfcommons", "steps")
    for one in known:
        if name == one:
            return one
    if name is None:
        return None
    raise InputError("--format", "", name, suggest(name, known))
