"""Fit the coefficients of a latency profile to a table of iteration times, where a scheduler visits it.

A table covers batches and contexts evenly; a serving engine does not visit them evenly, and a fit to the whole grid is
several per cent off where the time is spent. So the log's requests are served with the coefficients at hand, the
visited iterations take their times from the table by interpolation, the coefficients are fitted to those, and so on
until they stay. Of the log only arrivals and token counts are used, never a measured time of service.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmsched_gym.backends.replay import RequestLog, read_requests, serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.latency_table import (
    Floats,
    IterationTable,
    design,
    design_with_attention,
    least_squares,
    read_table,
)
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError, Plain

_ROUNDS: Final = 30
_STABLE: Final = 3e-4
"""Largest relative change of a visited iteration's time at which the coefficients count as settled."""

_FAR: Final = 2.0
"""An iteration whose time is taken from a row that takes this many times as long, or as short, is guessed."""

_MOST_DISTANT: Final = 0.1
"""Share of guessed iterations from which a fit is doubtful. The tables behind the shipped profiles stay far below; a
random tenth of such a table has 20 to 50 %, and fits to it were 3 to 17 % off where the whole table was 2 % off."""

_LEAST_MS: Final = 1e-6


def visited(log: RequestLog, config: EngineConfig) -> tuple[Floats, Floats]:
    """Iterations that an engine runs for these requests.

    Returns:
        Points as in `IterationTable.points`, float64 (n, 4): a segment counts with the context of its middle; and the
        number of iterations of each, float64 (n,).
    """
    _, segments = serve(log, config)
    count = segments["iterations"].astype(float)
    n_decode = segments["n_decode"].astype(float)
    context = segments["decode_context"] + n_decode * (count - 1.0) / 2.0
    prefill = segments["prefill_tokens"].astype(float)
    attended = segments["prefill_context"].astype(float)
    points = np.stack(
        [
            n_decode,
            prefill,
            context / np.maximum(n_decode, 1.0),
            attended / np.maximum(prefill, 1.0),
        ],
        axis=1,
    )
    return points, count


