"""Planned sub-DAGs: a table of measured plan shapes, and their edges in a job block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import Ints, categorical


@dataclass(frozen=True)
class PlanShapes:
    """Plan shapes and how often each occurs.

    Attributes:
        size: (K,) tasks of each shape.
        edges: (K, M, M) ``edges[k, c, p]``: task p of shape k precedes task c (p < c); M is the largest size.
        weight: (K,) relative frequencies.
    """

    size: Ints
    edges: NDArray[np.bool_]
    weight: Floats

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]], largest: int) -> PlanShapes:
        """Read facts entries ``{"tasks": n, "edges": [[parent, child], ...], "count": c}``."""
        edges = np.zeros((len(entries), largest, largest), dtype=bool)
        for k, entry in enumerate(entries):
            for parent, child in entry["edges"]:
                edges[k, child, parent] = True
        size = np.array([entry["tasks"] for entry in entries], dtype=np.int64)
        return cls(size, edges, np.array([entry["count"] for entry in entries], dtype=np.float64))

    def draw(self, u: Floats) -> Ints:
        """Shape index for each uniform of `u`; shapes keep the order of the table."""
        return categorical(u, self.weight)


def link_plan(
    parents: NDArray[np.bool_], edges: NDArray[np.bool_], size: Ints, dynamic: int, first: int, after: int
) -> None:
    """Write the edges of a sub-DAG into ``JobBlock.parents``.

    Its sources follow the dynamic slot; its sinks and the dynamic slot precede what comes next.

    Args:
        parents: (n, S, S), changed in place.
        edges: (n, M, M) edges among the planned tasks.
        size: (n,) number of planned tasks.
        dynamic: The dynamic slot.
        first: First of the M slots of planned tasks.
        after: Slot that waits for the whole sub-DAG.
    """
    slots = slice(first, first + edges.shape[1])
    member = np.arange(edges.shape[1]) < size[:, None]
    parents[:, slots, slots] = edges
    parents[:, slots, dynamic] = member & ~edges.any(axis=2)
    parents[:, after, slots] = member & ~edges.any(axis=1)
    parents[:, after, dynamic] = True
