"""Tables in Markdown: written as text, and put into pages between the marks that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from llmsched_gym.evaluation.statistics import Interval

_PLACE: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where a table goes in a page."""


def fill(page: str, makers: Mapping[str, Callable[[], Iterable[str]]]) -> str:
    """Return a page with tables made again; those that others make stay as they are.

    Args:
        page: Markdown with ``<!-- table: NAME -->`` and ``<!-- end -->`` around each table.
        makers: What makes the lines of the table of a name.
    """

    def made(found: re.Match[str]) -> str:
        lines = makers.get(found[2])
        return found[0] if lines is None else found[1] + "\n".join(lines()) + "\n" + found[3]

    return _PLACE.sub(made, page)


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [_row(head), _row(["---"] * len(head)), *map(_row, body)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def interval(found: Interval, digits: int = 1) -> str:
    """Return ``mid % [low, high]``."""
    if found.low is None or found.high is None:
        return f"{found.mid:.{digits}f} %"
    return f"{found.mid:.{digits}f} % [{found.low:.{digits}f}, {found.high:.{digits}f}]"
