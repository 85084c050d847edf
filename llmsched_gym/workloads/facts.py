"""Fitted facts about applications, and the few random-variate tools their samplers share.

Facts are the JSON files in ``workloads/facts``, written by ``workloads.fitting`` from measured data. Everything here is
elementwise +, −, ×, ÷, square root and table look-up, so that a seed gives the same jobs on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.detmath import Floats

Ints = NDArray[np.int64]

_SMALLEST_UNIFORM = 2.0**-54
_LARGEST = 2**63 - 1


@cache
def load_facts(name: str) -> Mapping[str, Any]:
    """Facts of one application (``workloads/facts/<name>.json``); do not modify the result."""
    text = resources.files("llmsched_gym.workloads").joinpath("facts", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


@dataclass(frozen=True)
class Quantiles:
    """A distribution as its quantile function, linear between the given levels.

    Attributes:
        levels: Probabilities, increasing from 0 to 1.
        values: Quantile at each level, non-decreasing.
    """

    levels: Floats
    values: Floats

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Quantiles:
        """Read a facts entry ``{"levels": [...], "values": [...], ...}``."""
        return cls(np.asarray(entry["levels"], dtype=np.float64), np.asarray(entry["values"], dtype=np.float64))

    def __call__(self, u: ArrayLike) -> Floats:
        """Value at each probability of `u` (any shape)."""
        return detmath.interpolate(np.asarray(u, dtype=np.float64), self.levels, self.values)

    def whole(self, u: ArrayLike, low: int = 1, high: int = _LARGEST) -> Ints:
        """Value at each probability of `u`, rounded to whole numbers and clipped to [low, high]."""
        given = np.asarray(u, dtype=np.float64)
        numbers = np.empty(given.shape, dtype=np.int64)
        _fill_whole(given.ravel(), self.levels, self.values, low, high, numbers.ravel())
        return numbers


@kernel
def _fill_whole(u: Floats, levels: Floats, values: Floats, low: int, high: int, numbers: Ints) -> None:
    for i in range(len(u)):
        numbers[i] = min(max(np.int64(np.rint(detmath.interpolated(u[i], levels, values))), low), high)


@cache
def load_quantiles(name: str, entry: str) -> Quantiles:
    """Distribution in an entry of the facts of one application."""
    return Quantiles.of(load_facts(name)[entry])


def normals(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
    """Standard normal variates by inversion of ``rng.random``."""
    return detmath.normal_quantile(np.maximum(rng.random(shape), _SMALLEST_UNIFORM))


def uniforms_given(rng: np.random.Generator, latent: Floats, m: int, r: float | Floats) -> Floats:
    """Uniform variates that correlate with a given latent variable.

    Args:
        rng: Source of randomness.
        latent: (n,) standard normal, for example a property of the job.
        m: Variates per job.
        r: Correlation of each variate's normal score with `latent`, in [-1, 1]; one number or (m,). Two variates of a
            job correlate by the product of their `r`.

    Returns:
        (n, m) uniforms.
    """
    r = np.asarray(r, dtype=np.float64)
    score = r * latent[:, None] + np.sqrt(1.0 - r * r) * normals(rng, (latent.shape[0], m))
    return detmath.normal_cdf(score)


def correlated_uniforms(rng: np.random.Generator, n: int, m: int, rho: float) -> Floats:
    """(n, m) uniforms whose normal scores correlate by `rho` >= 0 within a row: a job effect plus stage noise."""
    return uniforms_given(rng, normals(rng, n), m, float(np.sqrt(rho)))


def categorical(u: ArrayLike, probabilities: Sequence[float] | Floats) -> Ints:
    """Index drawn from a table of probabilities (any positive total) for each uniform of `u`."""
    cumulative = np.cumsum(np.asarray(probabilities, dtype=np.float64))
    index = np.searchsorted(cumulative, np.asarray(u, dtype=np.float64) * cumulative[-1], side="right")
    return np.minimum(index, len(cumulative) - 1).astype(np.int64)
