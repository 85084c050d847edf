"""Fitted facts about applications: the JSON files in ``workloads/facts``, written by ``workloads.fitting``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.detmath import Floats


@cache
def load_facts(name: str) -> Mapping[str, Any]:
    """Facts of one application (``workloads/facts/<name>.json``); do not modify the result."""
    text = resources.files("llmsched_gym.workloads").joinpath("facts", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


class Quantiles(NamedTuple):
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


@cache
def load_quantiles(name: str, entry: str) -> Quantiles:
    """Distribution in an entry of the facts of one application."""
    return Quantiles.of(load_facts(name)[entry])
