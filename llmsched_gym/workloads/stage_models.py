"""Which model each stage asks for: an assignment of models to stages, laid over jobs that are drawn.

Applications say how long prompts and outputs are; which model serves a stage is a setting, and changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np

from llmsched_gym.config import read_mapping
from llmsched_gym.errors import InputError, suggest
from llmsched_gym.workloads.applications import GROUPS, suggest_application
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind
from llmsched_gym.workloads.workload import Workload

Assignment = Mapping[str, Mapping[str, str]]
"""Application or group → stage → model. Both names may end in ``*``: all applications, and all their LLM stages, that
begin so. The longest name that fits counts, and a name without a star before all."""

ASSIGNMENTS: Final = ("stage_models",)
"""Names of the assignments that come with the package."""


class Fault(NamedTuple):
    """What is wrong with an assignment; see `InputError`."""

    field: str
    value: object
    allowed: str


def read_assignment(given: str | Path, source: object, field: str) -> dict[str, Any]:
    """Return what an assignment says that comes with the package, or that a YAML file holds (a dot or slash in it).

    Args:
        given: Its name or path.
        source: Where it was given, for the message.
        field: In which field.

    Raises:
        InputError: There is none of that name, or the file is no mapping.
    """
    text = str(given)
    if names_path(text):
        return read_mapping(text, "an assignment of models to stages: a mapping (YAML)")
    if text not in ASSIGNMENTS:
        raise InputError(source, field, text, f"a mapping, a YAML file, or {suggest(text, ASSIGNMENTS)}")
    with resources.as_file(resources.files("llmsched_gym.workloads") / "assignments" / f"{text}.yaml") as path:
        return read_mapping(path, "an assignment of models to stages")


def names_path(given: object) -> TypeGuard[str]:
    """Tell whether what was given for an assignment is the path of a file: text with a dot or slash in it."""
    return isinstance(given, str) and any(mark in given for mark in "./\\")


def first_fault(assignment: Assignment, templates: Mapping[str, ApplicationTemplate]) -> Fault | None:
    """Return the first thing that is wrong with an assignment, if anything is.

    Args:
        assignment: The assignment.
        templates: The applications that it may name.
    """
    for app, stages in assignment.items():
        nodes = [node for name, template in templates.items() if _covers(app, name) for node in template.nodes]
        if not nodes:
            return Fault("models", app, suggest_application(app, [*templates, *GROUPS]))
        llm = dict.fromkeys(node.name for node in nodes if node.kind is StageKind.LLM)
        for stage, model in stages.items():
            if not any(_fits(stage, name) for name in llm):
                return Fault(f"models.{app}", stage, f"an LLM stage, {suggest(stage, llm)}")
            if not isinstance(model, str) or not model:
                return Fault(f"models.{app}.{stage}", model, "a model's name")
    return None


def stages_of(assignment: Assignment, app: str) -> dict[str, str]:
    """Return what an assignment says of the stages of one application."""
    found: dict[str, str] = {}
    for name in sorted(assignment, key=_precedence):
        if _covers(name, app):
            found |= assignment[name]
    return found


def template_with_models(template: ApplicationTemplate, stages: Mapping[str, str]) -> ApplicationTemplate:
    """Return a template whose stages ask for the models given; those that are not named stay as they are.

    Args:
        template: The application.
        stages: Stage → model, without `first_fault`.
    """
    if not stages:
        return template
    nodes = list(template.nodes)
    for stage in sorted(stages, key=_precedence):
        for i, node in enumerate(nodes):
            if node.kind is StageKind.LLM and _fits(stage, node.name):
                nodes[i] = replace(node, model=stages[stage])
    return replace(template, nodes=tuple(nodes))


def with_stage_models(workload: Workload, assignment: Assignment) -> Workload:
    """Return the same jobs whose stages ask for the models that an assignment names.

    Stages that it does not name ask for what they asked before. Applications that the workload does not have are passed
    over. ``Workload.models`` follows from the templates, not from the jobs: it is the same for every seed.

    Args:
        workload: Jobs; an empty assignment returns this very workload.
        assignment: Application → stage → model.

    Raises:
        InputError: A stage of an application that is named in full is none, or not an LLM stage, or a name is empty.
    """
    own = {template.name: stages_of(assignment, template.name) for template in workload.templates}
    if not any(own.values()):
        return workload
    exact = {app: stages for app, stages in assignment.items() if app in own}
    fault = first_fault(exact, {template.name: template for template in workload.templates})
    if fault is not None:
        raise InputError(f"workload {workload.name}", *fault)
    templates = tuple(template_with_models(template, own[template.name]) for template in workload.templates)
    told = {app: dict(stages) for app, stages in own.items() if stages}
    provenance = {**workload.provenance, "models": told}
    return ask_by_stage(replace(workload, templates=templates, provenance=provenance))


def ask_by_stage(workload: Workload) -> Workload:
    """Return the workload whose tasks ask for what its templates name; itself if they name no model.

    Tasks of stages without one are left alone. ``models`` becomes the models that nodes or tasks ask for: those it had,
    in their order, then those of the templates, in the order of their nodes.
    """
    wanted = [node.model for template in workload.templates for node in template.nodes]
    if not any(wanted):
        return workload
    models = tuple(dict.fromkeys((*workload.models, *(model for model in wanted if model))))
    asked = np.array([-1 if model is None else models.index(model) for model in wanted], dtype=np.int32)
    first_node = starts([len(template.nodes) for template in workload.templates])
    stages, tasks = workload.stages, workload.tasks.copy()
    model = asked[first_node[workload.jobs["app"][stages["job"]]] + stages["node"]][tasks["stage"]]
    tasks["model"] = np.where(model >= 0, model, tasks["model"])
    longer = replace(workload, models=models, tasks=tasks)

    used = np.zeros(len(models), dtype=np.bool_)
    for indices in (*longer.node_models, tasks["model"]):
        used[indices[indices >= 0]] = True
    number = np.where(used, np.cumsum(used) - 1, -1)
    tasks = tasks.copy()
    tasks["model"] = np.where(tasks["model"] >= 0, number[tasks["model"]], -1)
    return replace(longer, models=tuple(name for name, kept in zip(models, used, strict=True) if kept), tasks=tasks)


def _covers(given: str, app: str) -> bool:
    """Tell whether a name in an assignment stands for an application, or for a group with it."""
    return _fits(given, app) or app in GROUPS.get(given, ())


def _fits(given: str, name: str) -> bool:
    """Tell whether a name in an assignment stands for an application or stage."""
    return name.startswith(given[:-1]) if given.endswith("*") else name == given


def _precedence(name: str) -> tuple[bool, int]:
    """Order names such that what counts more comes later."""
    return not name.endswith("*"), len(name)
