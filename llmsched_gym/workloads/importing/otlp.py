"""Spans of OpenTelemetry traces in OTLP/JSON, as the collector's file exporter writes them.

Encoding: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding (64-bit integers are text, unknown fields
are ignored) and https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/ (a JSON object per line).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.importing.recorded import whole
from llmsched_gym.workloads.importing.sources import Source

Attributes = dict[str, Any]

_LATEST_NS: Final = 2**62
_ERROR: Final = (2, "STATUS_CODE_ERROR")


@dataclass(eq=False, slots=True)
class Span:
    """A span.

    Attributes:
        trace: Trace that it belongs to.
        id: Unique in the trace.
        parent: Span that it is inside of; empty: none.
        name: Its name.
        start_ns: When it started, in ns since 1970.
        end_ns: When it ended; 0 if that was not recorded.
        attributes: Scalars, and lists of them.
        resource: Attributes of what recorded it.
        failed: Whether its status is an error.
        source: Its file.
    """

    trace: str
    id: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    resource: Attributes
    failed: bool
    source: object

    @property
    def place(self) -> str:
        """Where the span stands, for messages."""
        return f"trace {self.trace}, span {self.id}"


def read_spans(source: Source) -> list[Span]:
    """Return all spans of a file.

    Raises:
        InputError: The first thing that is not as OTLP/JSON has it.
    """
    spans: list[Span] = []
    for line, document in source.rows:
        where = f"line {line}, " if len(source.rows) > 1 else ""
        if "resourceSpans" not in document:
            found = Plain(f"an object with {', '.join(list(document)[:5]) or 'nothing'}")
            raise InputError(source.path, where.removesuffix(", "), found, "resourceSpans")
        for r, block in _objects(source.path, document, "resourceSpans", where):
            inside = f"{where}resourceSpans.{r}."
            resource = block.get("resource") or {}
            if not isinstance(resource, dict):
                raise InputError(source.path, f"{inside}resource", resource, "a mapping")
            shared = _attributes(source.path, resource, f"{inside}resource.")
            for s, scope in _objects(source.path, block, "scopeSpans", inside):
                here = f"{inside}scopeSpans.{s}."
                spans.extend(
                    _span(source.path, one, f"{here}spans.{n}", shared)
                    for n, one in _objects(source.path, scope, "spans", here)
                )
    return spans


def _objects(path: object, holder: dict[str, Any], name: str, place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    listed = holder.get(name) or []
    if not isinstance(listed, list):
        raise InputError(path, place + name, listed, "a list")
    for n, one in enumerate(listed):
        if not isinstance(one, dict):
            raise InputError(path, f"{place}{name}.{n}", one, "a mapping")
        yield n, one


def _span(path: object, given: dict[str, Any], place: str, resource: Attributes) -> Span:
    ids = [given.get(name) or "" for name in ("traceId", "spanId", "parentSpanId", "name")]
    for name, value in zip(("traceId", "spanId", "parentSpanId", "name"), ids, strict=True):
        if not isinstance(value, str):
            raise InputError(path, f"{place}.{name}", value, "text")
        if not value and name in ("traceId", "spanId"):
            raise InputError(path, f"{place}.{name}", Plain("nothing"), "an identifier")
    trace, span, parent, name = ids
    where = f"trace {trace}, span {span}"
    times = []
    for key in ("startTimeUnixNano", "endTimeUnixNano"):
        time = whole(given.get(key) or 0, path, f"{where}: {key}")
        if time > _LATEST_NS or (not time and key == "startTimeUnixNano"):
            shown = time or Plain("nothing")
            raise InputError(path, f"{where}: {key}", shown, "nanoseconds since 1970, 1 to 2^62")
        times.append(time)
    status = given.get("status") or {}
    failed = isinstance(status, dict) and status.get("code") in _ERROR
    attributes = _attributes(path, given, f"{where}: ")
    failed = failed or "error.type" in attributes
    start, end = times
    return Span(trace, span, parent.strip("0") and parent, name, start, end, attributes, resource, failed, path)


def _attributes(path: object, holder: dict[str, Any], place: str) -> Attributes:
    found: Attributes = {}
    for n, one in _objects(path, holder, "attributes", place):
        key = one.get("key")
        if not isinstance(key, str):
            raise InputError(path, f"{place}attributes.{n}.key", key, "text")
        found[key] = _value(one.get("value"))
    return found


def _value(given: Any) -> Any:
    """Return the value of an attribute: a scalar, or a list of scalars; None for everything else."""
    if not isinstance(given, dict):
        return None
    for key in ("stringValue", "boolValue", "doubleValue"):
        if key in given:
            return given[key] if isinstance(given[key], str | bool | int | float) else None
    if "intValue" in given:
        value = given["intValue"]
        text = value.strip() if isinstance(value, str) else ""
        whole_text = text.removeprefix("-").isdecimal() and len(text) < 25
        return int(text) if whole_text else value if isinstance(value, str | int | float) else None
    listed = given.get("arrayValue")
    values = listed.get("values", []) if isinstance(listed, dict) else None
    if isinstance(values, list):
        return [_value(one) for one in values if isinstance(one, dict) and "arrayValue" not in one]
    return None
