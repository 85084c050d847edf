"""Random variates of the applications' samplers: uniform ones from NumPy, all others compiled from these.

A sampler draws uniforms, one array after the other, and then makes its jobs one by one in a kernel.
Everything is made of +, −, ×, ÷, square roots and table look-up, so that a seed gives the same jobs on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.detmath import Curve, Floats
from llmsched_gym.workloads.facts import Quantiles

_SMALLEST_UNIFORM: Final = 2.0**-54


def uniforms(rng: np.random.Generator, n: int, widths: Sequence[int]) -> list[Floats]:
    """Draw an (n, width) array of uniforms for each width: the same numbers as if one after the other was drawn."""
    drawn = rng.random(n * sum(widths))
    arrays, end = [], 0
    for width in widths:
        begin, end = end, end + n * width
        arrays.append(drawn[begin:end].reshape(n, width))
    return arrays


@kernel
def quantile(u: float, table: Quantiles) -> float:
    """Return the value of a distribution at a probability."""
    return detmath.interpolated(u, table.levels, table.values)


@kernel
def whole_quantile(u: float, table: Quantiles) -> int:
    """Return the value of a distribution at a probability, as `whole`."""
    return whole(quantile(u, table))


@kernel
def whole(value: float) -> int:
    """Return a number rounded to a whole one of at least 1."""
    return max(int(np.rint(value)), 1)


@kernel
def nanoseconds(seconds: float) -> int:
    """Return a time in whole nanoseconds."""
    return int(np.rint(seconds * 1e9))


@kernel
def normal(u: float) -> float:
    """Return a standard normal variate, by inversion of a uniform one."""
    return detmath.quantile_of_normal(max(u, _SMALLEST_UNIFORM))


@kernel
def correlated(r: float, latent: float, u: float) -> float:
    """Return a standard normal variate that correlates by `r` with the standard normal `latent`.

    Two variates of one latent variable correlate by the product of their `r`.
    """
    return r * latent + math.sqrt(1.0 - r * r) * normal(u)


@kernel
def level(score: float, normal_curve: Curve) -> float:
    """Return the uniform variate whose normal score this is; the curve is `detmath.normal_curve`."""
    return detmath.interpolated(score, normal_curve.xs, normal_curve.ys)


@kernel
def category(u: float, cumulative: Floats) -> int:
    """Return an index drawn from a table of probabilities, of any positive total, that have been summed up."""
    target = u * cumulative[-1]
    index = 0
    while index < len(cumulative) - 1 and cumulative[index] <= target:
        index += 1
    return index
