"""The profile of an application: a discrete Bayesian network over its stages, as plain arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.workloads.template import StageKind

MAX_STATES = 16
"""Most states of a variable: evidence is a bit mask per variable."""

SLICES = 20
"""Equal parts of the profiling jobs in a state: their mean times tell how time is distributed within it."""


@dataclass(frozen=True)
class Variable:
    """One variable: how much batch-1 slot time a template node takes, or how large a plan is.

    Its states are, in this order: "absent", if the job may lack the stage; the bins of the time of one occurrence; and,
    for candidates that plans contain more than once, ranges of the number of occurrences. Sizes of plans have a bin per
    number of stages.

    Attributes:
        name: Name of the template node; for the size of a plan, of its dynamic node.
        node: Index of the template node.
        absent: Whether state 0 means that the stage is skipped, or the candidate not planned. Sizes have it as "no
            stage".
        edges_s: float64 (bins + 1,). Bin k holds values from ``edges_s[k]`` (inclusive) to ``edges_s[k + 1]`` seconds;
            the first edge is 0 and the last is infinite. For sizes the values are numbers of planned stages from 1.
        slices_s: float64 (states, SLICES). Total seconds of all occurrences: means of `SLICES` equal parts of the jobs
            in each state, ascending. 0 for absent. Sizes take no time: all 0.
        kind: Kind of the stage: says which executors the seconds are spent on. DYNAMIC marks the size of a plan.
        repeats: int64 (ranges,). Least number of occurrences of each state for several of them, ascending from 2.
        calls_s: float64 (SLICES,). Seconds of a single occurrence, whatever their number: means of equal parts.
    """

    name: str
    node: int
    absent: bool
    edges_s: NDArray[np.float64]
    slices_s: NDArray[np.float64]
    kind: StageKind = StageKind.REGULAR
    repeats: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    calls_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(SLICES))

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.slices_s)

    @cached_property
    def means_s(self) -> NDArray[np.float64]:
        """Mean seconds in each state."""
        return np.array([math.fsum(row) / SLICES for row in self.slices_s])

    @property
    def lows_s(self) -> NDArray[np.float64]:
        """Mean of the lowest slice of each state, about its 2.5 % quantile."""
        return self.slices_s[:, 0]

    @property
    def highs_s(self) -> NDArray[np.float64]:
        """Mean of the highest slice of each state, about its 97.5 % quantile."""
        return self.slices_s[:, -1]

    def scaled(self, factor: float) -> Variable:
        """Return the variable of a stage whose tasks take `factor` times as long."""
        if self.kind is StageKind.DYNAMIC or factor == 1.0:
            return self
        times = {name: getattr(self, name) * factor for name in ("edges_s", "slices_s", "calls_s")}
        return replace(self, **times)


@dataclass(frozen=True)
class Profile:
    """A fitted network.

    Attributes:
        application: Name of the application.
        nodes: Names of the template's nodes when it was fitted; another list is another version of the application.
        variables: In a topological order of the network.
        parents: Per variable, the indices of its parents, ascending.
        tables: Per variable, float64 (states of parent 1, ..., own states): conditional probabilities, rows sum to 1.
        latency: Latency profile that turned tokens into seconds.
        provenance: How it was fitted: split, seed, jobs, bins, scores; JSON-able.
    """

    application: str
    nodes: tuple[str, ...]
    variables: tuple[Variable, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[NDArray[np.float64], ...]
    latency: LatencyProfile
    provenance: dict[str, Any] = field(default_factory=dict)

    def scaled(self, time_scale: float, token_divisor: int) -> Profile:
        """Return the profile of a workload with regular tasks that many times as fast, and tokens divided.

        The share of an LLM task's time that grows with the square of its length is scaled like the rest.
        """
        factors = {StageKind.REGULAR: 1.0 / time_scale, StageKind.LLM: 1.0 / token_divisor}
        return replace(self, variables=tuple(one.scaled(factors.get(one.kind, 1.0)) for one in self.variables))

    @cached_property
    def states(self) -> NDArray[np.int64]:
        """Number of states of each variable."""
        return np.array([variable.states for variable in self.variables])
