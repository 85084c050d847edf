"""CSV files that users give: rows with their line numbers, numbers with the place to name when they are wrong."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import read_text


def read_rows(path: str | Path, what: str) -> tuple[list[str], list[tuple[str, dict[str, str | None]]]]:
    """Read a CSV file with a header.

    Args:
        path: The file.
        what: What it holds, for the error ("requests").

    Returns:
        The column names, and per row where it stands ("FILE, line 7") and its values by column.

    Raises:
        InputError: The file cannot be read as CSV or holds no rows.
    """
    text = read_text(path, f"a CSV file of {what}")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}", "", Plain(error), f"a CSV file of {what}") from None
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise InputError(path, "header", Plain(f"{twice!r} twice"), "every column once")
    longer = next((place for place, row in rows if None in row), None)
    if longer is not None:
        raise InputError(longer, "", Plain("more values"), f"{len(header)}, one per column of the header")
    if not rows:
        raise InputError(path, "", Plain("no rows"), f"a CSV file of {what} with a header and at least one row")
    return header, rows


def number(source: str, field: str, text: str | None, high: float) -> float:
    """Parse a number from 0 to `high`.

    Raises:
        InputError: It is something else.
    """
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= high:
        raise InputError(source, field, Plain("nothing") if text is None else text, f"a number from 0 to {high:.12g}")
    return value
