"""Tables of measured iteration times, and the time of any iteration by interpolation in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.csv_rows import number, read_rows
from llmsched_gym.errors import InputError, Plain

Floats = NDArray[np.float64]

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "n_decode": ("n_decode", "num_decode", "decode_batch_size"),
    "prefill_tokens": ("prefill_tokens", "n_prefill_tokens", "num_prefill_tokens"),
    "prefill_context": ("prefill_context", "prefill_avg_context"),
    "decode_avg_context": ("decode_avg_context", "avg_decode_context", "decode_context"),
    "total_decode_context": ("total_decode_context", "sum_decode_context"),
    "iter_time_ms": ("iter_time_ms", "iteration_time_ms", "duration_ms", "time_ms"),
}
_NEEDED: Final = ("n_decode", "prefill_tokens", "iter_time_ms")
_NESTING: Final = (1, 3, 0, 2)
"""Columns of a point from the outermost level of interpolation: prefill tokens, its context, batch, context."""

_MOST: Final = 1e12
_LEAST_MS: Final = 1e-6

_TOLERANCE: Final = 0.95
"""A row below this share of a row with less work is not a measurement but a clamp."""


def design(points: Floats) -> Floats:
    """What the coefficients a, b, c, d multiply in each iteration: float64 (n, 4)."""
    return np.stack([np.ones(len(points)), points[:, 0], points[:, 1], points[:, 0] * points[:, 2]], axis=1)


def design_with_attention(points: Floats) -> Floats:
    """What a, b, c, d and e multiply, float64 (n, 5); prompts of one iteration count as a single one."""
    prefill, before = points[:, 1], points[:, 3]
    pairs = prefill * before + prefill * np.maximum(prefill - 1.0, 0.0) / 2.0
    return np.column_stack([design(points), pairs])


def least_squares(factors: Floats, times_ms: Floats, weights: Floats) -> Floats:
    """Non-negative coefficients with the least weighted sum of squared relative errors.

    Args:
        factors: float64 (n, k), see `design`.
        times_ms: float64 (n,), all > 0.
        weights: float64 (n,).

    Returns:
        float64 (k,): a, b, c, d and perhaps e in ms.
    """
    scale = np.sqrt(weights)
    relative = factors / times_ms[:, None] * scale[:, None]
    best, least = np.zeros(factors.shape[1]), np.inf
    # Few coefficients: the best of all subsets whose unconstrained optimum is feasible is the constrained optimum.
    for size in range(1, factors.shape[1] + 1):
        for chosen in itertools.combinations(range(factors.shape[1]), size):
            columns = list(chosen)
            solution = np.linalg.lstsq(relative[:, columns], scale, rcond=None)[0]
            loss = float(np.sum((relative[:, columns] @ solution - scale) ** 2))
            if (solution >= 0.0).all() and loss < least:
                best, least = np.zeros(factors.shape[1]), loss
                best[columns] = solution
    return best


class IterationTable:
    """Times of iterations, by what the iteration computes.

    Attributes:
        points: float64 (n, 4): decoding sequences, prefill tokens, mean decode context, prefill context.
        times_ms: float64 (n,).
        dropped: Rows left out because less work takes longer in the same table (clamped or failed measurements).

    Args:
        points: Rows as in the attribute, repeated ones allowed: they count with their median.
        times_ms: float64 (n,), all > 0.
        noisy: Whether times scatter, so that one that is too long says nothing against those of more work: no row is
            then left out.
    """

    def __init__(self, points: Floats, times_ms: Floats, *, noisy: bool = False) -> None:
        points, inverse = np.unique(points, axis=0, return_inverse=True)
        times_ms = np.array([np.median(times_ms[inverse.ravel() == index]) for index in range(len(points))])
        clamped = np.zeros(len(points), np.bool_) if noisy else _clamped(points, times_ms)
        self.dropped = int(clamped.sum())
        self.points = points[~clamped]
        self.times_ms = times_ms[~clamped]
        self._trend = least_squares(design(self.points), self.times_ms, np.ones(len(self.points)))
        self._ratios = self.times_ms / self._trend_at(self.points)

    def _trend_at(self, points: Floats) -> Floats:
        return np.maximum(design(points) @ self._trend, _LEAST_MS)

    def at(self, points: Floats) -> Floats:
        """Times in ms of iterations.

        A four-coefficient fit to the table gives the trend. The measured times' ratio to it is interpolated linearly in
        one column after the other, between the levels that the table has there, and kept beyond the first and last
        level: so gaps in the grid and iterations outside it get plausible times too.

        Args:
            points: float64 (n, 4), columns as in `IterationTable.points`.
        """
        return self._trend_at(points) * _interpolate(self.points, self._ratios, points, _NESTING)

    def distance(self, points: Floats) -> Floats:
        """How far the rows are that the time of each point is taken from.

        Args:
            points: float64 (n, 4), columns as in `IterationTable.points`.

        Returns:
            float64 (n,), >= 1: factor between the trend's times of the point and of the row that differs most.
        """
        known, wanted = np.log(self._trend_at(self.points)), np.log(self._trend_at(points))
        return np.exp(_farthest(self.points, known, points, wanted, _NESTING))

    def covers(self, points: Floats) -> NDArray[np.bool_]:
        """Which of `points` lie within the table's range, in the columns in which it has more than one level."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return np.all(((points >= low) & (points <= high)) | (low == high), axis=1)