def fit_to_table(
    table: IterationTable,
    log: RequestLog,
    config: EngineConfig,
    name: str,
    provenance: dict[str, Any] | None = None,
    *,
    attention: bool = False,
) -> LatencyProfile:
    """Fit a profile to a table on the iterations that these requests visit.

    Args:
        table: Measured iteration times.
        log: The requests.
        config: The engine that serves them; its profile does not matter.
        name: Name of the profile.
        provenance: Goes into the profile, beside what the fit finds out (`fit`): errors in per cent of the iteration
            time, the range of the visited iterations, and warnings.
        attention: Whether to fit e too: engines on CPUs need it.

    Returns:
        The profile.
    """
    factors = design_with_attention if attention else design
    # Start on the table's rows within the engine's limits, so that the first replay is roughly right.
    within = (table.points[:, 0] <= config.max_num_seqs) & (table.points[:, 1] <= config.max_num_batched_tokens)
    rows = table.points[within] if within.any() else table.points
    profile = _profile(name, least_squares(factors(rows), table.at(rows), np.ones(len(rows))))
    points, count = visited(log, replace(config, profile=profile))
    seen: list[tuple[Floats, Floats]] = []
    rounds, settled = 0, False
    while not settled and rounds < _ROUNDS:
        rounds += 1
        # The later half of the replays together: coefficients that would alternate between sets of iterations settle.
        seen = [*seen[-(rounds // 2) :], (points, count)] if rounds > 1 else [(points, count)]
        pooled = np.concatenate([part for part, _ in seen])
        weights = np.concatenate([part for _, part in seen])
        previous = profile
        profile = _profile(name, least_squares(factors(pooled), np.maximum(table.at(pooled), _LEAST_MS), weights))
        points, count = visited(log, replace(config, profile=profile))
        before, now = (_times_ms(each, points) for each in (previous, profile))
        settled = rounds > 1 and bool(np.max(np.abs(before / now - 1.0)) < _STABLE)
    report = _report(table, points, count, profile, rounds, settled)
    return replace(profile, provenance={**(provenance or {}), "fit": report})


def _profile(name: str, coefficients_ms: Floats) -> LatencyProfile:
    a, *others = (float(value) for value in coefficients_ms)
    return LatencyProfile.from_ms(name, (max(a, _LEAST_MS), *others))


def _times_ms(profile: LatencyProfile, points: Floats) -> Floats:
    return design_with_attention(points) @ np.array([*profile.coefficients_ms, profile.attention_ms])


def _report(
    table: IterationTable, points: Floats, count: Floats, profile: LatencyProfile, rounds: int, settled: bool
) -> dict[str, Any]:
    measured = np.maximum(table.at(points), _LEAST_MS)
    error = _times_ms(profile, points) / measured - 1.0
    share = count / count.sum()
    outside = float(share[~table.covers(points)].sum())
    distant = float(share[table.distance(points) > _FAR].sum())
    warnings = _warnings(profile, points, float(share @ np.abs(error)), outside, distant)
    if not settled:
        warnings.append(f"coefficients still changed after {rounds} rounds")
    return {
        "error_mean_pct": round(100.0 * float(share @ np.abs(error)), 2),
        "error_bias_pct": round(100.0 * float(share @ error), 2),
        "error_p95_pct": round(100.0 * _quantile(np.abs(error), share, 0.95), 2),
        "visited_iterations": int(count.sum()),
        "visited_with_prefill_pct": round(100.0 * float(share[points[:, 1] > 0].sum()), 1),
        "visited_n_decode": [int(points[:, 0].min()), int(points[:, 0].max())],
        "visited_mean_context": [round(_quantile(points[:, 2], share, q)) for q in (0.05, 0.5, 0.95)],
        "extrapolated_pct": round(100.0 * outside, 1),
        "far_from_rows_pct": round(100.0 * distant, 1),
        "table_rows": len(table.points),
        "table_rows_dropped": table.dropped,
        "rounds": rounds,
        "warnings": warnings,
    }


def _warnings(profile: LatencyProfile, points: Floats, error: float, outside: float, distant: float) -> list[str]:
    """What makes a fit doubtful."""
    warnings = [
        f"{letter} = 0: the visited iterations show no cost per {what}"
        for letter, what, value in zip(
            "bcd", ("decoding sequence", "prompt token", "context token"), profile.coefficients_ms[1:], strict=True
        )
        if value == 0.0
    ]
    warnings += implausible(profile)
    if error > 0.1:
        warnings.append(f"the coefficients miss the table by {100 * error:.0f} % on the visited iterations")
    if outside > 0.05:
        warnings.append(f"{100 * outside:.0f} % of the visited iterations lie outside the table")
    if distant > _MOST_DISTANT:
        far = f"rows that take {_FAR:g} times as long or as short"
        warnings.append(f"{100 * distant:.0f} % of the visited iterations are guessed from {far}: measure more of them")
    if not (points[:, 1] > 0).any():
        warnings.append("no visited iteration computes prompt tokens")
    return warnings


def implausible(profile: LatencyProfile) -> list[str]:
    """What no GPU does, though the coefficients say so."""
    a, b, c, _ = profile.coefficients_ms
    told: list[str] = []
    if a <= 2 * _LEAST_MS:
        told.append("a = 0: an iteration would take no time of its own, though weights have to be read")
    if b > a:
        told.append("b > a: one more sequence would cost more than reading the weights")
    if c > a:
        told.append("c > a: one prompt token would cost more than reading the weights")
    return told


def _quantile(values: Floats, weights: Floats, level: float) -> float:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(cumulative, level * cumulative[-1])), len(values) - 1)])


def fit_profile(table_csv: str | Path, log_csv: str | Path, config: EngineConfig, name: str) -> LatencyProfile:
    """Fit a profile to a table of iteration times, on the iterations that a request log makes an engine visit.

    Args:
        table_csv: See `latency_table.read_table`.
        log_csv: See `replay.read_requests`. Its measured times, if any, are not looked at.
        config: Limits of the engine that serves the log; its profile does not matter.
        name: Name of the profile.

    Returns:
        The profile; ``provenance["fit"]`` tells how well it fits and warns of what is doubtful.

    Raises:
        InputError: A file is not usable, or the table cannot tell the coefficients apart.
    """
    source = {"table": Path(table_csv).name, "requests": Path(log_csv).name}
    return fit_to_table(read_full_table(table_csv), read_requests(log_csv), config, name, source)


def read_full_table(path: str | Path) -> IterationTable:
    """Read a table of iteration times that four coefficients can be fitted to.

    Raises:
        InputError: The file is not usable, or cannot tell the coefficients apart.
    """
    table = read_table(path)
    if np.linalg.matrix_rank(design(table.points) / np.maximum(design(table.points).max(axis=0), 1.0)) < 4:
        allowed = "rows that differ in n_decode, prefill_tokens and decode context: there are four coefficients to tell"
        raise InputError(path, "", Plain(f"{len(table.points)} usable rows"), allowed)
    return table
