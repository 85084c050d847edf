"""Real DAG, revealed: jobs in the shapes of `real_dag`, whose stages become known while they run.

A job arrives as a request to be routed, and a placeholder of its workflow. When the routing stage is done, the stages
that follow nothing else are known; every other stage when one of its parents is done: of those on the longest path from
the beginning, the last one. The other parents are done or known by then, so nothing is ready before it is known.

To the template the workflow is a plan, whose stages are candidates, one for each role: `revealed_by` of a template ties
a stage to one place of one graph, but a plan may hold any graph, and who reveals what is said job by job.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.applications.real_dag import CORRELATION, SHAPES, Shape
from llmsched_gym.workloads.applications.roles import KINDS, PREFIXES, ROLES, set_instructions, set_tasks
from llmsched_gym.workloads.block import JobBlock, blank_block
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import uniforms

_PLANNED: Final = tuple(role for role in ROLES if role != "route")
_ROUTE, _DYNAMIC, _FIRST = 0, 1, 2
_SLOTS: Final = _FIRST + max(len(shape.n_tasks) for shape in SHAPES)
_MOST_TASKS: Final = max(max(shape.n_tasks) for shape in SHAPES)
_TASKS_OF_JOB: Final = 1 + max(sum(shape.n_tasks) for shape in SHAPES)

TEMPLATE: Final = ApplicationTemplate(
    "real_dag_revealed",
    "planning",
    (
        TemplateNode("route", KINDS["route"]),
        TemplateNode("workflow", StageKind.DYNAMIC, ("route",), revealed_by="route"),
        *(TemplateNode(role, KINDS[role], candidate_of="workflow") for role in _PLANNED),
    ),
)
TEMPLATE.validate("real_dag_revealed")


def revealers(shape: Shape) -> list[int]:
    """Return the stage of a shape that reveals each of its stages; -1: the routing stage."""
    depth: list[int] = []
    for parents in shape.parents:
        depth.append(1 + max((depth[parent] for parent in parents), default=-1))
    return [max(parents, key=lambda parent: (depth[parent], parent), default=-1) for parents in shape.parents]


@cache
def _one_of_each() -> JobBlock:
    """Block of one job of each shape, without its tasks' lengths."""
    block = blank_block(len(SHAPES), _SLOTS, _MOST_TASKS)
    for job, shape in enumerate(SHAPES):
        end = _FIRST + len(shape.n_tasks)
        block.exists[job, :end] = block.present[job, :end] = True
        nodes = ["route", "workflow", *shape.roles]
        block.node[job, :end] = [TEMPLATE.index[node] for node in nodes]
        block.n_tasks[job, :end] = (1, 0, *shape.n_tasks)
        block.parents[job, _DYNAMIC, _ROUTE] = True
        for stage, (parents, revealer) in enumerate(zip(shape.parents, revealers(shape), strict=True)):
            block.parents[job, _FIRST + stage, [_FIRST + parent for parent in parents] or _DYNAMIC] = True
            block.revealer[job, _FIRST + stage] = _ROUTE if revealer < 0 else _FIRST + revealer
    set_instructions(block, _roles(block))
    return block


def _roles(block: JobBlock) -> np.ndarray:
    """Return the position in `ROLES` of each slot's role, (n, S); -1: none."""
    of_node = np.array([ROLES.index(node.name) if node.name in ROLES else -1 for node in TEMPLATE.nodes])
    return np.where(block.exists, of_node[block.node], -1)


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs, each of any shape; slots: the routing stage, the placeholder, then the shape's stages."""
    which, job_score, score = uniforms(rng, n, (1, 1, _TASKS_OF_JOB))
    shape = np.minimum((which[:, 0] * len(SHAPES)).astype(np.int64), len(SHAPES) - 1)
    block = JobBlock._make(values[shape] for values in _one_of_each())
    set_tasks(block, _roles(block), job_score, score, CORRELATION)
    return block


APPLICATION: Final = Application(TEMPLATE, PREFIXES, sample)
