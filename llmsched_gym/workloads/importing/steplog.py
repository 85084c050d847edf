"""Step logs of agents (ReAct, SWE-agent and their like) as recorded runs: CSV or JSON lines, by docs/importing.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.importing.ordering import Item, predecessors
from llmsched_gym.workloads.importing.recorded import LLM_NAME, Assumptions, Run, Step, in_order, whole
from llmsched_gym.workloads.importing.sources import Source
from llmsched_gym.workloads.importing.times import read_time

COLUMNS: Final = (
    "run",
    "step",
    "kind",
    "start",
    "end",
    "duration_s",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "tool",
    "model",
    "agent",
    "conversation",
    "after",
    "output_bytes",
)
"""Columns that are read; `run` and `kind` are needed."""

_Row = tuple[int, dict[str, Any]]


def read_runs(source: Source, assumed: Assumptions) -> list[Run]:
    """Make runs of the rows with one ``run`` each.

    Raises:
        InputError: The first row that is not as documented.
    """
    runs: dict[str, list[_Row]] = {}
    unread: set[str] = set()
    for line, given in source.rows:
        row = {name: value for name, value in given.items() if value not in (None, "")}
        runs.setdefault(_text(source.path, line, row, "run", needed=True), []).append((line, row))
        unread.update(row)
    for name in sorted(unread.difference(COLUMNS)):
        assumed.count(f"column that is not read: {name[:60]}")
    return [_run(source.path, name, rows, assumed) for name, rows in runs.items()]


def _run(path: str | Path, name: str, rows: list[_Row], assumed: Assumptions) -> Run:
    lines = [line for line, _ in rows]
    steps: list[Step] = []
    spans: list[tuple[int, int] | None] = []
    for line, row in rows:
        step, span = _step(path, line, row)
        steps.append(step)
        spans.append(span)
    place = f"line {lines[0]}, run {name}"
    if any("after" in row for _, row in rows):
        after = _stated(path, rows)
    elif all(span is not None for span in spans):
        items = [Item(*span, n) for n, span in enumerate(spans) if span is not None]
        root = Item(min(item.start_ns for item in items), max(item.end_ns for item in items), -1, items)
        after = predecessors(root, len(steps), path, place)
        assumed.count("steps that follow others by when they ran", sum(map(bool, after)))
    else:
        assumed.count(
            "runs in which not every step has a start and a length: their steps follow each other as they stand"
        )
        after = [[n - 1] if n else [] for n in range(len(steps))]
        for n, step in enumerate(steps):
            step.start_ns = n
    starts = [span[0] for span in spans if span is not None]
    agents = dict.fromkeys(agent for line, row in rows if (agent := _text(path, line, row, "agent")))
    application = next(iter(agents), Path(path).name.split(".")[0])
    for step, (line, row) in zip(steps, rows, strict=True):
        own = _text(path, line, row, "agent")
        if own and own != application:
            step.name = f"{own}.{step.name}"
        step.conversation = f"{own}/{_text(path, line, row, 'conversation')}/{step.model}"
    return Run(application, place, min(starts, default=None), in_order(steps, after, path, place))


def _step(path: str | Path, line: int, row: dict[str, Any]) -> tuple[Step, tuple[int, int] | None]:
    """Return a step, and when it started and ended if both are known."""
    where = f"line {line}, "
    kind = _text(path, line, row, "kind", needed=True)
    if kind not in ("llm", "tool"):
        raise InputError(path, f"{where}kind", kind, "llm or tool")
    times = {name: read_time(row[name], path, where + name) for name in ("start", "end", "duration_s") if name in row}
    start, end, length = (times.get(name) for name in ("start", "end", "duration_s"))
    if start is not None and end is not None:
        if end < start:
            raise InputError(path, f"{where}end", row["end"], f"a time that is not before start, {row['start']}")
        length = end - start if length is None else length
    elif end is not None and length is not None:
        start = max(end - length, 0)
    numbers = {
        name: whole(row[name], path, where + name)
        for name in ("input_tokens", "output_tokens", "cached_tokens", "output_bytes")
        if name in row
    }
    span = None if start is None or length is None else (start, start + length)
    size = numbers.pop("output_bytes", None)
    if kind == "tool":
        for name in numbers:
            raise InputError(path, where + name, row[name], "nothing: only llm steps have tokens")
        name = _text(path, line, row, "tool") or "tool"
        return Step(name, False, start or 0, duration_ns=length, output_bytes=size), span
    if "tool" in row:
        raise InputError(
            path, f"{where}tool", row["tool"], "nothing: the tool that a call asks for is a step of its own"
        )
    cached = numbers.pop("cached_tokens", 0)
    model = _text(path, line, row, "model")
    step = Step(LLM_NAME, True, start or 0, (), model, cached_tokens=cached, output_bytes=size)
    step.input_tokens, step.output_tokens = numbers.get("input_tokens"), numbers.get("output_tokens")
    return step, span


def _stated(path: str | Path, rows: list[_Row]) -> list[list[int]]:
    """Return what each step says that it follows."""
    known: dict[str, int] = {}
    for n, (line, row) in enumerate(rows):
        name = _text(path, line, row, "step") or str(n + 1)
        if known.setdefault(name, n) != n:
            raise InputError(path, f"line {line}, step", name, "steps of a run that differ")
    after: list[list[int]] = []
    for line, row in rows:
        given = row.get("after", [])
        names = given.split() if isinstance(given, str) else given
        if not isinstance(names, list) or any(isinstance(one, bool) or not isinstance(one, str | int) for one in names):
            raise InputError(path, f"line {line}, after", given, "steps of the run, with spaces between")
        for one in names:
            if str(one) not in known:
                raise InputError(path, f"line {line}, after", one, f"a step of the run: {suggest(str(one), known)}")
        after.append([known[str(one)] for one in names])
    return after


def _text(path: str | Path, line: int, row: dict[str, Any], name: str, *, needed: bool = False) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value):
        raise InputError(path, f"line {line}, {name}", Plain("nothing") if value is None else value, "text")
    return value
