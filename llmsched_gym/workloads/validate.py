"""Invariants of a workload, checked on everything that comes from a file."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import HISTORY, MAX_ARRIVAL_NS, MAX_DURATION_NS, Workload

MAX_TOKENS: Final = 10**7
"""Most prompt or output tokens of a task."""
MAX_BYTES: Final = 2**53


def validate_workload(workload: Workload, source: object = "workload") -> None:
    """Check that the arrays describe jobs that can run.

    Args:
        workload: What to check.
        source: Where it came from, for the message.

    Raises:
        InputError: The first invariant that does not hold, with the row that breaks it.
    """
    for template in workload.templates:
        template.validate(source)
    _check_history(workload, source)
    _check_jobs(workload, source)
    _check_stages(workload, source)
    _check_links(workload, source)
    _check_tasks(workload, source)


def _require(holds: NDArray[np.bool_], source: object, field: str, values: Any, allowed: str) -> None:
    """Raise about the first row where `holds` is False; ``{}`` in `field` becomes its number."""
    if not np.all(holds):
        row = int(np.argmin(holds))
        raise InputError(source, field.format(row), np.asarray(values)[row], allowed)


def _check_history(workload: Workload, source: object) -> None:
    if len(workload.history) != len(workload.templates):
        raise InputError(
            source, "history", len(workload.history), f"{len(workload.templates)} tables, one per application"
        )
    for template, history in zip(workload.templates, workload.history, strict=True):
        if history.dtype != HISTORY or history.shape != (len(template.nodes),):
            raise InputError(source, f"history of {template.name}", history.shape, f"{len(template.nodes)} rows")
        for name in HISTORY.names or ():
            column = history[name]
            field = f"history of {template.name}, row {{}}, {name}"
            _require(np.isfinite(column) & (column >= 0), source, field, column, "a number >= 0")


def _check_jobs(workload: Workload, source: object) -> None:
    jobs = workload.jobs
    if not len(jobs):
        raise InputError(source, "jobs", Plain("none"), "at least one job")
    arrival = jobs["arrival_ns"]
    in_range = (arrival >= 0) & (arrival <= MAX_ARRIVAL_NS)
    _require(in_range, source, "jobs[{}].arrival_ns", arrival, f"0 to {MAX_ARRIVAL_NS}")
    _require(np.diff(arrival, prepend=0) >= 0, source, "jobs[{}].arrival_ns", arrival, "arrivals in ascending order")
    known = (jobs["app"] >= 0) & (jobs["app"] < len(workload.templates))
    _require(known, source, "jobs[{}].app", jobs["app"], "the index of an application")
    _require(jobs["n_stages"] >= 1, source, "jobs[{}].n_stages", jobs["n_stages"], "at least one stage")
    adjacent = jobs["first_stage"] == starts(jobs["n_stages"])
    _require(adjacent, source, "jobs[{}].first_stage", jobs["first_stage"], "stages of jobs laid end to end")
    if int(jobs["n_stages"].sum()) != len(workload.stages):
        raise InputError(source, "stages", len(workload.stages), f"{int(jobs['n_stages'].sum())} rows")


def _check_stages(workload: Workload, source: object) -> None:
    jobs, stages = workload.jobs, workload.stages
    owner = np.repeat(np.arange(len(jobs)), jobs["n_stages"])
    _require(stages["job"] == owner, source, "stages[{}].job", stages["job"], "the job whose rows it lies in")
    app = jobs["app"][stages["job"]]
    sizes = np.array([len(template.nodes) for template in workload.templates])
    node = stages["node"]
    _require((node >= 0) & (node < sizes[app]), source, "stages[{}].node", node, "a stage of the application")
    kinds = np.concatenate([template.kinds for template in workload.templates])
    kind = kinds[starts(sizes)[app] + node]
    _require(stages["kind"] == kind, source, "stages[{}].kind", stages["kind"], "the kind in the template")
    present = stages["present"]
    _require((present == 0) | (present == 1), source, "stages[{}].present", present, "0 or 1")
    revealer = stages["revealer"]
    first = jobs["first_stage"][stages["job"]]
    earlier = (revealer == -1) | ((revealer >= first) & (revealer < np.arange(len(stages))))
    _require(earlier, source, "stages[{}].revealer", revealer, "-1 or an earlier stage of the same job")
    revealed = (present == 1) | (revealer >= 0)
    _require(revealed, source, "stages[{}].revealer", revealer, "a stage that reveals that this one is absent")
    told = (present == 0) | (revealer < 0) | (present[np.maximum(revealer, 0)] == 1)
    _require(told, source, "stages[{}].revealer", revealer, "a present stage: an absent one reveals nothing")
    planned = (kind != StageKind.DYNAMIC) | (stages["n_parents"] >= 1)
    _require(planned, source, "stages[{}].n_parents", stages["n_parents"], "a parent, the planner, for a dynamic stage")
    needs = (present == 1) & (kind != StageKind.DYNAMIC)
    n_tasks = stages["n_tasks"]
    allowed = "at least one task in a present stage, none in an absent or dynamic one"
    _require(np.where(needs, n_tasks >= 1, n_tasks == 0), source, "stages[{}].n_tasks", n_tasks, allowed)
    laid = stages["first_task"] == starts(n_tasks)
    _require(laid, source, "stages[{}].first_task", stages["first_task"], "tasks of stages laid end to end")
    if int(n_tasks.sum()) != len(workload.tasks):
        raise InputError(source, "tasks", len(workload.tasks), f"{int(n_tasks.sum())} rows")


def _check_links(workload: Workload, source: object) -> None:
    stages = workload.stages
    rows = np.arange(len(stages))
    for name, listed in (("child", workload.children), ("reveal", workload.reveals)):
        counts = stages["n_children" if name == "child" else "n_reveals"]
        _require(counts >= 0, source, f"stages[{{}}] {name} count", counts, "at least 0")
        first = stages[f"first_{name}"]
        _require(first == starts(counts), source, f"stages[{{}}].first_{name}", first, "lists laid end to end")
        if int(counts.sum()) != len(listed):
            raise InputError(source, f"{name} list", len(listed), f"{int(counts.sum())} entries")
        origin = np.repeat(rows, counts)
        in_range = (listed > origin) & (listed < len(stages))
        _require(in_range, source, f"{name} list[{{}}]", listed, "a later stage")
        same_job = stages["job"][listed] == stages["job"][origin]
        _require(same_job, source, f"{name} list[{{}}]", listed, "a stage of the same job")
    parents = np.bincount(workload.children, minlength=len(stages))
    _require(
        stages["n_parents"] == parents, source, "stages[{}].n_parents", stages["n_parents"], "its number of parents"
    )
    origin = np.repeat(rows, stages["n_reveals"])
    said = np.full(len(stages), -1)
    said[workload.reveals] = origin
    _require(stages["revealer"] == said, source, "stages[{}].revealer", stages["revealer"], "the stage that lists it")


def _check_tasks(workload: Workload, source: object) -> None:
    stages, tasks = workload.stages, workload.tasks
    owner = np.repeat(np.arange(len(stages)), stages["n_tasks"])
    _require(tasks["stage"] == owner, source, "tasks[{}].stage", tasks["stage"], "the stage whose rows it lies in")
    llm = stages["kind"][owner] == StageKind.LLM
    model = tasks["model"]
    known = np.where(llm, (model >= 0) & (model < len(workload.models)), model == -1)
    _require(known, source, "tasks[{}].model", model, "the index of a model, -1 for a regular task")
    one = model == model[stages["first_task"][owner]] if len(tasks) else np.ones(0, np.bool_)
    _require(one, source, "tasks[{}].model", model, "the model of the other tasks of its stage: a stage asks for one")
    _check_stage_models(workload, source)
    for name in ("prompt_tokens", "output_tokens"):
        tokens = tasks[name]
        holds = np.where(llm, (tokens >= 1) & (tokens <= MAX_TOKENS), tokens == 0)
        _require(holds, source, f"tasks[{{}}].{name}", tokens, f"1 to {MAX_TOKENS}, 0 for a regular task")
    duration = tasks["duration_ns"]
    holds = np.where(llm, duration == 0, (duration >= 0) & (duration <= MAX_DURATION_NS))
    _require(holds, source, "tasks[{}].duration_ns", duration, f"0 to {MAX_DURATION_NS}, 0 for an LLM task")
    size = tasks["output_bytes"]
    _require((size >= 0) & (size <= MAX_BYTES), source, "tasks[{}].output_bytes", size, f"0 to {MAX_BYTES}")

    app, job = tasks["app_prefix"], tasks["job_prefix"]
    holds = (app == -1) | (llm & (app >= 0) & (app < workload.n_app_prefixes))
    _require(holds, source, "tasks[{}].app_prefix", app, "-1 or an application prefix of an LLM task")
    holds = (job == -1) | (llm & (job >= workload.n_app_prefixes) & (job < workload.n_prefixes))
    _require(holds, source, "tasks[{}].job_prefix", job, "-1 or a job prefix of an LLM task")
    shared, chained = tasks["app_prefix_tokens"], tasks["job_prefix_tokens"]
    prompt = tasks["prompt_tokens"]
    holds = (shared >= 0) & (shared <= prompt) & ((app >= 0) | (shared == 0))
    _require(holds, source, "tasks[{}].app_prefix_tokens", shared, "0 to the prompt's tokens, 0 without a prefix")
    holds = np.where(job >= 0, (chained >= shared) & (chained <= prompt), chained == shared)
    _require(
        holds,
        source,
        "tasks[{}].job_prefix_tokens",
        chained,
        "app_prefix_tokens (if no job prefix) to the prompt's",
    )


def _check_stage_models(workload: Workload, source: object) -> None:
    """Check that tasks ask for the model of their stage where the template names one."""
    named: list[int] = []
    for template in workload.templates:
        for node in template.nodes:
            if node.model is not None and node.model not in workload.models:
                field = f"application {template.name}, stage {node.name}, model"
                raise InputError(source, field, node.model, suggest(node.model, workload.models))
            named.append(-1 if node.model is None else workload.models.index(node.model))
    first_node = starts([len(template.nodes) for template in workload.templates])
    stages, model = workload.stages, workload.tasks["model"]
    asked = np.array(named)[first_node[workload.jobs["app"][stages["job"]]] + stages["node"]][workload.tasks["stage"]]
    allowed = "the model that the template names for its stage"
    _require((asked < 0) | (model == asked), source, "tasks[{}].model", model, allowed)
