"""Workflow instances in WfFormat (https://github.com/wfcommons/WfFormat), versions 1.4 to 1.6, as recorded runs.

A task is a tool of its recorded run time; its output files that other tasks read are its output. It is a call of an LLM
if its entry in ``workflow.execution.tasks`` (1.4: ``workflow.tasks``) has the fields ``inputTokens`` and
``outputTokens``, and ``model`` if it asks for one: the format allows fields of one's own.
"""

from __future__ import annotations

import math
from typing import Any, Final

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.importing.recorded import Assumptions, Run, Step, in_order, whole
from llmsched_gym.workloads.importing.sources import Source
from llmsched_gym.workloads.importing.times import read_time

VERSIONS: Final = ("1.4", "1.5", "1.6")

_Record = dict[str, Any]


def read_runs(source: Source, assumed: Assumptions) -> list[Run]:
    """Make a run of every instance in a file.

    Raises:
        InputError: The first thing that is not as the format has it.
    """
    return [_InstanceReader(source, line, instance, assumed).run() for line, instance in source.rows]


class _InstanceReader:
    """Makes a run of one instance."""

    def __init__(self, source: Source, line: int, instance: _Record, assumed: Assumptions) -> None:
        self._path, self._instance, self._assumed = source.path, instance, assumed
        self._where = f"line {line}, " if len(source.rows) > 1 else ""

    def run(self) -> Run:
        version = self._instance.get("schemaVersion")
        if version not in VERSIONS:
            found = Plain("nothing") if version is None else version
            raise self._error("schemaVersion", found, f"one of {', '.join(VERSIONS)}")
        name = self._text(self._instance, "name", "")
        workflow = self._mapping(self._instance, "workflow", "")
        nested = "specification" in workflow
        place = "workflow.specification." if nested else "workflow."
        specification = self._mapping(workflow, "specification", "workflow.") if nested else workflow
        tasks = self._records(specification, "tasks", place)
        if not tasks:
            raise self._error(f"{place}tasks", Plain("none"), "at least one task")
        execution = self._mapping(workflow, "execution", "workflow.") if "execution" in workflow else {}
        known = {self._identity(t, f"{place}tasks.{n}."): n for n, t in enumerate(tasks)}
        if len(known) < len(tasks):
            names = [self._identity(t, place) for t in tasks]
            raise self._error(f"{place}tasks", next(i for i in names if names.count(i) > 1), "ids that differ")
        ran = [*tasks] if not nested else [{} for _ in tasks]
        for n, one in enumerate(self._records(execution, "tasks", "workflow.execution.")):
            task = self._identity(one, f"workflow.execution.tasks.{n}.")
            if task not in known:
                raise self._error(f"workflow.execution.tasks.{n}.id", task, suggest(task, known))
            ran[known[task]] = ran[known[task]] | one
        sizes = self._output_sizes(specification, tasks, place)
        steps = [self._step(t, ran[n], sizes[n], f"{place}tasks.{n}.") for n, t in enumerate(tasks)]
        after = self._links(tasks, known, place)
        began = execution.get("executedAt", workflow.get("executedAt"))
        start = None if began is None else read_time(began, self._path, f"{self._where}workflow.execution.executedAt")
        return Run(name, f"{self._where}name", start, in_order(steps, after, self._path, f"{self._where}{place}tasks"))

    def _step(self, task: _Record, ran: _Record, size: int | None, place: str) -> Step:
        name = self._text(task, "name", place)
        if "inputTokens" in ran or "outputTokens" in ran:
            needs, makes = (
                None if ran.get(key) is None else whole(ran[key], self._path, f"{self._where}{place}{key}")
                for key in ("inputTokens", "outputTokens")
            )
            return Step(name, True, 0, (), str(ran.get("model") or ""), needs, makes, output_bytes=size)
        seconds = ran.get("runtimeInSeconds", ran.get("runtime"))
        if seconds is None:
            return Step(name, False, 0, output_bytes=size)
        number = real_number(seconds)
        if number is None or not 0 <= number < 1e9:
            raise self._error(f"{place}runtimeInSeconds", seconds, "a number of seconds >= 0")
        return Step(name, False, 0, duration_ns=math.floor(number * 1e9 + 0.5), output_bytes=size)

    def _links(self, tasks: list[_Record], known: dict[str, int], place: str) -> list[set[int]]:
        """Return what each task follows: what it names as parents, and those that name it as a child."""
        by_parents: list[set[int]] = [set() for _ in tasks]
        by_children: list[set[int]] = [set() for _ in tasks]
        for n, task in enumerate(tasks):
            for field, here in (("parents", by_parents), ("children", by_children)):
                listed = task.get(field, [])
                if not isinstance(listed, list):
                    raise self._error(f"{place}tasks.{n}.{field}", listed, "a list of ids")
                for other in listed:
                    if not isinstance(other, str) or other not in known:
                        raise self._error(f"{place}tasks.{n}.{field}", other, suggest(str(other), known))
                    if field == "parents":
                        here[n].add(known[other])
                    else:
                        here[known[other]].add(n)
        one_sided = sum(len(a ^ b) for a, b in zip(by_parents, by_children, strict=True))
        self._assumed.count("edges of workflows that only one of their two tasks names: taken", one_sided)
        return [a | b for a, b in zip(by_parents, by_children, strict=True)]

    def _output_sizes(self, specification: _Record, tasks: list[_Record], place: str) -> list[int | None]:
        """Return the bytes of each task's output files that another task reads; None where no files are listed."""
        size: dict[str, int] = {}
        for n, one in enumerate(self._records(specification, "files", place)):
            size[self._identity(one, f"{place}files.{n}.")] = self._bytes(one, f"{place}files.{n}.")
        reads: list[set[str]] = []
        writes: list[set[str]] = []
        for n, task in enumerate(tasks):
            here = f"{place}tasks.{n}."
            reads.append(self._names(task, "inputFiles", here))
            writes.append(self._names(task, "outputFiles", here))
            for k, one in enumerate(self._records(task, "files", here)):  # before 1.5
                file = str(one.get("id") or one.get("name") or "")
                (writes if one.get("link") == "output" else reads)[-1].add(file)
                size.setdefault(file, self._bytes(one, f"{here}files.{k}."))
        wanted = set().union(*reads)
        unknown = {file for listed in writes for file in listed & wanted if file not in size}
        self._assumed.count("files between tasks without a size: of no bytes", len(unknown))
        return [sum(size.get(file, 0) for file in sorted(listed & wanted)) if listed else None for listed in writes]

    # Values

    def _error(self, field: str, value: object, allowed: str) -> InputError:
        return InputError(self._path, f"{self._where}{field}", value, allowed)

    def _mapping(self, holder: _Record, name: str, place: str) -> _Record:
        value = holder.get(name)
        if not isinstance(value, dict):
            raise self._error(place + name, Plain("nothing") if value is None else value, "a mapping")
        return value

    def _records(self, holder: _Record, name: str, place: str) -> list[_Record]:
        listed = holder.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise self._error(place + name, listed, "a list of mappings")
        return listed

    def _text(self, holder: _Record, name: str, place: str) -> str:
        value = holder.get(name)
        if not isinstance(value, str) or not value:
            raise self._error(place + name, Plain("nothing") if value is None else value, "text")
        return value

    def _identity(self, holder: _Record, place: str) -> str:
        return self._text(holder, "id" if "id" in holder else "name", place)

    def _names(self, holder: _Record, name: str, place: str) -> set[str]:
        listed = holder.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise self._error(place + name, listed, "a list of ids")
        return set(listed)

    def _bytes(self, holder: _Record, place: str) -> int:
        name = "sizeInBytes" if "sizeInBytes" in holder else "size"
        return whole(holder.get(name, 0), self._path, f"{self._where}{place}{name}")
