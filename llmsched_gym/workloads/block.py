"""What an application's sampler returns: many jobs of one application as dense arrays, and their flattening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.links import link_stages, number_job_prefixes, starts
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind
from llmsched_gym.workloads.workload import JOB, STAGE, TASK, Workload

BYTES_PER_TOKEN = 4
"""Assumed size of one token of text; sets the output bytes of LLM tasks."""


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

    stages = np.zeros(int(jobs["n_stages"].sum()), dtype=STAGE)
    edges: list[NDArray[np.intp]] = []
    stage_of: list[NDArray[np.intp]] = []  # per part (n, S): row of the slot's stage
    for part, row in zip(parts, ranks, strict=True):
        if part.block is None:
            stage_of.append(np.empty((0, 0), dtype=np.intp))
            continue
        index = jobs["first_stage"][row][:, None] + np.cumsum(part.block.exists, axis=1) - 1
        stage_of.append(index)
        _fill_stages(stages, part, part.block, row, index)
        existing = part.block.exists[:, :, None] & part.block.exists[:, None, :]
        job, child, parent = np.nonzero(part.block.parents & existing)
        edges.append(np.stack([index[job, parent], index[job, child]]))
    stages["first_task"] = starts(stages["n_tasks"])
    children, reveals = link_stages(stages, np.concatenate([np.empty((2, 0), dtype=np.intp), *edges], axis=1))

    tasks = np.zeros(int(stages["n_tasks"].sum()), dtype=TASK)
    first_prefixes = starts([part.n_prefixes for part in parts])
    for part, first_prefix, index in zip(parts, first_prefixes, stage_of, strict=True):
        if part.block is not None:
            _fill_tasks(tasks, stages, part.block, index, int(first_prefix))
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


def _fill_stages(
    stages: NDArray[Any], part: Part, block: JobBlock, row: NDArray[np.intp], index: NDArray[np.intp]
) -> None:
    """Write the `STAGE` rows of one part; `row` is the job of each block row, `index` (n, S) the stage of each slot."""
    kinds = np.array([int(node.kind) for node in part.template.nodes])
    job, slot = np.nonzero(block.exists)
    at = index[job, slot]
    node = block.node[job, slot]
    present = block.present[job, slot]
    revealer = block.revealer[job, slot]
    stages["job"][at] = row[job]
    stages["node"][at] = node
    stages["kind"][at] = kinds[node]
    stages["present"][at] = present
    stages["revealer"][at] = np.where(revealer >= 0, index[job, np.maximum(revealer, 0)], -1)
    stages["n_tasks"][at] = np.where(present & (kinds[node] != StageKind.DYNAMIC), block.n_tasks[job, slot], 0)


def _fill_tasks(
    tasks: NDArray[Any], stages: NDArray[Any], block: JobBlock, index: NDArray[np.intp], first_prefix: int
) -> None:
    """Write the `TASK` rows of one part; job prefixes keep their job-local ids for `number_job_prefixes`."""
    n_tasks = np.where(block.exists, stages["n_tasks"][np.maximum(index, 0)], 0)
    job, slot, task = np.nonzero(np.arange(block.prompt_tokens.shape[2]) < n_tasks[:, :, None])
    stage = index[job, slot]
    at = stages["first_task"][stage] + task
    llm = stages["kind"][stage] == StageKind.LLM
    output = block.output_tokens[job, slot, task]
    size = 0 if block.output_bytes is None else block.output_bytes[job, slot, task]
    app_prefix = np.broadcast_to(block.app_prefix, block.exists.shape)[job, slot]
    job_prefix = block.job_prefix[job, slot]
    tasks["stage"][at] = stage
    tasks["model"][at] = np.where(llm, 0, -1)
    tasks["duration_ns"][at] = np.where(llm, 0, block.duration_ns[job, slot, task])
    tasks["output_bytes"][at] = np.where(llm, output * BYTES_PER_TOKEN, size)
    tasks["prompt_tokens"][at] = np.where(llm, block.prompt_tokens[job, slot, task], 0)
    tasks["output_tokens"][at] = np.where(llm, output, 0)
    tasks["app_prefix"][at] = np.where(llm & (app_prefix >= 0), app_prefix + first_prefix, -1)
    shared = block.app_prefix_tokens[job, slot]
    chained = np.where(job_prefix >= 0, block.job_prefix_tokens[job, slot], shared)
    tasks["app_prefix_tokens"][at] = np.where(llm, shared, 0)
    tasks["job_prefix"][at] = np.where(llm, job_prefix, -1)
    tasks["job_prefix_tokens"][at] = np.where(llm, chained, 0)
