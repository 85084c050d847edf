"""Elementary functions whose last bit does not depend on the processor.

NumPy's and libm's ``exp`` and ``log`` choose among implementations by SIMD level, and their results differ in the last
bit. Everything here uses only +, −, ×, ÷, square roots and exact exponent shifts, which IEEE 754 fixes and the compiler
neither reorders nor fuses, so that a seed gives the same workload on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Curve(NamedTuple):
    """Points that are joined by lines.

    Attributes:
        xs: (n,) ascending.
        ys: (n,).
    """

    xs: Floats
    ys: Floats


_LN2: Final = 0.6931471805599453
_ARTANH: Final = tuple(1.0 / k for k in range(21, 0, -2))
"""Power series of artanh(s) / s in s², highest power first."""

# Acklam's numerators and denominators: _A / _B in the middle, _C / _D in the tails.
_A: Final = (
    -3.969683028665376e01,
    2.209460984245205e02,
    -2.759285104469687e02,
    1.383577518672690e02,
    -3.066479806614716e01,
    2.506628277459239e00,
)
_B: Final = (
    -5.447609879822406e01,
    1.615858368580409e02,
    -1.556989798598866e02,
    6.680131188771972e01,
    -1.328068155288572e01,
    1.0,
)
_C: Final = (
    -7.784894002430293e-03,
    -3.223964580411365e-01,
    -2.400758277161838e00,
    -2.549732539343734e00,
    4.374664141464968e00,
    2.938163982698783e00,
)
_D: Final = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)


def log(x: Floats | float) -> Floats:
    """Natural logarithm of positive `x`, elementwise, relative error below 1e-14."""
    return _elementwise(_fill_log, x)


def exp(x: Floats | float) -> Floats:
    """Exponential of `x`, elementwise, relative error below 1e-14 for |x| <= 20 and 2e-13 for |x| < 700."""
    return _elementwise(_fill_exp, x)


def normal_quantile(p: Floats | float) -> Floats:
    """Quantile of the standard normal distribution for 0 < p < 1 (Acklam's rational approximation, error 5e-9)."""
    return _elementwise(_fill_normal_quantile, p)


def interpolate(x: Floats | float, xs: Floats, ys: Floats) -> Floats:
    """Value at each `x` of the lines between the points (`xs`, `ys`), as of `np.interp`.

    Args:
        x: Any shape; outside of `xs`, the value is that of its nearer end.
        xs: (n,) ascending.
        ys: (n,).
    """
    return _elementwise(_fill_interpolated, x, xs, ys)


def _elementwise(fill: Callable[..., None], x: Floats | float, *tables: Floats) -> Floats:
    given = np.asarray(x, dtype=np.float64)
    values = np.empty(given.shape)
    fill(given.ravel(), *tables, values.ravel())
    return values


@cache
def normal_curve() -> Curve:
    """Points of the distribution function of the standard normal (error below 1e-5)."""
    tail = np.concatenate([[1e-12, 1e-9, 1e-7], np.linspace(1e-6, 1e-3, 400)])
    p = np.concatenate([tail, np.linspace(1e-3, 0.999, 4001)[1:-1], 1.0 - tail[::-1]])
    return Curve(normal_quantile(p), p)


@kernel
def _fill_log(x: Floats, values: Floats) -> None:
    for i in range(len(x)):
        values[i] = logarithm(x[i])


@kernel
def _fill_exp(x: Floats, values: Floats) -> None:
    for i in range(len(x)):
        values[i] = exponential(x[i])


@kernel
def _fill_normal_quantile(p: Floats, values: Floats) -> None:
    for i in range(len(p)):
        values[i] = quantile_of_normal(p[i])


@kernel
def _fill_interpolated(x: Floats, xs: Floats, ys: Floats, values: Floats) -> None:
    for i in range(len(x)):
        values[i] = interpolated(x[i], xs, ys)


@kernel
def interpolated(x: float, xs: Floats, ys: Floats) -> float:
    """Return `interpolate` at one point."""
    last = len(xs) - 1
    if x < xs[0]:
        return ys[0]
    if x >= xs[last]:
        return ys[last]
    low, high = 0, last  # xs[low] <= x < xs[high]
    while high - low > 1:
        middle = (low + high) // 2
        if x >= xs[middle]:
            low = middle
        else:
            high = middle
    slope = (ys[high] - ys[low]) / (xs[high] - xs[low])
    return slope * (x - xs[low]) + ys[low]


@kernel
def logarithm(x: float) -> float:
    """Return `log` of one number."""
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa *= 2.0
        exponent -= 1
    s = (mantissa - 1.0) / (mantissa + 1.0)  # log m = 2 artanh s, |s| <= 0.1716
    return 2.0 * s * _polynomial(_ARTANH, s * s) + exponent * _LN2


@kernel
def exponential(x: float) -> float:
    """Return `exp` of one number."""
    power = np.rint(x / _LN2)
    rest = x - power * _LN2
    series = 1.0
    for k in range(16, 0, -1):
        series = series * rest / k + 1.0
    return math.ldexp(series, int(power))


@kernel
def quantile_of_normal(p: float) -> float:
    """Return `normal_quantile` of one number."""
    q = p - 0.5
    tail = min(p, 1.0 - p)
    if tail >= 0.02425:
        return q * _polynomial(_A, q * q) / _polynomial(_B, q * q)
    r = math.sqrt(-2.0 * logarithm(tail))
    outer = _polynomial(_C, r) / _polynomial(_D, r)
    return outer if q < 0.0 else -outer


@kernel
def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    value = coefficients[0]
    for k in range(1, len(coefficients)):
        value = value * x + coefficients[k]
    return value
