"""Output for people: tables on standard output; notes and progress on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

_WIDTH: Final = 160
"""Columns of output that does not go to a terminal."""

_WIDE: Final = 120
"""Columns from which a terminal shows all of a table."""


def out() -> Console:
    """Return the console on standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def err() -> Console:
    """Return the console on standard error."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH, highlight=False)


def note(text: str) -> None:
    """Say something on standard error."""
    err().print(text, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Say something on standard output."""
    out().print(text, markup=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; numbers that are not finite become null."""
    print(json.dumps(_finite(content), indent=1, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], optional: Sequence[str] = ()
) -> None:
    """Print a table; columns of numbers are right-aligned, and `optional` ones are left out on a narrow terminal."""
    console = out()
    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    content = [list(row) for row in rows]
    shown = [i for i, column in enumerate(columns) if column not in optional or console.width >= _WIDE]
    for index in shown:
        text = any(isinstance(row[index], str) for row in content)
        table.add_column(columns[index], justify="left" if text else "right", no_wrap=index == 0)
    for row in content:
        table.add_row(*(cell if isinstance(cell := row[i], str) else _number(cell) for i in shown))
    console.print(table)


class EpisodeProgress:
    """Progress of a comparison: a bar on a terminal, a line per result elsewhere.

    Args:
        what: What is counted.
    """

    def __init__(self, what: str = "episodes") -> None:
        self._what = what
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err(),
            transient=True,
        )
        self._terminal = sys.stderr.isatty()
        self._task: TaskID | None = None
        self._done = self._total = 0

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._terminal:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say something once."""
        self._bar.console.print(text, markup=False, soft_wrap=True)

    def begin(self, total: int, done: int) -> None:
        """Begin with `done` of `total` results present."""
        self._total, self._done = total, done
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._what, total=total, completed=done)
        if done:
            self.note(f"{done} of {total} results were there already")

    def advance(self, text: str) -> None:
        """One more result, described by `text`."""
        self._done += 1
        if self._terminal and self._task is not None:
            self._bar.advance(self._task)
        else:
            self.note(f"[{self._done}/{self._total}] {text}")


def _number(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
