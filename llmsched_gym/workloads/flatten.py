"""Compiled loops that write the dense arrays of one application's jobs to the rows of a flat workload."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN


class PlacedJobs(NamedTuple):
    """Jobs of one application, and where they stand in a workload.

    Attributes:
        job: int64 (n,) Row of each job in the workload.
        first_stage: int64 (n,) Row of its first stage.
        kind: int64 (nodes,) `StageKind` of each template node.
        first_prefix: Id in the workload of the application's first prefix.
        block: The jobs, `in_one_layout`.
    """

    job: NDArray[np.int64]
    first_stage: NDArray[np.int64]
    kind: NDArray[np.int64]
    first_prefix: int
    block: JobBlock


@kernel
def fill_stages(
    placed: PlacedJobs, stages: Any, edges: NDArray[np.int64], n_edges: int, place: NDArray[np.int64]
) -> int:
    """Write the `STAGE` rows of the jobs, but for what depends on the stages of other applications, and their edges.

    Absent stages keep their row but get no task.

    Args:
        placed: The jobs.
        stages: Written.
        edges: (most edges, 2) Parent and child of each edge, as rows of `stages`; written from row `n_edges` on.
        n_edges: Edges so far.
        place: (S,) Scratch.

    Returns:
        Edges now; those that leave one parent have ascending children.
    """
    block = placed.block
    n, slots = block.exists.shape
    for j in range(n):
        after = placed.first_stage[j]
        for slot in range(slots):
            after += block.exists[j, slot]
            place[slot] = after - 1
        for slot in range(slots):
            if not block.exists[j, slot]:
                continue
            stage = stages[place[slot]]
            stage.job = placed.job[j]
            stage.node = block.node[j, slot]
            stage.kind = placed.kind[stage.node]
            stage.present = block.present[j, slot]
            stage.revealer = place[block.revealer[j, slot]] if block.revealer[j, slot] >= 0 else -1
            stage.n_tasks = block.n_tasks[j, slot] if stage.present == 1 and stage.kind != StageKind.DYNAMIC else 0
            for parent in range(slots):
                if block.parents[j, slot, parent] and block.exists[j, parent]:
                    edges[n_edges, 0] = place[parent]
                    edges[n_edges, 1] = place[slot]
                    n_edges += 1
    return n_edges


@kernel
def fill_tasks(placed: PlacedJobs, stages: Any, tasks: Any) -> None:
    """Write the `TASK` rows of the jobs; job prefixes keep their job-local ids for `links.number_job_prefixes`.

    Args:
        placed: The jobs.
        stages: `STAGE` rows, complete.
        tasks: Written.
    """
    block = placed.block
    n, slots = block.exists.shape
    for j in range(n):
        s = placed.first_stage[j] - 1
        for slot in range(slots):
            if not block.exists[j, slot]:
                continue
            s += 1
            for t in range(stages[s].n_tasks):
                task = tasks[stages[s].first_task + t]
                task.stage = s
                if stages[s].kind == StageKind.LLM:
                    task.model = 0
                    task.output_bytes = block.output_tokens[j, slot, t] * BYTES_PER_TOKEN
                    task.prompt_tokens = block.prompt_tokens[j, slot, t]
                    task.output_tokens = block.output_tokens[j, slot, t]
                    prefix = block.app_prefix[j, slot]
                    task.app_prefix = prefix + placed.first_prefix if prefix >= 0 else -1
                    task.app_prefix_tokens = block.app_prefix_tokens[j, slot]
                    chain = block.job_prefix[j, slot]
                    task.job_prefix = chain
                    covered = block.job_prefix_tokens[j, slot] if chain >= 0 else block.app_prefix_tokens[j, slot]
                    task.job_prefix_tokens = covered
                else:
                    task.model = -1
                    task.duration_ns = block.duration_ns[j, slot, t]
                    task.output_bytes = block.output_bytes[j, slot, t]
                    task.app_prefix = -1
                    task.job_prefix = -1
