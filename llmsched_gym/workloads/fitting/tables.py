"""Tools for turning measured rows into facts tables: reading, quantile tables, rank statistics, provenance.

Nothing here runs when jobs are drawn. Numbers are rounded to six significant digits, so that fitting the same data
again writes the same file on any machine.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.facts import Quantiles
from llmsched_gym.workloads.files import read_json, read_text

Floats = NDArray[np.float64]
Facts = dict[str, Any]

LEVELS = tuple(round(0.025 * i, 3) for i in range(41))
"""Levels of a quantile table: 0, 0.025, ..., 1."""


class Row(dict[str, str]):
    """A row of a table, which knows where it stands."""

    def __init__(self, place: str, values: Mapping[str, str | None]) -> None:
        super().__init__({name: value for name, value in values.items() if name is not None and value is not None})
        self.place = place

    def __missing__(self, name: str) -> NoReturn:
        """Name the column that is asked for, and not there.

        Raises:
            InputError: Always.
        """
        raise InputError(self.place, name, Plain("nothing"), "a value in this column")

    def number(self, name: str) -> float:
        """Return the number in a column.

        Raises:
            InputError: There is none.
        """
        try:
            return float(self[name])
        except InputError:
            raise
        except ValueError:
            raise InputError(self.place, name, self[name], "a number") from None


def read_table(data_dir: Path, name: str) -> list[Row]:
    """Rows of ``data_dir/name`` (CSV with a header).

    Raises:
        InputError: The file cannot be read or has no rows.
    """
    path = data_dir / name
    reader = csv.DictReader(io.StringIO(read_text(path, "a CSV file of the measured data"), newline=""))
    try:
        rows = [Row(f"{path}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(path, "", Plain(error), "a CSV file of the measured data") from None
    if not rows:
        raise InputError(path, "", Plain("no rows"), "at least one row")
    return rows


def column(rows: Iterable[Row], name: str) -> Floats:
    """One numeric column as floats.

    Raises:
        InputError: A row has no number there.
    """
    return np.array([row.number(name) for row in rows])


def read_summary(data_dir: Path, name: str) -> dict[str, Any]:
    """JSON document ``data_dir/name``.

    Raises:
        InputError: The file cannot be read, or is no JSON object.
    """
    path = data_dir / name
    content = read_json(path, "a JSON file of the measured data")
    if not isinstance(content, dict):
        raise InputError(path, "", content, "a JSON object of the measured data")
    return content


_DEEP: Final = re.compile(r"(?<= )(?!github\.com/)([^\s/]+/)[^\s/]+/[^\s;]*")
"""A path of three parts or more behind the name of its repository."""


def provenance(data_dir: Path, name: str) -> Facts:
    """Source, commit and licence of a data file, from its ``.meta.json`` sidecar or its ``_meta`` member.

    Of a deep path within a repository the first folder is named.
    """
    if name.endswith(".json"):
        meta = read_summary(data_dir, name)["_meta"]
    else:
        meta = read_summary(data_dir, f"{name}.meta.json")
    origins = meta.get("sources", [meta])
    return {
        key: "; ".join(dict.fromkeys(_DEEP.sub(r"\1", str(origin[key])) for origin in origins if key in origin))
        for key in ("source", "commit", "licence")
    }


def assumed(value: Any, reason: str) -> Facts:
    """Facts entry for a number that no data gives."""
    return {"value": value, "assumed": True, "reason": reason}


def significant(values: ArrayLike) -> Any:
    """Round to six significant digits; nested lists of plain numbers."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim:
        return [significant(value) for value in array]
    number = float(f"{float(array):.6g}")
    return int(number) if number.is_integer() else number


def quantile_table(values: ArrayLike, origin: Mapping[str, Any], levels: Sequence[float] = LEVELS) -> Facts:
    """Quantile table of measured values, with its distance from them.

    Args:
        values: Measured values.
        origin: Provenance.
        levels: Probabilities from 0 to 1.

    Returns:
        A facts entry that ``Quantiles.of`` reads; ``fit`` holds n and the KS distance of whole numbers drawn from it.
    """
    rows = np.ravel(np.asarray(values, dtype=np.float64))
    table = significant(np.quantile(rows, levels))
    entry: Facts = {"levels": list(levels), "values": table, **origin}
    drawn = Quantiles.of(entry)((np.arange(8192) + 0.5) / 8192)
    drawn = np.rint(drawn) if np.array_equal(rows, np.rint(rows)) else drawn
    return entry | {"fit": {"n": len(rows), "ks": significant(ks_distance(rows, drawn))}}


def ks_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sample Kolmogorov-Smirnov distance."""
    a, b = np.sort(np.ravel(first)), np.sort(np.ravel(second))
    points = np.concatenate([a, b])
    below = np.searchsorted(a, points, side="right") / len(a) - np.searchsorted(b, points, side="right") / len(b)
    return float(np.max(np.abs(below)))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation, ties at their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def spread_spearman(whole: ArrayLike, other: ArrayLike) -> float:
    """Rank correlation of `other` with few distinct whole numbers, as if each were spread over its share of the ranks.

    Spreading takes correlation away, by the root of one minus the sum of cubed shares; the result makes up for it.
    """
    share = np.unique(np.ravel(whole), return_counts=True)[1] / np.size(whole)
    return spearman(whole, other) / float(np.sqrt(1.0 - np.sum(share**3)))


def score_correlation(rank_correlation: float) -> float:
    """Correlation of normal scores that a Gaussian copula needs for a given Spearman correlation."""
    return float(2.0 * np.sin(np.pi / 6.0 * rank_correlation))


def lagged_pairs(series: Iterable[Sequence[float]], lag: int) -> Floats:
    """(pairs, 2) values that are `lag` apart in the same job, over all jobs."""
    pairs = [(values[i], values[i + lag]) for values in series for i in range(len(values) - lag)]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _ranks(values: ArrayLike) -> Floats:
    _, inverse, counts = np.unique(np.ravel(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
