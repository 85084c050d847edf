"""Index arithmetic of flat workloads: where lists start, children and reveal lists, dense prefix ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def starts(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions at which lists of these lengths start when they are laid end to end."""
    lengths = np.asarray(lengths, dtype=np.int64)
    return np.cumsum(lengths) - lengths


def link_stages(stages: NDArray[Any], edges: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Write the list columns of `stages` and return the concatenated lists.

    Args:
        stages: `STAGE` rows with ``revealer`` set; the columns about parents, children and reveals are written.
        edges: int (2, E), parent and child of each edge, both as rows of `stages`.

    Returns:
        Children of all stages and stages revealed by all stages, each list ascending.
    """
    parent, child = edges
    by_parent = np.lexsort((child, parent))
    stages["n_parents"] = np.bincount(child, minlength=len(stages))
    stages["n_children"] = np.bincount(parent, minlength=len(stages))
    stages["first_child"] = starts(stages["n_children"])

    revealed = np.flatnonzero(stages["revealer"] >= 0)
    revealer = stages["revealer"][revealed]
    stages["n_reveals"] = np.bincount(revealer, minlength=len(stages))
    stages["first_reveal"] = starts(stages["n_reveals"])
    by_revealer = np.argsort(revealer, kind="stable")
    return child[by_parent].astype(np.int32), revealed[by_revealer].astype(np.int32)


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
