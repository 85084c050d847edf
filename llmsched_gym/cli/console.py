"""Output for people: tables on standard output; notes and progress on standard error.

Names that come from files are shown with their control characters escaped: they could move the cursor, change colours
or pretend to be another line. So what is printed in one call is one line, or one table.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from textwrap import wrap
from types import TracebackType
from typing import Any, Final, Self

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from llmsched_gym.errors import RunError, escaped

_WIDTH: Final = 160
"""Columns of output that does not go to a terminal."""

_FOLDED: Final = 32
"""Width that text in the last column of a table is not folded below."""

_GAP: Final = 2
"""Spaces between two columns of a table."""


def out() -> Console:
    """Return the console on standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def err() -> Console:
    """Return the console on standard error."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH, highlight=False)


@contextmanager
def onto_standard_output() -> Iterator[None]:
    """Tell in one line that what is printed cannot be written.

    Raises:
        BrokenPipeError: Its reader is gone.
        RunError: It cannot be written for another reason.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"standard output: {error.strerror or error}") from None


def note(text: str) -> None:
    """Say something in one line on standard error, if it can be written: nothing depends on it."""
    with suppress(OSError):
        err().print(escaped(text), markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Say something in one line on standard output."""
    with onto_standard_output():
        out().print(escaped(text), markup=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; numbers that are not finite become null."""
    with onto_standard_output():
        print(json.dumps(_finite(content), indent=1, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns of numbers are right-aligned.

    No value is ever cut. In a table that is wider than the terminal headers are broken into lines, and text in the last
    column is folded; columns that still find no place follow below, beside the first column again.
    """
    columns = [escaped(name) for name in columns]
    content = [[escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    is_text = [any(isinstance(row[i], str) for row in content) for i in range(len(columns))]
    cells = [[cell if isinstance(cell, str) else _number(cell) for cell in row] for row in content]
    widths = [max((cell_len(row[i]) for row in cells), default=0) for i in range(len(columns))]
    headers, least = list(columns), [max(width, cell_len(name)) for width, name in zip(widths, columns, strict=True)]
    console = out()
    if _spaced(least) > console.width:
        least = [max(width, *map(cell_len, name.split(" "))) for width, name in zip(widths, columns, strict=True)]
        headers = ["\n".join(wrap(name, max(width, 1))) for name, width in zip(columns, least, strict=True)]
        if is_text[-1]:
            least[-1] = min(least[-1], _FOLDED)
    for number, block in enumerate(_blocks(least, console.width)):
        heading = None if number else escaped(title) or None
        table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for i in block:
            folds = is_text[i] and i == len(columns) - 1
            table.add_column(
                Text(headers[i]), justify="left" if is_text[i] else "right", no_wrap=not folds, overflow="fold"
            )
        for row in cells:
            table.add_row(*(Text(row[i]) for i in block))
        # A terminal too narrow for two columns breaks the lines by itself; rich would cut them.
        console.width = max(console.width, _spaced([least[i] for i in block]))
        with onto_standard_output():
            if number:
                console.print()
            console.print(table)


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """Share columns out among tables that are no wider than `room` if possible; each begins with the first column."""
    blocks = [[0]]
    for i in range(1, len(widths)):
        if len(blocks[-1]) > 1 and _spaced([widths[j] for j in (*blocks[-1], i)]) > room:
            blocks.append([0])
        blocks[-1].append(i)
    return blocks


def _spaced(widths: Sequence[int]) -> int:
    """Return the width of a table."""
    return sum(widths) + _GAP * (len(widths) - 1)


class EpisodeProgress:
    """Progress of a comparison: a bar on a terminal, a line per result elsewhere.

    Args:
        what: What is counted.
        within: What the results are part of, if several of these follow each other; every line begins with it.
    """

    def __init__(self, what: str = "episodes", within: str = "") -> None:
        self._within = f"{within}: " if within else ""
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
        with suppress(OSError):
            self._bar.console.print(escaped(f"{self._within}{text}"), markup=False, soft_wrap=True)

    def begin(self, total: int, done: int) -> None:
        """Begin with `done` of `total` results present."""
        self._total, self._done = total, done
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"{self._within}{self._what}", total=total, completed=done)
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
