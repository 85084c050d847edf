"""Planned sub-DAGs: a table of measured plan shapes, and the edges of one plan in a job block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads.detmath import Floats, Ints


class PlanShapes(NamedTuple):
    """Plan shapes and how often each occurs; they keep the order of the facts.

    Attributes:
        size: (K,) tasks of each shape.
        edges: (K, M, M) ``edges[k, c, p]``: task p of shape k precedes task c (p < c); M is the largest size.
        weight: (K,) relative frequencies.
        cumulative: (K,) the same summed up, to draw a shape by `variates.category`.
    """

    size: Ints
    edges: NDArray[np.bool_]
    weight: Floats
    cumulative: Floats

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]], largest: int) -> PlanShapes:
        """Read facts entries ``{"tasks": n, "edges": [[parent, child], ...], "count": c}``."""
        edges = np.zeros((len(entries), largest, largest), dtype=np.bool_)
        for k, entry in enumerate(entries):
            for parent, child in entry["edges"]:
                edges[k, child, parent] = True
        size = np.array([entry["tasks"] for entry in entries], dtype=np.int64)
        weight = np.array([entry["count"] for entry in entries], dtype=np.float64)
        return cls(size, edges, weight, np.cumsum(weight))


@kernel
def link_plan(
    parents: NDArray[np.bool_], edges: NDArray[np.bool_], size: int, dynamic: int, first: int, after: int
) -> None:
    """Add the edges of a planned sub-DAG to one job's.

    Its sources follow the dynamic slot; its sinks and the dynamic slot precede what comes next.

    Args:
        parents: (S, S) the job's row of ``JobBlock.parents``, changed in place.
        edges: (M, M) edges among the planned tasks, as in `PlanShapes`.
        size: Number of planned tasks.
        dynamic: The dynamic slot.
        first: First of the M slots of planned tasks.
        after: Slot that waits for the whole sub-DAG.
    """
    for task in range(size):
        source = sink = True
        for other in range(size):
            if edges[task, other]:
                parents[first + task, first + other] = True
                source = False
            if edges[other, task]:
                sink = False
        parents[first + task, dynamic] = source
        parents[after, first + task] = sink
    parents[after, dynamic] = True
