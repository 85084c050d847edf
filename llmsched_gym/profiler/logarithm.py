"""The logarithm of compiled code: `workloads.detmath.log`, for one number, with the same bits on every machine."""

from __future__ import annotations

import math

from llmsched_gym._jit import kernel


@kernel
def log(x: float) -> float:
    """Natural logarithm of positive `x`, relative error below 1e-14, from +, -, * and / only."""
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa *= 2.0
        exponent -= 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = 1.0 / 21
    series = series * square + 1.0 / 19
    series = series * square + 1.0 / 17
    series = series * square + 1.0 / 15
    series = series * square + 1.0 / 13
    series = series * square + 1.0 / 11
    series = series * square + 1.0 / 9
    series = series * square + 1.0 / 7
    series = series * square + 1.0 / 5
    series = series * square + 1.0 / 3
    series = series * square + 1.0
    return 2.0 * s * series + exponent * 0.6931471805599453
