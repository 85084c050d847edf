"""Rows of traces as columns of numbers: many at a time where they are as they should be, one by one where not.

A trace of ten million rows is read in pieces. A piece is converted as a whole; if anything in it is odd, it is read row
by row, which finds the first row that cannot be used, or that nothing was wrong.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import chain, islice
from typing import Any, Final, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.numbers import real_number

MAX_TOKENS: Final = 2**31 - 1
_MAX_SECONDS: Final = 4e9  # since 1970, that is in 2096
_ROWS: Final = 200_000
_CHARACTERS: Final = 8_000_000
"""Sizes of pieces."""

_TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?")
_FORM: Final = np.frombuffer(b"0000-00-00 00:00:00", np.uint8)
_FIXED: Final = ord("0") != _FORM
_EPOCH: Final = date(1970, 1, 1).toordinal()

Ints = NDArray[np.int64]


class Clock(NamedTuple):
    """How a format writes times.

    Attributes:
        one: (where, column, value) → nanoseconds.
        many: Texts → nanoseconds, int64 (n,); None if something is odd.
    """

    one: Callable[[str, str, Any], int]
    many: Callable[[Sequence[str]], Ints | None]


class Columns(NamedTuple):
    """Columns of a format, and how it writes times.

    Attributes:
        time: Name of the time.
        prompt: Name of the prompt's tokens.
        output: Name of the output's.
        clock: How the time is written.
    """

    time: str
    prompt: str
    output: str
    clock: Clock

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the three columns."""
        return self.time, self.prompt, self.output


def csv_pieces(path: str, file: TextIO, columns: Columns) -> Iterator[Ints]:
    """Yield the rows of a CSV file in pieces: int64 (n, 3); time in ns, prompt and output tokens.

    Raises:
        InputError: A column is missing, or the first row that cannot be used.
    """
    reader = csv.reader(file)
    header = next(reader, [])
    for name in columns.names:
        if header.count(name) != 1:
            found = Plain("two such columns" if name in header else "no such column")
            raise InputError(f"{path}, line 1", name, found, f"a header with {', '.join(columns.names)}")
    places = tuple(map(header.index, columns.names))
    number = reader.line_num + 1
    while lines := file.readlines(_CHARACTERS):
        text = "".join(lines)
        if '"' in text:
            yield from _quoted(path, number, csv.reader(chain(lines, file)), places, columns)
            return
        piece = _together(lines, text, places, columns)
        if piece is None:
            rows = [line.rstrip("\r\n").split(",") if line.strip("\r\n") else [] for line in lines]
            piece = _one_by_one(path, number, rows, places, columns)
        yield piece
        number += len(lines)


def _quoted(
    path: str, number: int, reader: Iterator[list[str]], places: tuple[int, ...], columns: Columns
) -> Iterator[Ints]:
    """Yield pieces of rows whose values may be in quotes, and then hold commas."""
    while rows := [*islice(reader, _ROWS)]:
        yield _one_by_one(path, number, rows, places, columns)
        number += len(rows)


def _together(lines: list[str], text: str, places: tuple[int, ...], columns: Columns) -> Ints | None:
    """Convert lines as a whole; None if anything is odd. No list is made per row, which would take most of the time."""
    commas = {line.count(",") for line in lines}
    width = max(commas) + 1
    values = text.replace("\r\n", "\n").removesuffix("\n").replace("\n", ",").split(",")
    if len(commas) > 1 or width <= max(places) or len(values) != width * len(lines):
        return None
    times, prompts, outputs = (values[place::width] for place in places)
    found = (columns.clock.many(times), _tokens_of(prompts), _tokens_of(outputs))
    return None if any(one is None for one in found) else np.stack(found, axis=1)  # type: ignore[arg-type]


def _one_by_one(path: str, first: int, rows: list[list[str]], places: tuple[int, ...], columns: Columns) -> Ints:
    """Convert rows one after the other; those without anything are passed over."""
    found = []
    for number, row in enumerate(rows, start=first):
        if row:
            where = f"{path}, line {number}"
            values = {name: row[place] for name, place in zip(columns.names, places, strict=True) if place < len(row)}
            found.append(row_of(where, values, columns))
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def row_of(where: str, row: Mapping[str, Any], columns: Columns) -> tuple[int, int, int]:
    """Return the time in ns, and the prompt and output tokens of one row.

    Raises:
        InputError: A value is missing or not usable.
    """
    time, prompt, output = (_value(where, row, name) for name in columns.names)
    tokens = (_tokens(where, columns.prompt, prompt), _tokens(where, columns.output, output))
    return columns.clock.one(where, columns.time, time), *tokens


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


