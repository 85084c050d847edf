"""Statistics over the seeds of a comparison: intervals, what can be told apart, robust summaries of learned policies.

All policies of a comparison meet the same jobs under the same seed, so seeds are pairs, and the unit is the seed, never
the single job: the jobs of one episode share a queue and are not independent. What is estimated is the mean over the
seeds of the logarithm of a ratio, each policy against another on the same jobs: the geometric mean of the ratios. Each
seed counts alike, however long its jobs take, and swapping the two policies changes nothing but the sign.

**Intervals** are studentised: the bootstrap resamples the seeds, and asks how far the mean of a resample lies from that
of all, in standard errors of the resample. The 95 % quantile of that distance replaces Student's, if it is larger
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12; the symmetric form, whose error in coverage
is the smallest, by Hall, On symmetric bootstrap confidence intervals, 1988). A percentile interval, however stretched,
knows nothing of how uncertain its own width is, and covers too seldom where seeds are few and skewed.
`baselines/interval_coverage.py` measures how often these cover. Resampling uses one fixed seed: equal inputs give
equal intervals.

**Ranks** are of tests against the best, by the same studentised distances, with Holm's correction for their number
(Holm, A simple sequentially rejective multiple test procedure, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, expm1
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym.evaluation.student import outside, two_sided_quantile

RESAMPLES: Final = 10_000
RESAMPLING_SEED: Final = 20_251_120

LEVEL: Final = 0.05
"""Intervals miss with this probability; so likely is one wrong statement or more among those of one ranking."""

ENOUGH_SEEDS: Final = 10
"""From that many seeds on intervals cover 93 % or more (`baselines/interval_coverage.py`)."""

_LEAST_SPREAD: Final = 1e-9
"""Variance of a resample, in that of the sample, below which it only repeats one value: it says nothing."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        low: Lower end; None where nothing tells how far seeds differ: one seed, or seeds that only repeat each other.
        mid: The estimate from all seeds.
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


def mean_interval(values: ArrayLike) -> Interval:
    """Return the mean of independent values with its interval.

    Args:
        values: Float (n,), n >= 1. With one value there is no interval.
    """
    sample = _sample(values)
    mid = float(sample.mean())
    n = len(sample)
    if n == 1:
        return Interval(None, mid, None)
    error = _standard_error(sample)
    distances = _distances(sample)
    reach = two_sided_quantile(LEVEL, n - 1)
    if len(distances):
        reach = max(reach, float(np.quantile(distances, 1.0 - LEVEL)))
    return Interval(mid - reach * error, mid, mid + reach * error)


def chance_of_no_difference(values: ArrayLike) -> float:
    """Return the two-sided p-value of a mean of zero, by the distances that `mean_interval` goes by.

    Args:
        values: Float (n,), n >= 1: logarithms of paired ratios. One value tells nothing: 1.
    """
    sample = _sample(values)
    mid, n = float(sample.mean()), len(sample)
    if n == 1 or mid == 0.0:
        return 1.0
    error = _standard_error(sample)
    if error == 0.0:
        return 0.0
    distance = abs(mid) / error
    distances = _distances(sample)
    resampled = (1.0 + float((distances >= distance).sum())) / (1.0 + len(distances)) if len(distances) else 0.0
    return max(resampled, outside(distance, n - 1))


def reduction_pct(baseline: ArrayLike, values: ArrayLike) -> Interval:
    """By how many per cent `values` are below `baseline`, as the geometric mean over the seeds of their ratios.

    The interval is that of the logarithm: the same whichever of the two is the baseline, and never above 100 %. Seeds
    that only repeat each other, as a deterministic policy does on fixed jobs, are one: no interval.

    Args:
        baseline: Numbers > 0.
        values: Numbers > 0, paired with `baseline`.
    """
    logs = _log_ratio_interval(values, baseline)
    low = None if logs.high is None else _reduction(logs.high)
    high = None if logs.low is None else _reduction(logs.low)
    return Interval(low, _reduction(logs.mid), high)


def relative(values: ArrayLike, reference: ArrayLike) -> Interval:
    """How many times the reference: the geometric mean over the seeds, each paired with the reference on its jobs.

    Means of two policies move together with the jobs, so that their intervals overlap though one is better on every
    seed. Relative to a reference on the same jobs, most of what the jobs decide cancels, and intervals of two policies
    can be compared by eye.

    Args:
        values: Numbers > 0.
        reference: Numbers > 0, paired with `values`.
    """
    logs = _log_ratio_interval(values, reference)
    low, high = (None if end is None else exp(end) for end in (logs.low, logs.high))
    return Interval(low, exp(logs.mid), high)


