"""Relative errors of requests, summed up."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from llmsched_gym.calibration.measured_log import Floats

_DRAWS: Final = 1000
_BLOCKS: Final = 20
"""Stretches of a log that are drawn together: requests that run beside each other err together."""


def errors(ratio_minus_one: Floats) -> dict[str, Any]:
    """Sum up relative errors of requests, in order of arrival.

    Args:
        ratio_minus_one: float64 (n,), replayed over measured time, minus 1; n >= 1.

    Returns:
        In per cent: mean of the absolute values (`mean_pct`), its 95 % interval (`interval_pct`) by a bootstrap over
        stretches of the log, mean (`bias_pct`), median and 95th percentile of the absolute values.
    """
    size = np.abs(ratio_minus_one)
    low, high = _interval(size)
    return {
        "requests": len(size),
        "mean_pct": _percent(size.mean()),
        "interval_pct": [_percent(low), _percent(high)],
        "bias_pct": _percent(ratio_minus_one.mean()),
        "median_pct": _percent(np.median(size)),
        "p95_pct": _percent(np.quantile(size, 0.95)),
    }


def _percent(value: Any) -> float:
    return round(100.0 * float(value), 2)


def _interval(values: Floats) -> tuple[float, float]:
    """Central 95 % of the means of logs drawn, stretch by stretch, from this one."""
    stretches = np.array_split(values, min(_BLOCKS, len(values)))
    sums = np.array([part.sum() for part in stretches])
    counts = np.array([len(part) for part in stretches])
    drawn = np.random.default_rng(0).integers(len(stretches), size=(_DRAWS, len(stretches)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