def _tokens_of(texts: Sequence[str]) -> Ints | None:
    numbers = _numbers(texts)
    if numbers is None or not ((numbers >= 0) & (numbers <= MAX_TOKENS) & (numbers == np.floor(numbers))).all():
        return None
    return numbers.astype(np.int64)


def _number(value: Any) -> float | None:
    """Return a finite number as a float, else None."""
    try:
        return real_number(float(value) if isinstance(value, str) else value)
    except ValueError:
        return None


def _numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return None


def numbers_of(unit_ns: int) -> Clock:
    """Return how times are read that are numbers of a unit, such as seconds, since any moment."""
    limit = _MAX_SECONDS * 1e9 / unit_ns

    def one(where: str, name: str, value: Any) -> int:
        number = _number(value)
        if number is None or not 0 <= number <= limit:
            raise InputError(where, name, value, f"a number from 0 to {limit:g}")
        return round(number * unit_ns)

    def many(texts: Sequence[str]) -> Ints | None:
        numbers = _numbers(texts)
        if numbers is None or not ((numbers >= 0) & (numbers <= limit)).all():
            return None
        return np.rint(numbers * unit_ns).astype(np.int64)

    return Clock(one, many)


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


def _from_timestamps(texts: Sequence[str]) -> Ints | None:
    """Convert texts such as ``2023-11-16 18:17:03.9799600``: the characters of all of them, place by place."""
    try:
        content = np.array(texts, dtype="S36")
    except UnicodeEncodeError:
        return None
    chars = content.view(np.uint8).reshape(len(texts), -1)
    digits = chars - np.uint8(ord("0"))  # others wrap to more than 9
    is_digit = digits <= 9
    head = np.where(_FIXED, chars[:, :19] == _FORM, is_digit[:, :19])
    head[:, 10] |= chars[:, 10] == ord("T")
    if not head.all():
        return None
    try:
        seconds = _days(digits) * 86_400
    except ValueError:  # a 13th month
        return None
    for place, unit, most in ((11, 3600, 23), (14, 60, 59), (17, 1, 59)):
        number = _two_digits(digits, place)
        if (number > most).any():
            return None
        seconds += number * unit
    point = chars[:, 19] == ord(".")
    within = point.copy()
    fraction, length = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for place in range(20, 29):
        within &= is_digit[:, place]
        fraction += np.where(within, digits[:, place], 0).astype(np.int64) * 10 ** (28 - place)
        length += within
    end = 19 + np.where(point, 1 + length, 0)
    if (point & (length == 0)).any() or not _ends_well(chars, end):
        return None
    return seconds * 1_000_000_000 + fraction


def _two_digits(digits: NDArray[np.uint8], place: int) -> Ints:
    return 10 * digits[:, place].astype(np.int64) + digits[:, place + 1]


def _days(digits: NDArray[np.uint8]) -> Ints:
    """Return the days since 1970 of the dates that texts begin with.

    Raises:
        ValueError: One of them is no date.
    """
    year = 100 * _two_digits(digits, 0) + _two_digits(digits, 2)
    keys, where = np.unique(year * 10_000 + 100 * _two_digits(digits, 5) + _two_digits(digits, 8), return_inverse=True)
    days = [date(key // 10_000, key // 100 % 100, key % 100).toordinal() - _EPOCH for key in keys.tolist()]
    return np.array(days, np.int64)[where]


def _ends_well(chars: NDArray[np.uint8], end: Ints) -> bool:
    """Tell whether every text ends at its place, but for a zone of no difference."""
    width = chars.shape[1]
    for place in np.unique(end).tolist():
        rest = np.ascontiguousarray(chars[end == place, place:]).view(f"S{width - place}")
        if not ((rest == b"") | (rest == b"Z") | (rest == b"+00:00")).all():
            return False
    return True


TIMESTAMPS: Final = Clock(_from_timestamp, _from_timestamps)
"""Times as Azure's traces have them: dates and hours of Greenwich."""
