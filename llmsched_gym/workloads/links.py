"""Index arithmetic of flat workloads: where lists start, children and reveal lists, dense prefix ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel


def starts(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions at which lists of these lengths start when they are laid end to end."""
    lengths = np.asarray(lengths, dtype=np.int64)
    return np.cumsum(lengths) - lengths


def link_stages(stages: NDArray[Any], edges: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Write the list columns of `stages` and return the concatenated lists.

    Args:
        stages: `STAGE` rows with ``revealer`` set; the columns about parents, children and reveals are still 0, and
            are written.
        edges: (E, 2) Parent and child of each edge, both as rows of `stages`; those of one parent by child.

    Returns:
        Children of all stages and stages revealed by all stages, each list ascending.
    """
    children = np.empty(len(edges), np.int32)
    reveals = np.empty(np.count_nonzero(stages["revealer"] >= 0), np.int32)
    _link(stages, edges, children, reveals)
    return children, reveals


@kernel
def _link(stages: Any, edges: NDArray[np.int64], children: NDArray[np.int32], reveals: NDArray[np.int32]) -> None:
    for e in range(len(edges)):
        stages[edges[e, 0]].n_children += 1
        stages[edges[e, 1]].n_parents += 1
    for s in range(len(stages)):
        if stages[s].revealer >= 0:
            stages[stages[s].revealer].n_reveals += 1
    child, revealed = 0, 0
    for s in range(len(stages)):
        child += stages[s].n_children
        revealed += stages[s].n_reveals
        stages[s].first_child = child
        stages[s].first_reveal = revealed
    # From its end to its start, so that each list begins where its stage says when it is full.
    for e in range(len(edges) - 1, -1, -1):
        parent = stages[edges[e, 0]]
        parent.first_child -= 1
        children[parent.first_child] = edges[e, 1]
    for s in range(len(stages) - 1, -1, -1):
        if stages[s].revealer >= 0:
            revealer = stages[stages[s].revealer]
            revealer.first_reveal -= 1
            reveals[revealer.first_reveal] = s


def number_job_prefixes(tasks: NDArray[Any], stages: NDArray[Any], n_app_prefixes: int) -> int:
    """Turn job-local prefix ids into workload-wide ones, in place, and return the number of prefixes in all.

    Ids are dense: application prefixes first, then those that tasks use, by job and local id.
    """
    chained = np.flatnonzero(tasks["job_prefix"] >= 0)
    local = tasks["job_prefix"][chained].astype(np.int64)
    job = stages["job"][tasks["stage"][chained]].astype(np.int64)
    width = int(local.max(initial=0)) + 1
    used, dense = np.unique(job * width + local, return_inverse=True)
    tasks["job_prefix"][chained] = n_app_prefixes + dense
    return n_app_prefixes + len(used)
