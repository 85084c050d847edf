"""JSON job traces: a person's own workflows as a workload, and back (docs/workloads.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.files import parse_json, read_text
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.jobtrace_export import write_job_trace
from llmsched_gym.workloads.jobtrace_schema import (
    FORMAT,
    VERSION,
    ApplicationRecord,
    JobRecord,
    JobStageRecord,
    JobTrace,
    TaskRecord,
)
from llmsched_gym.workloads.layout import JobLayout
from llmsched_gym.workloads.links import link_stages, number_job_prefixes, starts
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN, HISTORY, JOB, STAGE, TASK, Workload

__all__ = ["read_job_trace", "workload_of", "write_job_trace"]

_NS: Final = 1_000_000_000


def read_job_trace(path: str | Path, history: str | Path | None = None) -> Workload:
    """Import a job trace.

    Historical means come from the jobs of the trace `history`, else from the trace's own ``history`` records, else from
    its own jobs; ``provenance["history"]`` is the path, ``"file"`` or ``"self"``. In the last case a policy that uses
    the means has seen the jobs that it schedules.

    Args:
        path: The trace.
        history: Another trace of the same applications.

    Raises:
        InputError: The first thing that is wrong, with its place in the file.
    """
    trace = _parse(path)
    if history is None:
        return workload_of(trace, path)
    workload = _build(path, trace)
    past = _build(history, _parse(history))
    tables = tuple(_history_from(history, past, template) for template in workload.templates)
    provenance = {"kind": "job trace", "source": str(path), "history": str(history)}
    workload = replace(workload, history=tables, provenance=provenance)
    validate_workload(workload, path)
    return workload


def workload_of(trace: JobTrace, source: str | Path) -> Workload:
    """Return the workload that a job trace describes; historical means are those of the trace, else of its own jobs.

    Args:
        trace: The trace.
        source: Where it came from.

    Raises:
        InputError: The first thing that is wrong, with its place in the trace.
    """
    workload = _build(source, trace)
    own = [_history_records(source, i, record, workload.templates[i]) for i, record in enumerate(trace.applications)]
    tables = tuple(compute_history(workload, i) if table is None else table for i, table in enumerate(own))
    told = "self" if any(table is None for table in own) else "file"
    provenance = {"kind": "job trace", "source": str(source), "history": told}
    workload = replace(workload, history=tables, provenance=provenance)
    validate_workload(workload, source)
    return workload


def _parse(path: str | Path) -> JobTrace:
    what = "a job trace: a JSON object (docs/workloads.md)"
    text = read_text(path, what)
    content = parse_json(path, text, what)
    if not isinstance(content, dict):
        raise InputError(path, "", content, what)
    for name, expected in (("format", FORMAT), ("version", VERSION)):
        found = content.get(name, Plain("nothing"))
        if found != expected or isinstance(found, bool):
            raise InputError(path, name, found, f"{expected}, which this release reads")
    try:
        return JobTrace.model_validate_json(text)
    except ValidationError as error:
        raise from_validation(path, error, JobTrace) from error


@dataclass
class _Rows:
    """Rows of the workload being built."""

    jobs: list[tuple[int, ...]] = field(default_factory=list)
    stages: list[tuple[int, ...]] = field(default_factory=list)
    tasks: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Application:
    index: int
    template: ApplicationTemplate
    prefixes: dict[str, int]  # name to workload-wide id


def _build(path: str | Path, trace: JobTrace) -> Workload:
    """Build the workload of a trace, without history."""
    applications: dict[str, _Application] = {}
    n_prefixes = 0
    for i, record in enumerate(trace.applications):
        if record.name in applications:
            raise InputError(path, f"applications.{i}.name", record.name, "application names that differ")
        ids = {name: n_prefixes + k for k, name in enumerate(record.prefixes)}
        if len(ids) != len(record.prefixes):
            raise InputError(path, f"applications.{i}.prefixes", Plain("a repeated name"), "prefix names that differ")
        n_prefixes += len(ids)
        applications[record.name] = _Application(i, record.template(path), ids)
    models = {name: i for i, name in enumerate(trace.models)}
    if len(models) != len(trace.models):
        raise InputError(path, "models", Plain("a repeated name"), "model names that differ")

    for i, application in enumerate(applications.values()):
        for k, node in enumerate(application.template.nodes):
            if node.model is not None and node.model not in models:
                place = f"applications.{i}.stages.{k}.model"
                raise InputError(path, place, node.model, f"one of the trace's models: {suggest(node.model, models)}")

    rows = _Rows()
    for j in sorted(range(len(trace.jobs)), key=lambda j: trace.jobs[j].arrival_s):
        job = trace.jobs[j]
        if job.application not in applications:
            raise InputError(path, f"jobs.{j}.application", job.application, suggest(job.application, applications))
        _JobReader(path, f"jobs.{j}", job, applications[job.application], models, rows).read()

    jobs = np.zeros(len(rows.jobs), dtype=JOB)
    jobs["arrival_ns"], jobs["app"], jobs["n_stages"] = np.array(rows.jobs, dtype=np.int64).T
    jobs["first_stage"] = starts(jobs["n_stages"])
    stages = np.zeros(len(rows.stages), dtype=STAGE)
    for name, column in zip(_STAGE_COLUMNS, np.array(rows.stages, dtype=np.int64).T, strict=True):
        stages[name] = column
    stages["first_task"] = starts(stages["n_tasks"])
    tasks = np.zeros(len(rows.tasks), dtype=TASK)
    values = np.array(rows.tasks, dtype=np.int64).reshape(-1, len(_TASK_COLUMNS))
    for name, column in zip(_TASK_COLUMNS, values.T, strict=True):
        tasks[name] = column
    children, reveals = link_stages(stages, np.array(rows.edges, dtype=np.int64).reshape(-1, 2))
    return Workload(
        name=trace.name,
        templates=tuple(application.template for application in applications.values()),
        history=(),
        models=trace.models,
        jobs=jobs,
        stages=stages,
        tasks=tasks,
        children=children,
        reveals=reveals,
        n_app_prefixes=n_prefixes,
        n_prefixes=number_job_prefixes(tasks, stages, n_prefixes),
    )


_STAGE_COLUMNS: Final = ("job", "node", "kind", "present", "revealer", "n_tasks")
_TASK_COLUMNS: Final = (
    "stage",
    "model",
    "duration_ns",
    "output_bytes",
    "prompt_tokens",
    "output_tokens",
    "app_prefix",
    "app_prefix_tokens",
    "job_prefix",
    "job_prefix_tokens",
)


@dataclass
class _JobReader:
    """Appends the rows of one job."""

    path: str | Path
    place: str
    record: JobRecord
    application: _Application
    models: dict[str, int]
    rows: _Rows

    def read(self) -> None:
        template = self.application.template
        listed: dict[int, list[int]] = {}
        for s, stage in enumerate(self.record.stages):
            if stage.stage not in template.index:
                raise self._error(s, "stage", stage.stage, suggest(stage.stage, template.index))
            listed.setdefault(template.index[stage.stage], []).append(s)
        layout = JobLayout(template)
        ids: dict[str, int] = {}
        first = len(self.rows.stages)
        for node, one in enumerate(template.nodes):
            if one.candidate_of is not None:
                continue
            here = listed.get(node, [])
            if len(here) > 1:
                raise self._error(here[1], "stage", one.name, "one entry per stage that is not a candidate")
            self._add(layout, ids, node, here[0] if here else None)
            if one.kind is StageKind.DYNAMIC:
                candidates = [c for c, other in enumerate(template.nodes) if other.candidate_of == one.name]
                planned = [(s, c) for c in candidates for s in listed.get(c, [])]
                for s, candidate in sorted(planned):
                    self._add(layout, ids, candidate, s)
        arrival_ns = round(self.record.arrival_s * _NS)
        self.rows.jobs.append((arrival_ns, self.application.index, len(self.rows.stages) - first))

    def _error(self, s: int, field: str, value: Any, allowed: str) -> InputError:
        return InputError(self.path, f"{self.place}.stages.{s}.{field}", value, allowed)

    def _add(self, layout: JobLayout, ids: dict[str, int], node: int, s: int | None) -> None:
        """Append the stage with entry `s`, or one that the job does not list."""
        one = self.application.template.nodes[node]
        entry = self._unlisted(layout, node) if s is None else self.record.stages[s]
        s = len(self.record.stages) if s is None else s
        name = entry.id or entry.stage
        if name in ids:
            raise self._error(s, "id", name, "ids that differ within the job")
        parents = layout.default_parents(node)
        if entry.parents is not None:
            parents = sorted({self._row(ids, s, "parents", parent) for parent in entry.parents})
        revealer = layout.default_revealer(node)
        if entry.revealed_by is not None:
            revealer = self._row(ids, s, "revealed_by", entry.revealed_by)
        if one.candidate_of is not None and not layout.present[layout.row[one.candidate_of]]:
            raise self._error(s, "stage", entry.stage, f"no planned stage where {one.candidate_of} is absent")
        if not entry.present and (one.candidate_of is not None or revealer < 0):
            raise self._error(s, "present", False, "true: only optional stages can be absent")
        runs = entry.present and one.kind is not StageKind.DYNAMIC
        if runs != bool(entry.tasks):
            allowed = "at least one task" if runs else "no task in an absent or dynamic stage"
            raise self._error(s, "tasks", len(entry.tasks), allowed)

        base = len(self.rows.stages) - len(layout.nodes)
        row = layout.add(node, entry.present, parents, revealer)
        ids[name] = row
        self.rows.edges.extend((base + parent, base + row) for parent in parents)
        shown = base + revealer if revealer >= 0 else -1
        self.rows.stages.append((len(self.rows.jobs), node, int(one.kind), int(entry.present), shown, len(entry.tasks)))
        for t, task in enumerate(entry.tasks):
            if one.model is None and task.model != entry.tasks[0].model:
                allowed = f"{entry.tasks[0].model}, as the first task: a stage asks for one model"
                raise self._error(s, f"tasks.{t}.model", task.model, allowed)
            if one.model is not None and task.model not in (None, one.model):
                allowed = f"{one.model}, which the application names for the stage, or nothing"
                raise self._error(s, f"tasks.{t}.model", task.model, allowed)
            values = self._llm(s, t, task, one.model) if one.kind is StageKind.LLM else self._regular(s, t, task)
            self.rows.tasks.append((base + row, *values))

    def _unlisted(self, layout: JobLayout, node: int) -> JobStageRecord:
        one = self.application.template.nodes[node]
        if one.kind is StageKind.DYNAMIC and one.revealed_by is not None:
            return JobStageRecord(stage=one.name, present=layout.present[layout.row[one.revealed_by]])
        if one.revealed_by is None:
            raise InputError(
                self.path, f"{self.place}.stages", Plain(f"no {one.name}"), "every stage that is not optional"
            )
        return JobStageRecord(stage=one.name, present=False)

    def _row(self, ids: dict[str, int], s: int, field: str, name: str) -> int:
        if name not in ids:
            raise self._error(s, field, name, "the id of a stage of this job that comes earlier in the application")
        return ids[name]

    def _regular(self, s: int, t: int, task: TaskRecord) -> tuple[int, ...]:
        if task.duration_s is None:
            raise self._error(s, f"tasks.{t}.duration_s", Plain("nothing"), "seconds >= 0 in a regular stage")
        extra = task.model_fields_set - {"duration_s", "output_bytes"}
        if extra:
            allowed = "only duration_s and output_bytes in a regular stage"
            raise self._error(s, f"tasks.{t}.{min(extra)}", Plain("a value"), allowed)
        return (-1, round(task.duration_s * _NS), task.output_bytes or 0, 0, 0, -1, 0, -1, 0)

    def _llm(self, s: int, t: int, task: TaskRecord, stage_model: str | None) -> tuple[int, ...]:
        place = f"tasks.{t}"
        model = stage_model if task.model is None else task.model
        if task.prompt_tokens is None or task.output_tokens is None:
            missing = "prompt_tokens" if task.prompt_tokens is None else "output_tokens"
            raise self._error(s, f"{place}.{missing}", Plain("nothing"), "a whole number >= 1 in an LLM stage")
        if task.duration_s is not None:
            raise self._error(s, f"{place}.duration_s", task.duration_s, "tokens, not a duration, in an LLM stage")
        if task.model is not None and task.model not in self.models:
            raise self._error(s, f"{place}.model", task.model, suggest(task.model, self.models))
        prefixes = self.application.prefixes
        if task.app_prefix is not None and task.app_prefix not in prefixes:
            allowed = suggest(task.app_prefix, prefixes) if prefixes else "no prefix: the application names none"
            raise self._error(s, f"{place}.app_prefix", task.app_prefix, allowed)
        shared, prompt = task.app_prefix_tokens, task.prompt_tokens
        chained = shared if task.job_prefix_tokens is None else task.job_prefix_tokens
        if shared > (0 if task.app_prefix is None else prompt):
            raise self._error(s, f"{place}.app_prefix_tokens", shared, "at most prompt_tokens, 0 without app_prefix")
        if task.job_prefix is None and task.job_prefix_tokens is not None:
            raise self._error(s, f"{place}.job_prefix_tokens", chained, "nothing without job_prefix")
        if not shared <= chained <= prompt:
            raise self._error(s, f"{place}.job_prefix_tokens", chained, "app_prefix_tokens to prompt_tokens")
        size = task.output_tokens * BYTES_PER_TOKEN if task.output_bytes is None else task.output_bytes
        return (
            0 if model is None else self.models[model],
            0,
            size,
            prompt,
            task.output_tokens,
            -1 if task.app_prefix is None else prefixes[task.app_prefix],
            shared,
            -1 if task.job_prefix is None else task.job_prefix,
            chained,
        )


def _history_records(
    path: str | Path, app: int, record: ApplicationRecord, template: ApplicationTemplate
) -> NDArray[Any] | None:
    """Return the history that an application's record holds, None if it holds none."""
    if record.history is None:
        return None
    if len(record.history) != len(template.nodes):
        allowed = f"{len(template.nodes)} records, one per stage"
        raise InputError(path, f"applications.{app}.history", len(record.history), allowed)
    names = HISTORY.names or ()
    return np.array([tuple(getattr(row, name) for name in names) for row in record.history], dtype=HISTORY)


def _history_from(path: str | Path, past: Workload, template: ApplicationTemplate) -> NDArray[Any]:
    """Average the jobs of an application in another trace."""
    names = [other.name for other in past.templates]
    if template.name not in names:
        raise InputError(path, "applications", Plain(f"no {template.name}"), "the applications of the trace itself")
    app = names.index(template.name)
    if _without_models(past.templates[app]) != _without_models(template):  # means are of tokens, whoever made them
        allowed = f"those of {template.name} in the trace itself"
        raise InputError(path, f"applications.{app}.stages", Plain("other stages"), allowed)
    return compute_history(past, app)


def _without_models(template: ApplicationTemplate) -> list[TemplateNode]:
    return [replace(node, model=None) for node in template.nodes]
