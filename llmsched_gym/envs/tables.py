"""The arrays of an observation: which there are, their shapes, the spaces that describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import Rows
from llmsched_gym.envs.columns import Ahead, Candidate, Executor, Job, Node, Placement, Residency, System, Truth
from llmsched_gym.envs.one_piece import OnePiece
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.workload import Workload

Observation = dict[str, NDArray[Any]]

NODES_PER_ROW: Final = 48
"""Node rows of a graph observation per candidate row of a window that was given."""

EDGES_PER_ROW: Final = 96

MAX_BYTES: Final = 2**30
"""Most bytes of an observation, of all episodes together (1 GiB)."""


class Tables(NamedTuple):
    """The tables of one observation, or of many with a leading axis. Those not asked for have no rows.

    Attributes:
        candidates: float32 (N, len(Candidate)).
        jobs: float32 (J, len(Job)).
        executors: float32 (E, len(Executor)).
        system: float32 (len(System),).
        action_mask: int8 (actions,).
        nodes: float32 (M, len(Node)).
        edges: int32 (L, 2).
        truth: float32 (N, len(Truth)).
        placements: float32 (N, E, len(Placement)).
        models: float32 (E, models, len(Residency)).
        ahead: float32 (M, len(Ahead)).
    """

    candidates: NDArray[np.float32]
    jobs: NDArray[np.float32]
    executors: NDArray[np.float32]
    system: NDArray[np.float32]
    action_mask: NDArray[np.int8]
    nodes: NDArray[np.float32]
    edges: NDArray[np.int32]
    truth: NDArray[np.float32]
    placements: NDArray[np.float32]
    models: NDArray[np.float32]
    ahead: NDArray[np.float32]


class Window(NamedTuple):
    """How many rows the tables have room for.

    Attributes:
        candidates: N, ready stages.
        jobs: J.
        nodes: M, stages of a graph observation.
        edges: L, likewise.
    """

    candidates: int
    jobs: int
    nodes: int
    edges: int

    @classmethod
    def given(cls, candidates: int, jobs: int) -> Self:
        """Return a window of so many candidates and jobs."""
        return cls(candidates, jobs, candidates * NODES_PER_ROW, candidates * EDGES_PER_ROW)

    @classmethod
    def around(cls, workload: Workload) -> Self:
        """Return a window into which everything fits that any moment of a workload may show.

        Every job counts as much as the largest of its application: how many stages it will turn out to have is hidden.
        """
        sizes = np.zeros((workload.n_jobs, 3), np.int64)
        _measure_jobs(workload.stages, workload.children, np.zeros(len(workload.stages), np.bool_), sizes)
        apps = workload.jobs["app"].astype(np.int64)
        largest = np.zeros((len(workload.templates), 3), np.int64)
        np.maximum.at(largest, apps, sizes)
        candidates, nodes, edges = np.maximum(largest[apps].sum(axis=0), 1).tolist()
        return cls(candidates, workload.n_jobs, nodes, edges)


@dataclass(frozen=True)
class TableShapes:
    """The tables of an environment.

    Attributes:
        window: How many rows there are.
        executors: E.
        placements: 1, or E where actions choose the executor.
        graph: Whether ``nodes`` and ``edges`` were asked for.
        privileged: Whether ``truth`` was.
        models: Models of the cluster, where ``placements`` and ``models`` were asked for; else None.
    """

    window: Window
    executors: int
    placements: int
    graph: bool
    privileged: bool
    models: int | None = None

    def check_size(self, episodes: int = 1) -> None:
        """Check that the observations of so many episodes have room in memory, before they are made.

        Raises:
            InputError: They take more than `MAX_BYTES`.
        """
        size = self._bytes * episodes
        if size > MAX_BYTES:
            what = "max_candidates, max_jobs" if episodes == 1 else "num_envs, max_candidates, max_jobs"
            found = Plain(f"observations of {size / 2**30:.3g} GiB")
            allowed = f"numbers whose observations take at most {MAX_BYTES / 2**30:g} GiB"
            raise InputError("environment", what, found, allowed)

    @property
    def actions(self) -> int:
        """Number of actions: each candidate on each placement, and to wait."""
        return self.window.candidates * self.placements + 1

    @cached_property
    def all(self) -> Mapping[str, tuple[tuple[int, ...], Any]]:
        """Shape and type of every table, in the order of `Tables`."""
        window, floats = self.window, np.float32
        return {
            "candidates": ((window.candidates, len(Candidate)), floats),
            "jobs": ((window.jobs, len(Job)), floats),
            "executors": ((self.executors, len(Executor)), floats),
            "system": ((len(System),), floats),
            "action_mask": ((self.actions,), np.int8),
            "nodes": ((window.nodes if self.graph else 0, len(Node)), floats),
            "edges": ((window.edges if self.graph else 0, 2), np.int32),
            "truth": ((window.candidates if self.privileged else 0, len(Truth)), floats),
            "placements": ((0 if self.models is None else window.candidates, self.executors, len(Placement)), floats),
            "models": ((0 if self.models is None else self.executors, self.models or 0, len(Residency)), floats),
            "ahead": ((window.nodes if self.graph and self.models is not None else 0, len(Ahead)), floats),
        }

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Names of the tables of an observation."""
        placed = self.models is not None
        optional = {"nodes": self.graph, "edges": self.graph, "truth": self.privileged}
        optional |= {"placements": placed, "models": placed, "ahead": placed and self.graph}
        return tuple(name for name in self.all if optional.get(name, True))

    def space(self) -> spaces.Dict:
        """Return the space of observations."""
        tables: dict[str, spaces.Space[Any]] = {}
        for name in self.asked:
            shape, dtype = self.all[name]
            if name == "action_mask":
                tables[name] = spaces.MultiBinary(self.actions)
            elif name == "edges":
                tables[name] = spaces.Box(0, self.window.nodes, shape, dtype)
            else:
                tables[name] = spaces.Box(-np.inf, np.inf, shape, dtype)
        return spaces.Dict(tables)

    def new(self, episodes: int) -> Tables:
        """Return zeros for so many episodes, with a leading axis."""
        piece = self._pieces.get(episodes)
        if piece is None:
            piece = self._pieces[episodes] = OnePiece(((episodes, *shape), dtype) for shape, dtype in self.all.values())
        return Tables(*piece.zeros())

    def as_observation(self, tables: Tables) -> Observation:
        """Return the tables that were asked for, by name."""
        return {name: tables[i] for name, i in self._asked}

    def first(self, tables: Tables) -> Observation:
        """Return the same of the first episode."""
        return {name: tables[i][0] for name, i in self._asked}

    @cached_property
    def _asked(self) -> tuple[tuple[str, int], ...]:
        order = list(self.all)
        return tuple((name, order.index(name)) for name in self.asked)

    @cached_property
    def _pieces(self) -> dict[int, OnePiece]:
        """By number of episodes: where their tables lie."""
        return {}

    @cached_property
    def _bytes(self) -> int:
        return sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.all.values())


@kernel
def _measure_jobs(
    stages: Rows, children: NDArray[np.int32], continued: NDArray[np.bool_], sizes: NDArray[np.int64]
) -> None:
    """Bound how much of each job can be seen at once: (ready stages, nodes, edges).

    A greedy cover of its graph by paths bounds how many of its stages can be ready together (stages that can be
    ready together lie on different paths).

    Args:
        stages: `STAGE` rows.
        children: Child lists.
        continued: Scratch, one per stage, False.
        sizes: int64 (jobs, 3), zeros; written.
    """
    for s in range(len(stages)):
        row = sizes[stages[s].job]
        if stages[s].present == 1 and not continued[s]:
            row[0] += 1  # a new path begins here
        for k in range(stages[s].first_child, stages[s].first_child + stages[s].n_children):
            child = children[k]
            if stages[s].present == 1 and stages[child].present == 1 and not continued[child]:
                continued[child] = True
                break
        row[1] += 1
        row[2] += stages[s].n_children
