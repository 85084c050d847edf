"""A job trace from recorded runs: one application per name, one job per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.importing.prefixes import Repeated, repeated_prompts
from llmsched_gym.workloads.importing.recorded import Assumptions, Run, median
from llmsched_gym.workloads.importing.stages import Position, Stage, stages_of
from llmsched_gym.workloads.importing.templates import START, Unrolled, unroll
from llmsched_gym.workloads.jobtrace_schema import (
    FORMAT,
    MAX_ARRIVAL_S,
    MAX_DURATION_S,
    VERSION,
    ApplicationRecord,
    JobRecord,
    JobStageRecord,
    JobTrace,
    TaskRecord,
)
from llmsched_gym.workloads.template import ANY_MODEL
from llmsched_gym.workloads.validate import MAX_BYTES, MAX_TOKENS

MOST_NAMED: Final = 60
"""Most stages of an application in which tools of different names are told apart: many rounds with many tools each make
one stage of every tool in every round, which hardly any run has, and of which little is learnt."""

_NS: Final = 1_000_000_000


def build_trace(runs: Sequence[Run], name: str, source: object, assumed: Assumptions) -> JobTrace:
    """Make a job trace of runs.

    Args:
        runs: At least one; their order is that of jobs that arrive together.
        name: Name of the workload.
        source: Where the runs came from, for messages.
        assumed: Counts what had to be assumed.

    Raises:
        InputError: A value is out of range, or an application has too many stages.
    """
    _fill_gaps(runs, source, assumed)
    arrivals = _arrivals(runs, source, assumed)
    models = sorted({step.model for run in runs for step in run.steps if step.llm and step.model})
    unnamed = any(step.llm and not step.model for run in runs for step in run.steps)
    applications: list[ApplicationRecord] = []
    jobs: list[tuple[float, JobRecord]] = []
    for application in sorted({run.application for run in runs}):
        members = [n for n, run in enumerate(runs) if run.application == application]
        part = _application([runs[n] for n in members], source, assumed)
        applications.append(part.record)
        jobs.extend(
            (arrivals[n], JobRecord(application=part.record.name, arrival_s=arrivals[n], stages=stages))
            for n, stages in zip(members, part.jobs, strict=True)
        )
    jobs.sort(key=lambda one: one[0])
    return JobTrace(
        format=FORMAT,
        version=VERSION,
        name=name[:200],
        models=(*([ANY_MODEL] if unnamed or not models else []), *(model for model in models if model != ANY_MODEL)),
        applications=tuple(applications),
        jobs=tuple(job for _, job in jobs),
    )


def _arrivals(runs: Sequence[Run], source: object, assumed: Assumptions) -> list[float]:
    """Return when runs arrive, in s after the first."""
    known = [run.start_ns for run in runs if run.start_ns is not None]
    assumed.count("runs without a time of their start: they arrive first, together", len(runs) - len(known))
    first = min(known, default=0)
    arrivals = [0.0 if run.start_ns is None else (run.start_ns - first) / _NS for run in runs]
    latest = max(arrivals)
    if latest > MAX_ARRIVAL_S:
        allowed = f"at most {MAX_ARRIVAL_S:g} s (23 days) from the first run to the last: --every, or fewer files"
        raise InputError(source, "arrival_s", latest, allowed)
    return arrivals


# What was not recorded


def _fill_gaps(runs: Sequence[Run], source: object, assumed: Assumptions) -> None:
    """Give every LLM call its tokens, every tool its time and every name a fit form, in place."""
    for run in runs:
        if len(run.application) > 200:
            assumed.count("names of applications that are longer than 200 letters: cut")
            run.application = run.application[:200]
    _fill_tokens(runs, source, assumed)
    known: dict[str, list[int]] = {}
    for run in runs:
        for step in run.steps:
            if not step.llm and step.duration_ns is not None:
                known.setdefault(step.name, []).append(step.duration_ns)
    typical = {name: median(values) for name, values in known.items()}
    for run in runs:
        for step in run.steps:
            if len(step.model) > 200:
                raise InputError(source, f"{run.place}: model", step.model, "a name of at most 200 letters")
            if not step.llm and step.duration_ns is None:
                what = "the median of the same tool" if step.name in typical else "no time"
                assumed.count(f"tool calls without a duration: {what}")
                step.duration_ns = typical.get(step.name, 0)
            if (step.duration_ns or 0) > MAX_DURATION_S * _NS:
                seconds = (step.duration_ns or 0) / _NS
                raise InputError(source, f"{run.place}: duration of {step.name}", seconds, f"0 to {MAX_DURATION_S:g} s")
            if (step.output_bytes or 0) > MAX_BYTES:
                raise InputError(source, f"{run.place}: output of {step.name}", step.output_bytes, f"0 to {MAX_BYTES}")


def _fill_tokens(runs: Sequence[Run], source: object, assumed: Assumptions) -> None:
    for field, words in (("input_tokens", "input"), ("output_tokens", "output")):
        known: dict[tuple[str, ...], list[int]] = {}
        missing = []
        for run in runs:
            for step in run.steps:
                value = getattr(step, field)
                if not step.llm:
                    continue
                if value is None:
                    missing.append((run, step))
                    continue
                if value > MAX_TOKENS:
                    raise InputError(source, f"{run.place}: {words} tokens", value, f"at most {MAX_TOKENS}")
                if value == 0:
                    assumed.count(f"calls of no {words} tokens: one")
                    setattr(step, field, 1)
                for group in _groups(run, step.name, step.model):
                    known.setdefault(group, []).append(max(value, 1))
        if missing and not known:
            run, step = missing[0]
            allowed = f"a number of {words} tokens in one call at least, for the others to be assumed from"
            raise InputError(
                source, f"{run.place}: {words} tokens of {step.name}", Plain("nothing, in any call"), allowed
            )
        typical = {group: median(values) for group, values in known.items()}
        for run, step in missing:
            group = next(group for group in _groups(run, step.name, step.model) if group in typical)
            assumed.count(f"calls without {words} tokens: the median of the calls most like them")
            setattr(step, field, typical[group])


def _groups(run: Run, name: str, model: str) -> tuple[tuple[str, ...], ...]:
    """Return which calls are like one, the most alike first."""
    return (run.application, name, model), (run.application, name), (model, "", "", ""), ()


# One application


@dataclass(frozen=True)
class _Part:
    record: ApplicationRecord
    jobs: list[tuple[JobStageRecord, ...]]


def _application(runs: Sequence[Run], source: object, assumed: Assumptions) -> _Part:
    staged = [stages_of(run) for run in runs]
    name = runs[0].application
    positions = {stage.position for stages in staged for stage in stages}
    if len(runs) > 1 and len(positions) > MOST_NAMED and any(position.llm for position in positions):
        assumed.count(f"agents of more than {MOST_NAMED} stages: their tools are not told apart by name")
        staged = [stages_of(run, named=False) for run in runs]
    unrolled = unroll(staged, source, name, assumed)
    models: dict[Position, set[str]] = {}
    for run, stages in zip(runs, staged, strict=True):
        for stage in stages:
            if stage.position.llm:
                models.setdefault(stage.position, set()).add(run.steps[stage.steps[0]].model)
    agreed = {place: next(iter(found)) or None for place, found in models.items() if len(found) == 1}
    jobs: list[tuple[JobStageRecord, ...]] = []
    shared: set[str] = set()
    for run, stages in zip(runs, staged, strict=True):
        order = [step for stage in stages for step in stage.steps]
        tokens = [value for step in run.steps for value in (step.input_tokens or 0, step.output_tokens or 0)]
        repeated = repeated_prompts(run, order, tokens, assumed)
        shared |= {run.steps[n].name for n, one in repeated.items() if one.shared}
        jobs.append(_job(run, stages, unrolled, repeated))
    optional = any(gate >= 0 for gate in unrolled.gates)
    record = ApplicationRecord(
        name=name,
        type="chain" if optional else "predefined",
        stages=unrolled.records(agreed),
        prefixes=tuple(sorted(shared)),
    )
    return _Part(record, jobs)


def _job(
    run: Run, stages: Sequence[Stage], unrolled: Unrolled, repeated: dict[int, Repeated]
) -> tuple[JobStageRecord, ...]:
    stated = unrolled.stated_parents(stages)
    chains = [one.chain for one in repeated.values()]
    return tuple(
        JobStageRecord(
            stage=unrolled.names[stage.position],
            parents=stated[stage.position],
            tasks=(TaskRecord(duration_s=0.0),)
            if stage.position == START and not stage.steps
            else tuple(_task(run, n, repeated, chains) for n in stage.steps),
        )
        for stage in stages
    )


def _task(run: Run, n: int, repeated: dict[int, Repeated], chains: Sequence[int]) -> TaskRecord:
    step = run.steps[n]
    if not step.llm:
        return TaskRecord(duration_s=(step.duration_ns or 0) / _NS, output_bytes=step.output_bytes or None)
    one = repeated[n]
    chained = chains.count(one.chain) > 1
    return TaskRecord(
        prompt_tokens=step.input_tokens,
        output_tokens=step.output_tokens,
        model=step.model or None,
        app_prefix=step.name if one.shared else None,
        app_prefix_tokens=one.shared,
        job_prefix=one.chain if chained else None,
        job_prefix_tokens=one.tokens if chained else None,
        output_bytes=step.output_bytes,
    )
