"""Recordings in, workloads out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.importing import otel, steplog, wfcommons
from llmsched_gym.workloads.importing.building import build_trace
from llmsched_gym.workloads.importing.otel_exact import is_exact, read_exact
from llmsched_gym.workloads.importing.otlp import Span, read_spans
from llmsched_gym.workloads.importing.recorded import Assumptions, Run
from llmsched_gym.workloads.importing.sources import Source, check_format, read_source
from llmsched_gym.workloads.jobtrace import workload_of
from llmsched_gym.workloads.jobtrace_schema import JobTrace
from llmsched_gym.workloads.template import ANY_MODEL
from llmsched_gym.workloads.workload import Workload

EVERY_OTHER: Final = "*"
"""Stands for all models that `Choices.models` does not name."""


@dataclass(frozen=True)
class Choices:
    """What a recording does not decide.

    Attributes:
        format: What the files hold; None: told by their content.
        runs: What is one job of an OpenTelemetry trace: a whole ``trace``, or each outermost ``agent``.
        application: Name of the application of all runs; None: as recorded.
        every_s: Seconds between arrivals, in the order of the runs; None: as recorded.
        models: By the name that was recorded, the model to ask for instead.
        past_share: Share of each application's runs, the earliest, that are kept apart as its past.
    """

    format: str | None = None
    runs: str = "trace"
    application: str | None = None
    every_s: float | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    past_share: float = 0.0


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        workload: The jobs; its historical means are those of `past` if there is one.
        past: The jobs that ran before, of the same applications.
        assumptions: One line per thing that was assumed, with how often.
    """

    workload: Workload
    past: Workload | None
    assumptions: tuple[str, ...]


def import_workload(paths: Sequence[str | Path], choices: Choices | None = None) -> Imported:
    """Make a workload of recordings.

    Args:
        paths: Files, of one or several kinds; together they are one workload.
        choices: What they do not decide.

    Raises:
        InputError: The first thing in a file that cannot be used, with its place.
    """
    choices = choices or Choices()
    grouping = next((one for one in get_args(otel.Grouping) if one == choices.runs), None)
    if grouping is None:
        raise InputError("--runs", "", choices.runs, suggest(choices.runs, get_args(otel.Grouping)))
    sources = [read_source(path, check_format(choices.format)) for path in paths]
    if not sources:
        raise InputError("import", "", Plain("no file"), "at least one")
    assumed = Assumptions()
    spans = [span for source in sources if source.format == "otel" for span in read_spans(source)]
    if is_exact(spans):
        return _exact(sources, spans, choices)
    runs = otel.read_runs(spans, grouping, assumed)
    for source in sources:
        if source.format == "wfcommons":
            runs += wfcommons.read_runs(source, assumed)
        elif source.format == "steps":
            runs += steplog.read_runs(source, assumed)
    name = Path(paths[0]).name.split(".")[0]
    source = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if not runs:
        allowed = "spans with gen_ai.operation.name such as chat or execute_tool, at least one"
        raise InputError(source, "", Plain("no call of an LLM or a tool"), allowed)
    _apply(runs, choices, assumed)
    trace = build_trace(runs, name, source, assumed)
    workload, past = _parted(trace, choices.past_share, str(source))
    return Imported(workload, past, tuple(assumed.lines()))


def _exact(sources: Sequence[Source], spans: Sequence[Span], choices: Choices) -> Imported:
    path = sources[0].path
    if len(sources) > 1:
        raise InputError(path, "", Plain("an exported workload among other files"), "no other file beside it")
    if replace(choices, format=None, past_share=0.0) != Choices():
        allowed = "none of --runs, --application, --every and --models: an exported workload is read as it was"
        raise InputError(path, "", Plain("an exported workload"), allowed)
    workload, past = _parted(read_exact(spans, path), choices.past_share, str(path))
    return Imported(workload, past, ())


def _apply(runs: list[Run], choices: Choices, assumed: Assumptions) -> None:
    """Let what was chosen take the place of what was recorded."""
    runs.sort(key=lambda run: run.start_ns or 0)
    for n, run in enumerate(runs):
        if choices.application is not None:
            run.application = choices.application
        if choices.every_s is not None:
            run.start_ns = round(n * choices.every_s * 1e9)
        for step in run.steps:
            if not step.llm:
                continue
            chosen = choices.models.get(step.model, choices.models.get(EVERY_OTHER, step.model))
            assumed.count("calls that name no model: any LLM executor serves them", int(not chosen))
            step.model = "" if chosen == ANY_MODEL else chosen


def _parted(trace: JobTrace, past_share: float, source: str) -> tuple[Workload, Workload | None]:
    """Part the jobs of each application into past ones and others, which arrive from time 0 on."""
    provenance = {"kind": "import", "source": source}
    if not past_share:
        workload = workload_of(trace, source)
        return replace(workload, provenance=workload.provenance | provenance), None
    members: dict[str, list[int]] = {}
    for n, job in enumerate(trace.jobs):
        members.setdefault(job.application, []).append(n)
    early = {n for listed in members.values() for n in listed[: max(int(past_share * len(listed)), 1)]}
    single = [name for name, listed in members.items() if len(listed) < 2]
    if single:
        raise InputError(
            source, f"application {single[0]}", Plain("one run"), "two at least, one of them past (--past)"
        )
    past = workload_of(_only(trace, early), source)
    workload = workload_of(_only(trace, set(range(len(trace.jobs))) - early), source)
    history = tuple(compute_history(past, app) for app in range(len(past.templates)))
    provenance |= {"history": "past runs"}
    return replace(workload, history=history, provenance=provenance), past


def _only(trace: JobTrace, chosen: set[int]) -> JobTrace:
    jobs = [job for n, job in enumerate(trace.jobs) if n in chosen]
    first = min(job.arrival_s for job in jobs)
    moved = tuple(job.model_copy(update={"arrival_s": round(job.arrival_s - first, 9)}) for job in jobs)
    bare = tuple(one.model_copy(update={"history": None}) for one in trace.applications)
    return trace.model_copy(update={"jobs": moved, "applications": bare})
