"""What tests of importing ask of a workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_recordings import agent, chat, document, tool, write

from llmsched_gym.workloads.importing.workload import Choices, Imported, import_workload
from llmsched_gym.workloads.workload import Workload


def imported(tmp_path: Path, spans: Sequence[dict[str, Any]], choices: Choices | None = None) -> Imported:
    return import_workload([write(tmp_path / "trace.jsonl", document(spans))], choices)


def names(workload: Workload, job: int = 0) -> list[str]:
    """The stages of a job that are there, in their order."""
    nodes = workload.templates[workload.jobs["app"][job]].nodes
    return [nodes[stage["node"]].name for stage in rows(workload, job) if stage["present"]]


def rows(workload: Workload, job: int) -> Any:
    first, count = (int(workload.jobs[column][job]) for column in ("first_stage", "n_stages"))
    return workload.stages[first : first + count]


def edges(workload: Workload, job: int = 0) -> set[tuple[str, str]]:
    """Which stages that are there follow which, through absent ones."""
    nodes = workload.templates[workload.jobs["app"][job]].nodes
    first = int(workload.jobs["first_stage"][job])
    stages = rows(workload, job)
    found = set()
    for stage in stages:
        below = workload.children[stage["first_child"] : stage["first_child"] + stage["n_children"]] - first
        found |= {(nodes[stage["node"]].name, nodes[stages[c]["node"]].name) for c in below}
    present = set(names(workload, job))
    return {(a, b) for a, b in found if a in present and b in present}


def assumed(found: Imported, words: str) -> int:
    """How often something was assumed."""
    counts = [int(line.split()[0]) for line in found.assumptions if words in line]
    assert len(counts) <= 1, found.assumptions
    return counts[0] if counts else 0


LOOP = [
    agent("1/a", 0, 10),
    chat("1/b/a", 0, 1, (100, 10), model="large"),
    tool("1/c/a", 1.01, 2, "search"),
    chat("1/d/a", 2.1, 3, (150, 20), model="large"),
]
