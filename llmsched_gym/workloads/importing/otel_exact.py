"""Job traces as OpenTelemetry traces, and back without loss.

A job is a trace: an ``invoke_agent`` span, and inside it one span per task, by the semantic conventions for generative
AI. What these have no name for stands in attributes that begin with ``llmsched_gym.``: the applications in one of the
resource, whose presence marks such a file; what a stage or task has beyond tokens, model and duration in its span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import parse_json, write_atomic
from llmsched_gym.workloads.history import nominal_ns
from llmsched_gym.workloads.importing.otlp import Attributes, Span
from llmsched_gym.workloads.importing.recorded import whole
from llmsched_gym.workloads.jobtrace_export import trace_of
from llmsched_gym.workloads.jobtrace_schema import JobRecord, JobStageRecord, JobTrace, TaskRecord
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

_OWN: Final = "llmsched_gym."
MARK: Final = f"{_OWN}job_trace"
"""Attribute of the resource: the job trace without its jobs, as JSON."""

_ZERO: Final = f"{_OWN}zero_unix_nano"
_SPANS: Final = f"{_OWN}spans"
_STAGE: Final = f"{_OWN}stage."
_TASK: Final = f"{_OWN}task."
_POSITION: Final = f"{_OWN}position"
_EPOCH_NS: Final = 1_767_225_600 * 10**9
"""When exported workloads begin: the first second of 2026."""

_STANDARD: Final = {"prompt_tokens": "gen_ai.usage.input_tokens", "output_tokens": "gen_ai.usage.output_tokens"}
_CLIENT, _INTERNAL = 3, 1


def write_otel(workload: Workload, path: str | Path) -> None:
    """Export a workload as OTLP/JSON, a line per job; importing it gives back one with an equal digest.

    Tasks start when those they wait for have ended, as if nothing else ran; an LLM task takes what it would alone on an
    idle nominal executor (`llmsched_gym.workloads.history.NOMINAL_PS`).

    Raises:
        InputError: `path` cannot be written, or the last job arrives later than a trace can hold.
    """
    trace = trace_of(workload, path)
    head = trace.model_dump(mode="json", exclude_defaults=True, exclude={"jobs"})
    known = {"service.name": workload.name, MARK: json.dumps(head), _ZERO: _EPOCH_NS}
    resource = {"attributes": _encoded(known)}
    lines = []
    for job, record, times in zip(range(workload.n_jobs), trace.jobs, _times(workload), strict=True):
        spans = list(_spans(workload, job, record, times))
        block = {"resource": resource, "scopeSpans": [{"scope": {"name": "llmsched_gym"}, "spans": spans}]}
        lines.append(json.dumps({"resourceSpans": [block]}))
        resource = {"attributes": _encoded({"service.name": workload.name})}  # the applications stand there once
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _times(workload: Workload) -> Iterator[list[tuple[int, int]]]:
    """Yield when the tasks of each job start and end if nothing else runs, in ns after time zero."""
    stages, alone = workload.stages, nominal_ns(workload.tasks)
    ready = workload.jobs["arrival_ns"][stages["job"]].copy()
    times: list[list[tuple[int, int]]] = [[] for _ in range(workload.n_jobs)]
    for s, stage in enumerate(stages):
        first, child = int(stage["first_task"]), int(stage["first_child"])
        tasks = alone[first : first + stage["n_tasks"]]
        start = int(ready[s])
        times[stage["job"]].extend((start, start + int(length)) for length in tasks)
        below = workload.children[child : child + stage["n_children"]]
        ready[below] = np.maximum(ready[below], start + int(tasks.max(initial=0)))
    yield from times


def _spans(workload: Workload, job: int, record: JobRecord, times: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    trace, root = f"{job + 1:032x}", f"{1:016x}"
    arrival = int(workload.jobs["arrival_ns"][job])
    row = workload.jobs[job]
    nodes = {node.name: node for node in workload.templates[row["app"]].nodes}
    spans: list[tuple[str, int, tuple[int, int], Attributes]] = []
    waiting = iter(times)
    for s, stage in enumerate(record.stages):
        own = _prefixed(_STAGE, stage.model_dump(exclude_defaults=True, exclude={"tasks"}))
        node = nodes[stage.stage]
        llm, usual = node.kind is StageKind.LLM, node.model or workload.models[0]
        if not stage.tasks:
            spans.append((stage.stage, _INTERNAL, (arrival, arrival), {**own, _POSITION: [s, 0]}))
        for t, task in enumerate(stage.tasks):
            attributes = {**own, **(_llm(task, usual, trace) if llm else _tool(stage, task)), _POSITION: [s, t]}
            name = f"chat {attributes['gen_ai.request.model']}" if llm else f"execute_tool {stage.stage}"
            spans.append((name, _CLIENT if llm else _INTERNAL, next(waiting), attributes))
    end = max([arrival, *(when[1] for _, _, when, _ in spans)])
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": record.application,
        _SPANS: len(spans),
    }
    whole_job = (f"invoke_agent {record.application}", _INTERNAL, (arrival, end), agent)
    for n, (name, kind, when, attributes) in enumerate([whole_job, *spans], start=1):
        span: dict[str, Any] = {"traceId": trace, "spanId": f"{n:016x}"}
        if n > 1:
            span["parentSpanId"] = root
        span |= {"name": name, "kind": kind}
        span |= {f"{key}TimeUnixNano": str(_EPOCH_NS + t) for key, t in zip(("start", "end"), when, strict=True)}
        yield span | {"attributes": _encoded(attributes)}


def _llm(task: TaskRecord, usual: str, trace: str) -> Attributes:
    fields = task.model_dump(exclude_defaults=True, exclude={"model"})
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": task.model or usual,
        **{name: fields.pop(field) for field, name in _STANDARD.items()},
    }
    if covered := max(task.app_prefix_tokens, task.job_prefix_tokens or 0):
        attributes["gen_ai.usage.cache_read.input_tokens"] = covered
    if task.job_prefix is not None:
        attributes["gen_ai.conversation.id"] = f"{trace}-{task.job_prefix}"
    return attributes | _prefixed(_TASK, fields)


def _tool(stage: JobStageRecord, task: TaskRecord) -> Attributes:
    fields = task.model_dump(exclude_defaults=True, exclude={"duration_s"})
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": stage.stage,
        **_prefixed(_TASK, fields),
    }


def _prefixed(prefix: str, fields: Mapping[str, Any]) -> Attributes:
    return {prefix + name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _encoded(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


# And back


def is_exact(spans: Iterable[Span]) -> bool:
    """Tell whether spans are those of an exported workload."""
    return any(MARK in span.resource for span in spans)


def read_exact(spans: Sequence[Span], source: str | Path) -> JobTrace:
    """Return the job trace that was exported as spans; they may stand in any order.

    Raises:
        InputError: Spans are missing or changed beyond what a job trace can say.
    """
    heads = {span.resource[MARK]: span.resource for span in spans if MARK in span.resource}
    if len(heads) != 1:
        raise InputError(source, MARK, Plain(f"{len(heads)} exported workloads"), "one at a time")
    ((text, resource),) = heads.items()
    head = parse_json(source, text, "the applications of an exported workload") if isinstance(text, str) else text
    zero = whole(resource.get(_ZERO), source, _ZERO)
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace, []).append(span)
    jobs = [_job(traces[trace], zero, source) for trace in sorted(traces)]
    if not isinstance(head, dict):
        raise InputError(source, MARK, head, "the applications of an exported workload")
    try:
        return JobTrace.model_validate_json(json.dumps(head | {"jobs": jobs}))
    except ValidationError as error:
        raise from_validation(source, error, JobTrace) from error


def _job(spans: Sequence[Span], zero: int, source: str | Path) -> dict[str, Any]:
    roots = [span for span in spans if _SPANS in span.attributes]
    place = f"trace {spans[0].trace}"
    if len(roots) != 1:
        raise InputError(source, place, Plain(f"{len(roots)} spans of the whole job"), "one")
    root = roots[0]
    members = {span.id: span for span in spans if span is not root}
    if len(members) != root.attributes[_SPANS]:
        found = Plain(f"{len(members)} spans of tasks")
        raise InputError(source, place, found, f"{root.attributes[_SPANS]}, as were exported")
    stages: dict[int, tuple[Attributes, list[tuple[int, dict[str, Any]]]]] = {}
    for span in members.values():
        position = span.attributes.get(_POSITION)
        if not isinstance(position, list) or len(position) != 2 or not all(isinstance(n, int) for n in position):
            raise InputError(source, f"{span.place}: {_POSITION}", position, "two numbers, as were exported")
        own, tasks = stages.setdefault(position[0], (_fields(_STAGE, span), []))
        if _fields(_STAGE, span) != own:
            raise InputError(source, span.place, Plain("another stage"), "tasks of a stage to say the same of it")
        if "gen_ai.operation.name" in span.attributes:
            tasks.append((position[1], _task(span)))
    return {
        "application": root.attributes.get("gen_ai.agent.name"),
        "arrival_s": (root.start_ns - zero) / 10**9,
        "stages": [
            {**own, "tasks": [task for _, task in sorted(tasks, key=lambda one: one[0])]}
            for _, (own, tasks) in sorted(stages.items())
        ],
    }


def _task(span: Span) -> dict[str, Any]:
    fields = _fields(_TASK, span)
    if span.attributes["gen_ai.operation.name"] == "execute_tool":
        return fields | {"duration_s": (span.end_ns - span.start_ns) / 10**9}
    fields["model"] = span.attributes.get("gen_ai.request.model")
    return fields | {field: span.attributes.get(name) for field, name in _STANDARD.items()}


def _fields(prefix: str, span: Span) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in span.attributes.items() if name.startswith(prefix)}
