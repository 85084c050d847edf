"""Index arithmetic of flat workloads: where lists start, children and reveal lists, dense prefix ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel, kernel


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

    Ids are dense: application prefixes first, then those that tasks use, by job and local id. The tasks of a job are
    adjacent.
    """
    return _number(tasks, stages, n_app_prefixes, np.empty(len(tasks), np.int64))


@allocating_kernel
def _number(tasks: Any, stages: Any, n_prefixes: int, used: NDArray[np.int64]) -> int:
    """Number the prefixes from `n_prefixes` on; `used` is scratch for the local ids of one job."""
    first = 0
    while first < len(tasks):
        job = stages[tasks[first].stage].job
        end, n_used = first, 0
        while end < len(tasks) and stages[tasks[end].stage].job == job:
            if tasks[end].job_prefix >= 0:
                used[n_used] = tasks[end].job_prefix
                n_used += 1
            end += 1
        n_used = _sort_out(used[:n_used])
        for t in range(first, end):
            if tasks[t].job_prefix >= 0:
                tasks[t].job_prefix = n_prefixes + np.searchsorted(used[:n_used], tasks[t].job_prefix)
        n_prefixes += n_used
        first = end
    return n_prefixes


@allocating_kernel
def _sort_out(values: NDArray[np.int64]) -> int:
    """Bring the different values to the front, in ascending order; returns how many there are."""
    values.sort()
    different = 0
    for k in range(len(values)):
        if k == 0 or values[k] != values[different - 1]:
            values[different] = values[k]
            different += 1
    return different
