"""Student's t distribution for whole degrees of freedom, without a library: finite sums, and their inverse by halving.

Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
"""

from __future__ import annotations

from math import atan, cos, pi, sin, sqrt

_HALVINGS = 200


def outside(t: float, freedom: int) -> float:
    """Return the probability that the absolute value of a variate exceeds `t`.

    Args:
        t: Number >= 0.
        freedom: Degrees of freedom, from 1.
    """
    angle = atan(t / sqrt(freedom))
    square = cos(angle) ** 2
    odd = freedom % 2
    term, total = cos(angle) if odd else 1.0, 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= square * k / (k + 1)
    inside = 2.0 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return max(0.0, 1.0 - inside)


def two_sided_quantile(level: float, freedom: int) -> float:
    """Return the t that the absolute value of a variate exceeds with probability `level`.

    Args:
        level: Above 0 and below 1.
        freedom: Degrees of freedom, from 1.
    """
    low, high = 0.0, 1.0
    while outside(high, freedom) > level:
        high *= 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if outside(middle, freedom) > level else (low, middle)
    return high
