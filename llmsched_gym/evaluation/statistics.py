"""Statistics over the seeds of a comparison: paired bootstrap intervals, ties, robust summaries of learned policies.

All policies of a comparison meet the same workload under the same seed, so seeds are pairs and the bootstrap resamples
seeds, never single jobs: the jobs of one episode share a queue and are not independent. Resampling uses one fixed seed;
equal inputs give equal intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, expm1, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES: Final = 10_000
RESAMPLING_SEED: Final = 20_251_120

Statistic = Callable[..., NDArray[np.float64]]
"""Reduces the last axis of its arrays: (..., n) -> (...)."""

_T_975: Final = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (any statistics textbook)."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        low: Lower end; None where there is nothing to resample: one seed, or seeds that only repeat each other.
        mid: The statistic on all seeds.
        high: Upper end; None as `low`.
    """

    low: float | None
    mid: float
    high: float | None

    def as_list(self) -> list[float | None]:
        """Return [low, mid, high]."""
        return [self.low, self.mid, self.high]

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def stretch(n: int) -> float:
    """Return the factor by which a 95 % percentile interval from `n` values is too narrow.

    The bootstrap distribution of a mean of n values is narrower than the sampling distribution by sqrt((n-1)/n), and
    its normal quantiles should be Student's t. With five seeds that is a factor of 1.6; it tends to 1 for many.
    (Hesterberg, What Teachers Should Know About the Bootstrap, 2015, corrects the levels of the quantiles for the same
    reason, but no level reaches beyond the smallest and largest of a handful of values.)
    """
    normal = NormalDist().inv_cdf(0.975)
    t = _T_975[n - 2] if n - 1 <= len(_T_975) else normal + 2.372 / (n - 1)
    return sqrt(n / (n - 1)) * t / normal


def bootstrap(statistic: Statistic, *paired: ArrayLike) -> Interval:
    """Estimate a statistic of paired samples with a 95 % interval, resampling the pairs.

    The interval is the bootstrap's 2.5 % to 97.5 % range, each end moved away from the estimate by `stretch`. Equal
    pairs are one pair that was repeated, as a deterministic policy repeats itself on fixed jobs: no interval.

    Args:
        statistic: Reduces the last axis of as many arrays as there are samples.
        *paired: Samples of equal length n >= 1; entries at one position belong together.
    """
    samples = [np.asarray(sample, dtype=np.float64) for sample in paired]
    n = len(samples[0])
    if any(sample.shape != (n,) for sample in samples) or n == 0:
        raise ValueError("paired samples must be one-dimensional, of one length, and not empty")
    mid = float(statistic(*samples))
    if all((sample == sample[0]).all() for sample in samples):
        return Interval(None, mid, None)
    rows = np.random.default_rng(RESAMPLING_SEED).integers(n, size=(RESAMPLES, n))
    values = statistic(*(sample[rows] for sample in samples))
    low, high = np.quantile(values, [0.025, 0.975])
    factor = stretch(n)
    return Interval(mid - factor * (mid - float(low)), mid, mid + factor * (float(high) - mid))


def reduction_pct(baseline: ArrayLike, values: ArrayLike) -> Interval:
    """By how many per cent the mean of `values` is below the mean of `baseline`, paired by seed.

    The interval is that of the logarithm of the ratio of the means: the same whichever of the two is the baseline, and
    never above 100 %.

    Args:
        baseline: Numbers > 0.
        values: Numbers > 0, paired with `baseline`.
    """
    log_ratio = bootstrap(lambda b, v: np.log(_mean(v) / _mean(b)), baseline, values)
    low = None if log_ratio.high is None else _reduction(log_ratio.high)
    high = None if log_ratio.low is None else _reduction(log_ratio.low)
    return Interval(low, _reduction(log_ratio.mid), high)


def relative(values: ArrayLike, reference: ArrayLike) -> Interval:
    """How many times the reference: the geometric mean over the seeds, each paired with the reference on its jobs.

    Means of two policies move together with the jobs, so that their intervals overlap though one is better on every
    seed. Relative to a reference on the same jobs, most of what the jobs decide cancels, and intervals of two policies
    can be compared by eye.

    Args:
        values: Numbers > 0.
        reference: Numbers > 0, paired with `values`.
    """
    logs = bootstrap(lambda v, r: _mean(np.log(v / r)), values, reference)
    low, high = (None if end is None else exp(end) for end in (logs.low, logs.high))
    return Interval(low, exp(logs.mid), high)


def ranks(values: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Rank samples paired by seed, smallest mean first; ties share a rank.

    In order of the means, a sample ties with the first one of the group before it unless the interval of the reduction
    between these two excludes zero; it then begins a group of its own. Without intervals nothing can be told apart.
    """
    order = sorted(values, key=lambda name: float(_mean(np.asarray(values[name]))))
    result: dict[str, int] = {}
    leader = order[0]
    for position, name in enumerate(order, start=1):
        if reduction_pct(values[name], values[leader]).excludes_zero:
            leader = name
            result[name] = position
        else:
            result[name] = result.get(leader, 1)
    return result


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis: a quarter of the values (rounded down) is dropped on each side.

    The aggregate that Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice (2021),
    recommend for several training runs.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = ordered.shape[-1]
    cut = n // 4
    return ordered[..., cut : n - cut].mean(axis=-1)


def probability_of_improvement(runs: ArrayLike, others: ArrayLike) -> float:
    """Chance that a random run scores lower (better) than a random one of `others`; equal scores count half."""
    x, y = np.asarray(runs, dtype=np.float64)[:, None], np.asarray(others, dtype=np.float64)[None, :]
    return float(np.mean((x < y) + 0.5 * (x == y)))


def _reduction(log_ratio: float) -> float:
    return 0.0 - 100.0 * expm1(log_ratio)  # 0.0 - 0.0 is 0.0, where -100.0 * 0.0 would print as -0.0


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.mean(axis=-1)