def relative_to_several(values: ArrayLike, references: ArrayLike) -> Interval:
    """How many times the references over several scenarios: the geometric mean over scenarios and seeds.

    Every scenario has the same seeds. What scenarios have in common under a seed may make their ratios alike, so a seed
    is one value, the geometric mean over the scenarios.

    Args:
        values: Numbers > 0 (scenarios, seeds).
        references: The same, paired with `values`.
    """
    logs = np.log(np.asarray(values, dtype=np.float64) / np.asarray(references, dtype=np.float64))
    found = mean_interval(logs.mean(axis=0))
    low, high = (None if end is None else exp(end) for end in (found.low, found.high))
    return Interval(low, exp(found.mid), high)


def geometric_mean(values: ArrayLike) -> float:
    """Return the geometric mean of numbers > 0."""
    return exp(float(np.log(_sample(values)).mean()))


def holm(chances: Sequence[float]) -> list[bool]:
    """Tell which hypotheses of a family are rejected, such that one is wrongly so with probability `LEVEL` at most.

    Args:
        chances: p-value of each.
    """
    order = sorted(range(len(chances)), key=chances.__getitem__)
    rejected = [False] * len(chances)
    for place, index in enumerate(order):
        if chances[index] > LEVEL / (len(chances) - place):
            break
        rejected[index] = True
    return rejected


def ranks(values: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Rank samples paired by seed, smallest geometric mean first; what cannot be told from the best shares its rank.

    The best is tested against all others, with Holm's correction; those that are not worse for certain have rank 1,
    too. The best of the rest is then tested against these, and so on: a rank is one more than the number of samples
    that have better ones. Without intervals nothing can be told apart.

    Args:
        values: Numbers > 0, equally many each, paired.
    """
    logs = {name: np.log(_sample(sample)) for name, sample in values.items()}
    rest = sorted(logs, key=lambda name: float(logs[name].mean()))
    result: dict[str, int] = {}
    while rest:
        rank, best, others = len(result) + 1, rest[0], rest[1:]
        worse = holm([chance_between(values[name], values[best]) for name in others])
        result |= {best: rank} | {name: rank for name, told in zip(others, worse, strict=True) if not told}
        rest = [name for name, told in zip(others, worse, strict=True) if told]
    return result


def chance_between(values: ArrayLike, others: ArrayLike) -> float:
    """Return the p-value of two samples of numbers > 0, paired by seed, having the same geometric mean."""
    first, second = _sample(values), _sample(others)
    if _repeated(first, second):
        return 1.0
    return chance_of_no_difference(_log_ratios(first, second))


def interquartile_mean(values: ArrayLike) -> Floats:
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


def _log_ratio_interval(values: ArrayLike, reference: ArrayLike) -> Interval:
    first, second = _sample(values), _sample(reference)
    logs = _log_ratios(first, second)
    return Interval(None, float(logs.mean()), None) if _repeated(first, second) else mean_interval(logs)


def _log_ratios(values: Floats, reference: Floats) -> Floats:
    if values.shape != reference.shape:
        raise ValueError(f"paired samples must be of one length, not of {len(values)} and {len(reference)}")
    return np.log(values / reference)


def _repeated(*samples: Floats) -> bool:
    """Tell whether the seeds only repeat each other: then they are no sample of anything."""
    return all(bool((sample == sample[0]).all()) for sample in samples)


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError("a sample must be one-dimensional and not empty")
    return sample


def _standard_error(sample: Floats) -> float:
    return float(sample.std(ddof=1)) / len(sample) ** 0.5


def _distances(sample: Floats) -> Floats:
    """Return how far the means of resamples lie from that of the sample, in standard errors of the resample.

    Returns:
        Float (r,): r <= `RESAMPLES`, for a resample of equal values has no standard error.
    """
    n = len(sample)
    spread = float(sample.std())
    if spread == 0.0:
        return np.empty(0)
    standard = (sample - sample.mean()) / spread
    counts = _counts(n)
    mean = counts @ standard / n
    variance = np.maximum(counts @ (standard * standard) / n - mean * mean, 0.0)
    told = variance > _LEAST_SPREAD
    return np.abs(mean[told]) / np.sqrt(variance[told] / (n - 1))


@lru_cache(maxsize=2)
def _counts(n: int) -> Floats:
    """Return how often each of `n` seeds is in each resample: float (RESAMPLES, n)."""
    return np.random.default_rng(RESAMPLING_SEED).multinomial(n, [1.0 / n] * n, size=RESAMPLES).astype(np.float64)


def _reduction(log_ratio: float) -> float:
    return 0.0 - 100.0 * expm1(log_ratio)  # 0.0 - 0.0 is 0.0, where -100.0 * 0.0 would print as -0.0
