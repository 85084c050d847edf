"""Shapes of real workflows: tasks and edges of recorded runs, their equal parallel tasks merged to stages.

Only the shape is kept. Names of programs, files and machines, and what was measured, stay behind: run times and file
sizes of scientific programs say nothing of LLM calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import networkx as nx

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import read_json

MAX_TASKS: Final = 60
"""Largest workflow that is kept; larger ones would be a whole load of their own."""

_ARTIFICIAL: Final = "helloworld/"
"""Instances made to try the format: a chain and a fork, no workflows of anybody."""


def fit(data_dir: Path) -> dict[str, Any]:
    """Return the facts of ``hetero/wfinstances.json``: the shapes of workflows of up to `MAX_TASKS` tasks.

    Raises:
        InputError: The table is missing or holds something else.
    """
    path = data_dir / "hetero" / "wfinstances.json"
    table = read_json(path, "instances of WfCommons, restructured")
    try:
        meta, instances = table["_meta"], table["instances"]
        small = [one for one in instances if one["tasks"] <= MAX_TASKS and not one["path"].startswith(_ARTIFICIAL)]
        shapes = _different([_shape(one) for one in sorted(small, key=lambda one: (one["tasks"], one["path"]))])
    except (LookupError, TypeError) as error:
        raise InputError(
            path, "", Plain(f"{type(error).__name__}: {error}"), "instances with tasks and edges"
        ) from error
    return {
        "shapes": {
            "shapes": shapes,
            "source": meta["source"],
            "commit": meta["commit"],
            "licence": "LGPL-3.0",
            "fit": {
                "instances": len(instances),
                "of at most so many tasks": MAX_TASKS,
                "different shapes": len(shapes),
            },
        },
        "length_correlation": {
            "value": 0.5,
            "assumed": True,
            "reason": "between the lengths of two tasks of one job; no data on these shapes, and that of the six "
            "applications lies between 0.1 and 0.9",
        },
    }


def _shape(instance: dict[str, Any]) -> dict[str, Any]:
    """Merge tasks of one kind that follow the same tasks and precede the same tasks to stages, until none are left.

    Whoever follows one of them follows all of them, so that what has to wait for what does not change.
    """
    n = instance["tasks"]
    parents: list[set[int]] = [set() for _ in range(n)]
    children: list[set[int]] = [set() for _ in range(n)]
    for parent, child, *_ in instance["edges"]:
        parents[child].add(parent)
        children[parent].add(child)
    group = list(range(n))
    while True:
        number: dict[Any, int] = {}
        merged = []
        for task in range(n):
            above, below = ({group[other] for other in others[task]} for others in (parents, children))
            key = (instance["kind"][task], frozenset(above), frozenset(below))
            merged.append(number.setdefault(key, len(number)))
        done = len(number) == len(set(group))
        group = merged
        if done:
            break

    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(set(group))))
    graph.add_edges_from((group[parent], group[child]) for child in range(n) for parent in parents[child])
    stages = list(nx.lexicographical_topological_sort(graph, key=group.index))
    place = {stage: k for k, stage in enumerate(stages)}
    kinds: dict[int, int] = {}
    family = instance["path"].split("/")[-1].split("-")[0]
    return {
        "name": f"{family}_{n}",
        "instance": instance["path"],
        "n_tasks": [group.count(stage) for stage in stages],
        "kinds": [kinds.setdefault(instance["kind"][group.index(stage)], len(kinds)) for stage in stages],
        "edges": sorted([place[parent], place[child]] for parent, child in graph.edges),
    }


def _different(shapes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out shapes that equal an earlier one, but for the order of their stages."""
    kept: list[tuple[nx.DiGraph, dict[str, Any]]] = []
    for shape in shapes:
        graph = nx.DiGraph()
        for stage, tasks in enumerate(shape["n_tasks"]):
            graph.add_node(stage, n_tasks=tasks)
        graph.add_edges_from(shape["edges"])
        if not any(nx.is_isomorphic(graph, other, lambda a, b: a["n_tasks"] == b["n_tasks"]) for other, _ in kept):
            kept.append((graph, shape))
    return [shape for _, shape in kept]
