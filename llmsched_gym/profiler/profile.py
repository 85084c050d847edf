"""The profile of an application: a discrete Bayesian network over its stages, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.workloads.template import StageKind

MAX_STATES = 16
"""Most states of a variable: evidence is a bit mask per variable."""


@dataclass(frozen=True)
class Variable:
    """One variable: how much batch-1 slot time a template node takes, or how large a plan is.

    Attributes:
        name: Name of the template node; for the size of a plan, of its dynamic node.
        node: Index of the template node.
        absent: Whether state 0 means that the stage is skipped, or the candidate not planned. Sizes have it as "no
            stage".
        edges_s: float64 (bins + 1,). Bin k holds values from ``edges_s[k]`` (inclusive) to ``edges_s[k + 1]`` seconds;
            the first edge is 0 and the last is infinite. For sizes the values are numbers of planned stages from 1.
        means_s: float64 (states,). Mean value in each state; 0 for absent. Sizes take no time: all 0.
        lows_s: float64 (states,). 2.5 % quantile within each state.
        highs_s: float64 (states,). 97.5 % quantile within each state.
        kind: Kind of the stage: says which executors the seconds are spent on. DYNAMIC marks the size of a plan.
    """

    name: str
    node: int
    absent: bool
    edges_s: NDArray[np.float64]
    means_s: NDArray[np.float64]
    lows_s: NDArray[np.float64]
    highs_s: NDArray[np.float64]
    kind: StageKind = StageKind.REGULAR

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.means_s)


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

    @cached_property
    def states(self) -> NDArray[np.int64]:
        """Number of states of each variable."""
        return np.array([variable.states for variable in self.variables])
