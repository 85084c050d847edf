"""Writes workloads as JSON job traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.files import write_atomic
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.jobtrace_schema import (
    FORMAT,
    MAX_ARRIVAL_S,
    VERSION,
    ApplicationRecord,
    HistoryRecord,
    JobRecord,
    JobStageRecord,
    JobTrace,
    TaskRecord,
)
from llmsched_gym.workloads.layout import JobLayout
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.schema import stage_records
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN, HISTORY, Workload

_NS: Final = 1_000_000_000


def write_job_trace(workload: Workload, path: str | Path) -> None:
    """Export a workload; `read_job_trace` gives back one with an equal digest.

    Raises:
        InputError: `path` cannot be written, or the last job arrives later than a trace can hold.
    """
    content = trace_of(workload, path).model_dump(mode="json", exclude_defaults=True)
    jobs = ",\n".join(f"  {json.dumps(job)}" for job in content.pop("jobs"))  # a line per job: readable, and small
    head = json.dumps(content, indent=1).removesuffix("\n}")
    write_atomic(path, f'{head},\n "jobs": [\n{jobs}\n ]\n}}\n'.encode())


def trace_of(workload: Workload, path: str | Path) -> JobTrace:
    """Return the job trace of a workload: one entry per stage that has tasks, and per other that needs to be told of.

    Args:
        workload: The workload.
        path: Where the trace will stand, for messages.

    Raises:
        InputError: The last job arrives later than a trace can hold.
    """
    latest = int(workload.jobs["arrival_ns"].max(initial=0))
    if latest > MAX_ARRIVAL_S * _NS:
        raise InputError(path, "arrival_s", latest / _NS, f"arrivals up to {MAX_ARRIVAL_S:g} s")
    prefix_names = _prefix_names(workload)
    applications = tuple(
        ApplicationRecord(
            name=template.name,
            type=template.type,
            stages=stage_records(template),
            prefixes=prefix_names[app],
            history=_history_records(workload, app),
        )
        for app, template in enumerate(workload.templates)
    )
    return JobTrace(
        format=FORMAT,
        version=VERSION,
        name=workload.name,
        models=workload.models,
        applications=applications,
        jobs=_job_records(workload, tuple(name for names in prefix_names for name in names)),
    )


def _history_records(workload: Workload, app: int) -> tuple[HistoryRecord, ...] | None:
    """Return the historical means of an application; None if they are those of the very jobs, and read back as such."""
    rows = workload.history[app]
    if workload.provenance.get("history") == "self" and np.array_equal(rows, compute_history(workload, app)):
        return None
    return tuple(HistoryRecord(**{name: float(row[name]) for name in HISTORY.names or ()}) for row in rows)


def _prefix_names(workload: Workload) -> list[tuple[str, ...]]:
    """Name each application's prefixes; ids that no task uses go to the application before them."""
    tasks, n_apps = workload.tasks, len(workload.templates)
    used = tasks["app_prefix"] >= 0
    app = workload.jobs["app"][workload.stages["job"][tasks["stage"]]][used]
    bounds = np.full(n_apps + 1, workload.n_app_prefixes)
    np.minimum.at(bounds, app, tasks["app_prefix"][used])
    bounds[0] = 0
    bounds = np.minimum.accumulate(bounds[::-1])[::-1]
    return [tuple(f"prefix-{k}" for k in range(low, high)) for low, high in pairwise(bounds.tolist())]


def _job_records(workload: Workload, prefixes: Sequence[str]) -> tuple[JobRecord, ...]:
    stages = workload.stages
    by_child = np.argsort(workload.children, kind="stable")
    parents = np.repeat(np.arange(len(stages)), stages["n_children"])[by_child]
    first_parent = starts(stages["n_parents"])
    first_local = _first_prefixes(workload)
    records = []
    for j, job in enumerate(workload.jobs):
        first, template = int(job["first_stage"]), workload.templates[job["app"]]
        layout = JobLayout(template)
        ids: list[str] = []
        entries: list[JobStageRecord] = []
        for row in range(first, first + int(job["n_stages"])):
            stage = stages[row]
            node, present = int(stage["node"]), bool(stage["present"])
            at = int(first_parent[row])
            own = sorted(int(parent) - first for parent in parents[at : at + int(stage["n_parents"])])
            revealer = int(stage["revealer"]) - first if stage["revealer"] >= 0 else -1
            as_usual = own == layout.default_parents(node), revealer == layout.default_revealer(node)
            name = template.nodes[node].name
            ids.append(_unused(name, ids))
            layout.add(node, present, own, revealer)
            if not present and all(as_usual):
                continue
            entries.append(
                JobStageRecord(
                    stage=name,
                    id=None if ids[-1] == name else ids[-1],
                    present=present,
                    tasks=_task_records(workload, stage, prefixes, int(first_local[j]), template.nodes[node].model),
                    parents=None if as_usual[0] else tuple(ids[parent] for parent in own),
                    revealed_by=None if as_usual[1] else ids[revealer],
                )
            )
        records.append(
            JobRecord(application=template.name, arrival_s=int(job["arrival_ns"]) / _NS, stages=tuple(entries))
        )
    return tuple(records)


def _first_prefixes(workload: Workload) -> NDArray[np.int64]:
    """Lowest prefix id of each job, so that exported ids count from 0."""
    chained = workload.tasks["job_prefix"] >= 0
    first = np.full(workload.n_jobs, workload.n_prefixes, dtype=np.int64)
    job = workload.stages["job"][workload.tasks["stage"][chained]]
    np.minimum.at(first, job, workload.tasks["job_prefix"][chained])
    return first


def _unused(name: str, ids: Sequence[str]) -> str:
    """Return `name`, or with the first number that makes it differ from `ids`."""
    candidate, number = name, 1
    while candidate in ids:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _task_records(
    workload: Workload, stage: Any, prefixes: Sequence[str], first_local: int, model: str | None
) -> tuple[TaskRecord, ...]:
    """Return the records of a stage's tasks.

    `first_local` is the job's first prefix id, `model` the one that the template names for the stage.
    """
    first = int(stage["first_task"])
    usual = workload.models[0] if model is None else model
    records = []
    for task in workload.tasks[first : first + int(stage["n_tasks"])]:
        size = int(task["output_bytes"])
        if task["model"] < 0:
            records.append(TaskRecord(duration_s=int(task["duration_ns"]) / _NS, output_bytes=size or None))
            continue
        output, app_prefix, job_prefix = (int(task[name]) for name in ("output_tokens", "app_prefix", "job_prefix"))
        records.append(
            TaskRecord(
                prompt_tokens=int(task["prompt_tokens"]),
                output_tokens=output,
                model=None if (asked := workload.models[task["model"]]) == usual else asked,
                app_prefix=prefixes[app_prefix] if app_prefix >= 0 else None,
                app_prefix_tokens=int(task["app_prefix_tokens"]),
                job_prefix=job_prefix - first_local if job_prefix >= 0 else None,
                job_prefix_tokens=int(task["job_prefix_tokens"]) if job_prefix >= 0 else None,
                output_bytes=None if size == output * BYTES_PER_TOKEN else size,
            )
        )
    return tuple(records)
