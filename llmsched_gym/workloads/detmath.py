"""Elementary functions whose last bit does not depend on the processor.

NumPy's and libm's ``exp`` and ``log`` choose among implementations by SIMD level, and their results differ in the last
bit. Everything here uses only +, −, ×, ÷ and exact exponent shifts, which IEEE 754 fixes, so that a seed gives the same
workload on every machine.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LN2: Final = 0.6931471805599453


def log(x: Floats | float) -> Floats:
    """Natural logarithm of positive `x`, elementwise, relative error below 1e-14."""
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = np.where(low, exponent - 1, exponent)
    s = (mantissa - 1.0) / (mantissa + 1.0)  # log m = 2 artanh s, |s| <= 0.1716
    square = s * s
    series = np.zeros_like(s)
    for k in range(21, 0, -2):
        series = series * square + 1.0 / k
    return 2.0 * s * series + exponent * _LN2


def exp(x: Floats | float) -> Floats:
    """Exponential of `x`, elementwise, relative error below 1e-14 for |x| <= 20 and 2e-13 for |x| < 700."""
    x = np.asarray(x, dtype=np.float64)
    power = np.rint(x / _LN2)
    rest = x - power * _LN2
    series = np.ones_like(rest)
    for k in range(16, 0, -1):
        series = series * rest / k + 1.0
    return np.ldexp(series, power.astype(np.int64))


def normal_quantile(p: Floats | float) -> Floats:
    """Quantile of the standard normal distribution for 0 < p < 1 (Acklam's rational approximation, error 5e-9)."""
    p = np.asarray(p, dtype=np.float64)
    a = (
        -3.969683028665376e01,
        2.209460984245205e02,
        -2.759285104469687e02,
        1.383577518672690e02,
        -3.066479806614716e01,
        2.506628277459239e00,
    )
    b = (
        -5.447609879822406e01,
        1.615858368580409e02,
        -1.556989798598866e02,
        6.680131188771972e01,
        -1.328068155288572e01,
        1.0,
    )
    c = (
        -7.784894002430293e-03,
        -3.223964580411365e-01,
        -2.400758277161838e00,
        -2.549732539343734e00,
        4.374664141464968e00,
        2.938163982698783e00,
    )
    d = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)
    tail = np.minimum(p, 1.0 - p)
    r = np.sqrt(-2.0 * log(tail))
    outer = _polynomial(c, r) / _polynomial(d, r)
    q = p - 0.5
    inner = q * _polynomial(a, q * q) / _polynomial(b, q * q)
    return np.where(tail >= 0.02425, inner, np.where(q < 0.0, outer, -outer))


def normal_cdf(x: Floats | float) -> Floats:
    """Distribution function of the standard normal, by interpolation in a fixed table (error below 1e-5)."""
    return np.interp(np.asarray(x, dtype=np.float64), _TABLE_X, _TABLE_P)


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


_LOWER_TAIL: Final = np.concatenate([[1e-12, 1e-9, 1e-7], np.linspace(1e-6, 1e-3, 400)])
_TABLE_P: Final = np.concatenate([_LOWER_TAIL, np.linspace(1e-3, 0.999, 4001)[1:-1], 1.0 - _LOWER_TAIL[::-1]])
_TABLE_X: Final = normal_quantile(_TABLE_P)
