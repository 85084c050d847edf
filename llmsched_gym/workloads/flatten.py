"""Compiled loops that write the dense arrays of one application's jobs to the rows of a flat workload."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

_LLM: Final = int(StageKind.LLM)
_DYNAMIC: Final = int(StageKind.DYNAMIC)


class DenseJobs(NamedTuple):
    """Where the jobs of a `JobBlock` stand in a workload, and its arrays in one layout: C-contiguous, int64 or bool.

    Attributes:
        job: (n,) Row of each job in the workload.
        first_stage: (n,) Row of its first stage.
        kind: (nodes,) `StageKind` of each template node.
        exists: As in `JobBlock`, and so are all others.
    """

    job: NDArray[np.int64]
    first_stage: NDArray[np.int64]
    kind: NDArray[np.int64]
    exists: NDArray[np.bool_]
    node: NDArray[np.int64]
    present: NDArray[np.bool_]
    revealer: NDArray[np.int64]
    parents: NDArray[np.bool_]
    n_tasks: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    duration_ns: NDArray[np.int64]
    app_prefix: NDArray[np.int64]
    app_prefix_tokens: NDArray[np.int64]
    job_prefix: NDArray[np.int64]
    job_prefix_tokens: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


@kernel
def fill_stages(dense: DenseJobs, stages: Any, edges: NDArray[np.int64], n_edges: int, place: NDArray[np.int64]) -> int:
    """Write the `STAGE` rows of the jobs, but for what depends on the stages of other applications, and their edges.

    Absent stages keep their row but get no task.

    Args:
        dense: The jobs.
        stages: Written.
        edges: (most edges, 2) Parent and child of each edge, as rows of `stages`; written from row `n_edges` on.
        n_edges: Edges so far.
        place: (S,) Scratch.

    Returns:
        Edges now; those that leave one parent have ascending children.
    """
    n, slots = dense.exists.shape
    for j in range(n):
        after = dense.first_stage[j]
        for slot in range(slots):
            after += dense.exists[j, slot]
            place[slot] = after - 1
        for slot in range(slots):
            if not dense.exists[j, slot]:
                continue
            stage = stages[place[slot]]
            stage.job = dense.job[j]
            stage.node = dense.node[j, slot]
            stage.kind = dense.kind[stage.node]
            stage.present = dense.present[j, slot]
            stage.revealer = place[dense.revealer[j, slot]] if dense.revealer[j, slot] >= 0 else -1
            stage.n_tasks = dense.n_tasks[j, slot] if stage.present == 1 and stage.kind != _DYNAMIC else 0
            for parent in range(slots):
                if dense.parents[j, slot, parent] and dense.exists[j, parent]:
                    edges[n_edges, 0] = place[parent]
                    edges[n_edges, 1] = place[slot]
                    n_edges += 1
    return n_edges


@kernel
def fill_tasks(dense: DenseJobs, stages: Any, tasks: Any, first_prefix: int) -> None:
    """Write the `TASK` rows of the jobs; job prefixes keep their job-local ids for `links.number_job_prefixes`.

    Args:
        dense: The jobs.
        stages: `STAGE` rows, complete.
        tasks: Written.
        first_prefix: Id in the workload of the application's first prefix.
    """
    n, slots = dense.exists.shape
    for j in range(n):
        s = dense.first_stage[j] - 1
        for slot in range(slots):
            if not dense.exists[j, slot]:
                continue
            s += 1
            for t in range(stages[s].n_tasks):
                task = tasks[stages[s].first_task + t]
                task.stage = s
                if stages[s].kind == _LLM:
                    task.model = 0
                    task.output_bytes = dense.output_tokens[j, slot, t] * BYTES_PER_TOKEN
                    task.prompt_tokens = dense.prompt_tokens[j, slot, t]
                    task.output_tokens = dense.output_tokens[j, slot, t]
                    prefix = dense.app_prefix[j, slot]
                    task.app_prefix = prefix + first_prefix if prefix >= 0 else -1
                    task.app_prefix_tokens = dense.app_prefix_tokens[j, slot]
                    chain = dense.job_prefix[j, slot]
                    task.job_prefix = chain
                    covered = dense.job_prefix_tokens[j, slot] if chain >= 0 else dense.app_prefix_tokens[j, slot]
                    task.job_prefix_tokens = covered
                else:
                    task.model = -1
                    task.duration_ns = dense.duration_ns[j, slot, t]
                    task.output_bytes = dense.output_bytes[j, slot, t]
                    task.app_prefix = -1
                    task.job_prefix = -1
