"""Interleaves the jobs of several applications to a flat workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.block import JobBlock, in_one_layout
from llmsched_gym.workloads.flatten import PlacedJobs, fill_stages, fill_tasks
from llmsched_gym.workloads.links import link_stages, number_job_prefixes, starts
from llmsched_gym.workloads.stage_models import ask_by_stage
from llmsched_gym.workloads.template import ApplicationTemplate
from llmsched_gym.workloads.workload import JOB, STAGE, TASK, Workload


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

    Absent stages keep their row but get no task. LLM tasks ask for the model that their template names, else the first.

    Args:
        name: Workload name.
        parts: One per application, in the order of ``Workload.templates``.
        history: One `HISTORY` array per part; empty only on the way to computing it.
        models: Names of the models.
        provenance: How the jobs were made.

    Raises:
        ValueError: A block is not as `JobBlock` says.
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

    placed: list[PlacedJobs] = []
    n_app_prefixes = 0
    for part, row in zip(parts, ranks, strict=True):
        if part.block is not None:
            first_stage = jobs["first_stage"][row].astype(np.int64)
            block = in_one_layout(part.block, part.template.name)
            placed.append(PlacedJobs(row, first_stage, part.template.kinds, n_app_prefixes, block))
        n_app_prefixes += part.n_prefixes
    stages = np.zeros(int(jobs["n_stages"].sum()), dtype=STAGE)
    edges = np.empty((sum(np.count_nonzero(one.block.parents) for one in placed), 2), dtype=np.int64)
    n_edges = 0
    for one in placed:
        scratch = np.empty(one.block.exists.shape[1], dtype=np.int64)
        n_edges = fill_stages(one, stages, edges, n_edges, scratch)
    stages["first_task"] = starts(stages["n_tasks"])
    children, reveals = link_stages(stages, edges[:n_edges])

    tasks = np.zeros(int(stages["n_tasks"].sum()), dtype=TASK)
    for one in placed:
        fill_tasks(one, stages, tasks)
    workload = Workload(
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
    return ask_by_stage(workload)
