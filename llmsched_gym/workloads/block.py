"""What an application's sampler returns: many jobs of one application as dense arrays, and their flattening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.flatten import DenseJobs, fill_stages, fill_tasks
from llmsched_gym.workloads.links import link_stages, number_job_prefixes, starts
from llmsched_gym.workloads.template import ApplicationTemplate
from llmsched_gym.workloads.workload import JOB, STAGE, TASK, Workload


@dataclass(frozen=True)
class JobBlock:
    """`n` jobs of one application; `S` stage slots in a topological order, up to `T` tasks per slot.

    Attributes:
        exists: bool (n, S). The slot is a stage of the job: static template stages always exist (an optional one that
            the job skips exists and is not present); slots of a planned sub-DAG exist only when the plan has them.
        node: int (n, S). Template node of the slot.
        present: bool (n, S). False for an optional stage that the job will skip.
        revealer: int (n, S). Slot whose completion reveals this one as present or skipped; -1: visible on arrival.
        parents: bool (n, S, S). ``parents[j, c, p]``: slot p precedes slot c (p < c). For a dynamic slot D of planner
            P: D has parent P and revealer -1; sub-DAG sources have parent D and revealer P; what follows has the
            sub-DAG's sinks and D as parents.
        n_tasks: int (n, S). Parallel tasks of the slot; 0 for dynamic slots.
        prompt_tokens, output_tokens: int (n, S, T). LLM tasks, both at least 1.
        duration_ns: int (n, S, T). Regular tasks.
        app_prefix: int (S,) or (n, S). Application-local prefix id per slot, -1: none. Ids 0.. are numbered per
            application.
        app_prefix_tokens: int (n, S). Leading prompt tokens that every job of the application shares.
        job_prefix: int (n, S). Job-local id of the chain that the slot's content continues, -1: none. Two tasks with
            the same id in one job share content: a later prompt repeats an earlier prompt and its output, or siblings
            sampled from one prompt.
        job_prefix_tokens: int (n, S). Leading prompt tokens of the slot that equal what the chain holds when the slot
            starts (siblings: the whole prompt; a growing conversation: the previous prompt plus its output);
            >= app_prefix_tokens. Ignored where job_prefix is -1.
        output_bytes: int (n, S, T) or None. Regular tasks' output; LLM outputs are 4 bytes per token.
    """

    exists: NDArray[np.bool_]
    node: NDArray[np.integer]
    present: NDArray[np.bool_]
    revealer: NDArray[np.integer]
    parents: NDArray[np.bool_]
    n_tasks: NDArray[np.integer]
    prompt_tokens: NDArray[np.integer]
    output_tokens: NDArray[np.integer]
    duration_ns: NDArray[np.integer]
    app_prefix: NDArray[np.integer]
    app_prefix_tokens: NDArray[np.integer]
    job_prefix: NDArray[np.integer]
    job_prefix_tokens: NDArray[np.integer]
    output_bytes: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class Part:
    """The jobs of one application in a workload.

    Attributes:
        template: The application.
        n_prefixes: Prefixes that all its jobs share.
        arrival_ns: int64 (n,), ascending; one per job of the block.
        block: The jobs; None where the workload happens to hold none of this application.
        turn: int (n,), or None. Decides between jobs that arrive at the same time, lowest first; else the earlier part
            goes first.
    """

    template: ApplicationTemplate
    n_prefixes: int
    arrival_ns: NDArray[np.int64]
    block: JobBlock | None
    turn: NDArray[np.integer] | None = None


def assemble(
    name: str,
    parts: Sequence[Part],
    history: Sequence[NDArray[Any]] = (),
    *,
    models: tuple[str, ...] = ("default",),
    provenance: Mapping[str, Any] | None = None,
) -> Workload:
    """Interleave the jobs of several applications by arrival, those of equal arrival by turn.

    Absent stages keep their row but get no task. LLM tasks ask for the first model.

    Args:
        name: Workload name.
        parts: One per application, in the order of ``Workload.templates``.
        history: One `HISTORY` array per part; empty only on the way to computing it.
        models: Names of the models.
        provenance: How the jobs were made.
    """
    arrival = np.concatenate([part.arrival_ns for part in parts])
    app = np.repeat(np.arange(len(parts)), [len(part.arrival_ns) for part in parts])
    turn = np.concatenate([np.zeros_like(part.arrival_ns) if part.turn is None else part.turn for part in parts])
    order = np.lexsort((turn, arrival))  # stable
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))

    jobs = np.zeros(len(order), dtype=JOB)
    jobs["arrival_ns"] = arrival[order]
    jobs["app"] = app[order]
    ranks = np.split(rank, starts([len(part.arrival_ns) for part in parts])[1:])
    for part, row in zip(parts, ranks, strict=True):
        if part.block is not None:
            jobs["n_stages"][row] = np.count_nonzero(part.block.exists, axis=1)
    jobs["first_stage"] = starts(jobs["n_stages"])

    first_prefixes = starts([part.n_prefixes for part in parts]).tolist()
    placed = [
        (_dense(part.template, part.block, row, jobs["first_stage"][row]), first_prefix)
        for part, row, first_prefix in zip(parts, ranks, first_prefixes, strict=True)
        if part.block is not None
    ]
    stages = np.zeros(int(jobs["n_stages"].sum()), dtype=STAGE)
    edges = np.empty((sum(np.count_nonzero(dense.parents) for dense, _ in placed), 2), dtype=np.int64)
    n_edges = 0
    for dense, _ in placed:
        n_edges = fill_stages(dense, stages, edges, n_edges, np.empty(dense.exists.shape[1], dtype=np.int64))
    stages["first_task"] = starts(stages["n_tasks"])
    children, reveals = link_stages(stages, edges[:n_edges])

    tasks = np.zeros(int(stages["n_tasks"].sum()), dtype=TASK)
    for dense, first_prefix in placed:
        fill_tasks(dense, stages, tasks, first_prefix)
    n_app_prefixes = sum(part.n_prefixes for part in parts)
    return Workload(
        name=name,
        templates=tuple(part.template for part in parts),
        history=tuple(history),
        models=models,
        jobs=jobs,
        stages=stages,
        tasks=tasks,
        children=children,
        reveals=reveals,
        n_app_prefixes=n_app_prefixes,
        n_prefixes=number_job_prefixes(tasks, stages, n_app_prefixes),
        provenance=dict(provenance or {}),
    )


def _dense(
    template: ApplicationTemplate, block: JobBlock, job: NDArray[np.int64], first_stage: NDArray[np.int32]
) -> DenseJobs:
    """Lay out a block for compiled loops; `job` and `first_stage` are the rows of each of its jobs.

    Raises:
        ValueError: Some slot has more tasks than there is room for.
    """
    room = block.prompt_tokens.shape[2]
    if (block.n_tasks > room).any():
        raise ValueError(f"{template.name}: a slot has {block.n_tasks.max()} tasks, but its arrays hold {room}")
    size = np.zeros_like(block.duration_ns) if block.output_bytes is None else block.output_bytes
    return DenseJobs(
        job=_in_one_layout(job, np.int64),
        first_stage=_in_one_layout(first_stage, np.int64),
        kind=np.array([int(node.kind) for node in template.nodes], dtype=np.int64),
        exists=_in_one_layout(block.exists, np.bool_),
        node=_in_one_layout(block.node, np.int64),
        present=_in_one_layout(block.present, np.bool_),
        revealer=_in_one_layout(block.revealer, np.int64),
        parents=_in_one_layout(block.parents, np.bool_),
        n_tasks=_in_one_layout(block.n_tasks, np.int64),
        prompt_tokens=_in_one_layout(block.prompt_tokens, np.int64),
        output_tokens=_in_one_layout(block.output_tokens, np.int64),
        duration_ns=_in_one_layout(block.duration_ns, np.int64),
        app_prefix=_in_one_layout(np.broadcast_to(block.app_prefix, block.exists.shape), np.int64),
        app_prefix_tokens=_in_one_layout(block.app_prefix_tokens, np.int64),
        job_prefix=_in_one_layout(block.job_prefix, np.int64),
        job_prefix_tokens=_in_one_layout(block.job_prefix_tokens, np.int64),
        output_bytes=_in_one_layout(size, np.int64),
    )


def _in_one_layout(values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return C-contiguous, writable values, copied where need be: another layout would be compiled for once more."""
    array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()
