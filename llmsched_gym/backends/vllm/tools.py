"""Real tools: users' async functions that run in place of the timed waits of regular stages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsched_gym.errors import InputError, RunError, suggest
from llmsched_gym.user_code.containment import contained
from llmsched_gym.user_code.faults import told
from llmsched_gym.user_code.loading import load_module
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class ToolCall:
    """One task of a regular stage, as its tool gets it.

    Attributes:
        application: Name of the application.
        stage: Name of the stage in its template.
        job: Row of the job, by arrival.
        task: Which of the stage's tasks, from 0.
        duration_s: How long the task takes in the workload, seconds on the wall clock.
        output_bytes: Size of its output in the workload.
    """

    application: str
    stage: str
    job: int
    task: int
    duration_s: float
    output_bytes: int


Tool = Callable[[ToolCall], Awaitable[object]]
"""Runs one task; what it returns is ignored, what it raises makes the task run again."""


def load_tools(given: Mapping[str, str | Tool]) -> dict[str, Tool]:
    """Find the function behind each stage name.

    Raises:
        InputError: One cannot be found, or is no async function.
        RunError: The module of one raised an exception, or tried to end the process.
    """
    return {stage: tool if callable(tool) else _load(stage, tool) for stage, tool in given.items()}


def task_tools(tools: Mapping[str, Tool], workload: Workload) -> dict[int, tuple[Tool, ToolCall]]:
    """Return, per task of a workload that has one, its tool and what to call it with.

    Args:
        tools: By stage: ``application.stage`` or ``stage``, with its round (``test_3``) or without (``test``). What
            says most counts.
        workload: The jobs.

    Raises:
        InputError: A tool is for a stage that no application has.
    """
    stages, tasks = workload.stages, workload.tasks
    names = {
        (app, node): (template.name, one.name)
        for app, template in enumerate(workload.templates)
        for node, one in enumerate(template.nodes)
        if one.kind is StageKind.REGULAR
    }
    accepted = {name: _names(*name) for name in names.values()}
    known = {spelling for spellings in accepted.values() for spelling in spellings}
    for stage in tools:
        if stage not in known:
            raise InputError("tools", "stage", stage, suggest(stage, known))
    result: dict[int, tuple[Tool, ToolCall]] = {}
    if not tools:
        return result
    for task in np.flatnonzero(tasks["model"] < 0).tolist():
        row = stages[tasks["stage"][task]]
        application, stage = names[int(workload.jobs["app"][row["job"]]), int(row["node"])]
        found = next((name for name in accepted[application, stage] if name in tools), None)
        if found is not None:
            duration_s, size = float(tasks["duration_ns"][task]) * 1e-9, int(tasks["output_bytes"][task])
            position = task - int(row["first_task"])
            result[task] = tools[found], ToolCall(application, stage, int(row["job"]), position, duration_s, size)
    return result


def _names(application: str, stage: str) -> list[str]:
    """Return the spellings of a stage, the most telling first."""
    spellings = [stage, re.sub(r"_\d+$", "", stage)]
    return [f"{application}.{one}" for one in spellings] + spellings


@contained()
def _load(stage: str, spec: str) -> Tool:
    location, separator, name = spec.rpartition(":")
    if not separator or not location or not name:
        raise InputError("tools", stage, spec, "module:function or path.py:function")
    try:
        module = load_module(location)
    except (ImportError, SyntaxError, OSError) as error:
        raise InputError("tools", stage, spec, f"a module that imports ({error})") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code is reported with the place where it failed, or gave up
        raise RunError(f"tool {spec} of {stage}, loading: {told(error)}") from error
    tool: Any = getattr(module, name, None)
    if not inspect.iscoroutinefunction(tool):
        raise InputError("tools", stage, spec, "an async function (async def) of one argument, a ToolCall")
    return tool