def _clamped(points: Floats, times_ms: Floats) -> NDArray[np.bool_]:
    """Rows that are faster than another row that does less of one thing and the same of all else."""
    clamped = np.zeros(len(points), bool)
    for column in range(points.shape[1]):
        others = [index for index in range(points.shape[1]) if index != column]
        groups = np.unique(points[:, others], axis=0, return_inverse=True)[1].ravel()
        order = np.lexsort((points[:, column], groups))
        slowest, group = 0.0, -1
        for row in order:
            if groups[row] != group:
                slowest, group = 0.0, groups[row]
            if times_ms[row] < _TOLERANCE * slowest:
                clamped[row] = True
            slowest = max(slowest, times_ms[row])
    # A clamp spares the least contexts of a batch; kept alone, they would stand for all of its contexts.
    groups = np.unique(points[:, [0, 1, 3]], axis=0, return_inverse=True)[1].ravel()
    share = np.bincount(groups, clamped) / np.bincount(groups)
    return clamped | ((share[groups] > 0.5) & (points[:, 0] > 0))


def _interpolate(known: Floats, values: Floats, wanted: Floats, columns: tuple[int, ...]) -> Floats:
    if not columns:
        return np.full(len(wanted), values.mean())
    result = np.zeros(len(wanted))
    for here, rows, weight in _neighbours(known[:, columns[0]], wanted[:, columns[0]]):
        result[rows] += weight * _interpolate(known[here], values[here], wanted[rows], columns[1:])
    return result


def _farthest(known: Floats, sizes: Floats, wanted: Floats, target: Floats, columns: tuple[int, ...]) -> Floats:
    """Largest |size - target| of the rows that `_interpolate` takes the value of each point from."""
    if not columns:
        return np.abs(sizes.mean() - target)
    result = np.zeros(len(wanted))
    for here, rows, _ in _neighbours(known[:, columns[0]], wanted[:, columns[0]]):
        inner = _farthest(known[here], sizes[here], wanted[rows], target[rows], columns[1:])
        result[rows] = np.maximum(result[rows], inner)
    return result


def _neighbours(known: Floats, wanted: Floats) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]]:
    """Yield (rows at a level, points whose value is partly that of the level, its weights), for all levels used."""
    levels = np.unique(known)
    lower = np.clip(np.searchsorted(levels, wanted, side="right") - 1, 0, max(len(levels) - 2, 0))
    upper = np.minimum(lower + 1, len(levels) - 1)
    share = np.clip((wanted - levels[lower]) / np.maximum(levels[upper] - levels[lower], 1e-300), 0.0, 1.0)
    if len(levels) == 1:
        share[:] = 0.0
    for chosen, weight in ((lower, 1.0 - share), (upper, share)):
        for level in np.unique(chosen):
            rows = (chosen == level) & (weight != 0.0)
            if rows.any():
                yield known == levels[level], rows, weight[rows]


def read_table(path: str | Path) -> IterationTable:
    """Read a table of iteration times from CSV.

    Args:
        path: File with columns `n_decode`, `prefill_tokens`, `iter_time_ms`, `decode_avg_context` or
            `total_decode_context`, and optionally `prefill_context`; others are ignored; rows in any order.

    Raises:
        InputError: The file cannot be read, a column is missing, or a value is not usable (file, line, column).
    """
    header, records = read_rows(path, "iteration times")
    found = {key: next((name for name in names if name in header), "") for key, names in _NAMES.items()}
    for key in _NEEDED:
        if not found[key]:
            raise InputError(path, "header", ",".join(header), f"a column {' or '.join(_NAMES[key])}")
    if not found["decode_avg_context"] and not found["total_decode_context"]:
        raise InputError(path, "header", ",".join(header), "a column decode_avg_context or total_decode_context")
    points: list[tuple[float, float, float, float]] = []
    times: list[float] = []
    for source, row in records:
        value = {key: number(source, name, row[name], _MOST) for key, name in found.items() if name}
        n_decode, prefill = value["n_decode"], value["prefill_tokens"]
        if value["iter_time_ms"] <= 0.0:
            raise InputError(source, found["iter_time_ms"], value["iter_time_ms"], "a time > 0")
        if n_decode + prefill <= 0.0:
            continue  # an iteration that computes nothing is never visited
        context = value.get("decode_avg_context")
        if context is None:
            context = value["total_decode_context"] / n_decode if n_decode else 0.0
        prefill_context = value.get("prefill_context", 0.0) if prefill else 0.0
        points.append((n_decode, prefill, context if n_decode else 0.0, prefill_context))
        times.append(value["iter_time_ms"])
    if not points:
        raise InputError(path, "", Plain("no rows"), "rows with a decoding sequence or prompt tokens")
    return IterationTable(np.array(points), np.array(times))
