"""Real DAG: jobs in the shapes of recorded scientific workflows, whose stages are LLM calls and tools of ours.

Facts: ``facts/real_dag.json``, shapes of WfCommons instances of up to 60 tasks; equal parallel tasks, which follow and
precede the same, are tasks of one stage. Only the shape is theirs. A stage's role follows from its place in the graph,
and its tokens from its role (`applications.roles`); before all comes a stage of ours, in which a small LLM routes the
request. All of that is assumed.

Each shape is an application of its own, so that a job's whole structure is known when it arrives: a policy sees every
stage and edge, but no length. `real_dag_revealed` draws jobs of all shapes and hides them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.applications.roles import KINDS, PREFIXES, ROLES, set_instructions, set_tasks
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.template import ApplicationTemplate, TemplateNode
from llmsched_gym.workloads.variates import uniforms

_MANY: Final = 4
"""From so many tasks of one kind on, they are the parallel part of a workflow."""

_CYCLE: Final = ("work", "think", "tool", "code", "refine")
"""Roles of stages that neither begin, join nor end anything; those of one kind have one role."""

CORRELATION: Final[float] = load_facts("real_dag")["length_correlation"]["value"]


class Shape(NamedTuple):
    """A workflow's stages in a topological order, without the routing stage.

    Attributes:
        name: Family of workflows, and its number of tasks.
        n_tasks: Parallel tasks of each stage.
        parents: Stages that each one follows, ascending.
        roles: What each stage does, of `ROLES`.
    """

    name: str
    n_tasks: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Shape:
        """Return a shape of the facts."""
        n_tasks = tuple(facts["n_tasks"])
        parents = tuple(tuple(p for p, child in facts["edges"] if child == stage) for stage in range(len(n_tasks)))
        return cls(facts["name"], n_tasks, parents, _roles(n_tasks, parents, facts["kinds"]))


def _roles(n_tasks: Sequence[int], parents: Sequence[Sequence[int]], kinds: Sequence[int]) -> tuple[str, ...]:
    """Say what each stage does.

    The many parallel tasks of a kind do the work of the middle, whatever they follow. Of the others, those after which
    nothing comes answer, those that follow several tasks judge, those that several tasks follow plan.
    """
    children = [[child for child in range(len(n_tasks)) if stage in parents[child]] for stage in range(len(n_tasks))]
    of_kind = [sum(n_tasks[other] for other in range(len(n_tasks)) if kinds[other] == kind) for kind in kinds]
    middle: dict[int, str] = {}
    roles = []
    for stage, kind in enumerate(kinds):
        if of_kind[stage] < _MANY and not children[stage]:
            roles.append("answer")
        elif of_kind[stage] < _MANY and sum(n_tasks[parent] for parent in parents[stage]) > 1:
            roles.append("judge")
        elif of_kind[stage] < _MANY and sum(n_tasks[child] for child in children[stage]) > 1:
            roles.append("plan")
        else:
            roles.append(middle.setdefault(kind, _CYCLE[len(middle) % len(_CYCLE)]))
    return tuple(roles)


SHAPES: Final = tuple(Shape.of(one) for one in load_facts("real_dag")["shapes"]["shapes"])


def _template(shape: Shape) -> ApplicationTemplate:
    names = [f"{role}_{stage}" for stage, role in enumerate(shape.roles, 1)]
    nodes = [TemplateNode("route", KINDS["route"])]
    for name, role, parents in zip(names, shape.roles, shape.parents, strict=True):
        above = tuple(names[parent] for parent in parents) or ("route",)
        nodes.append(TemplateNode(name, KINDS[role], above))
    template = ApplicationTemplate(f"real_dag_{shape.name}", "predefined", tuple(nodes))
    template.validate(template.name)
    return template


def _sample(shape: Shape, template: ApplicationTemplate, n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs of a shape; slots: the routing stage, then the shape's stages."""
    block = static_block(template, n, max(shape.n_tasks))
    block.n_tasks[:] = (1, *shape.n_tasks)
    roles = np.broadcast_to([ROLES.index(role) for role in ("route", *shape.roles)], block.node.shape)
    set_instructions(block, roles)
    job_score, score = uniforms(rng, n, (1, 1 + sum(shape.n_tasks)))
    set_tasks(block, roles, job_score, score, CORRELATION)
    return block


def _application(shape: Shape) -> Application:
    template = _template(shape)
    return Application(template, PREFIXES, partial(_sample, shape, template))


REAL_DAGS: Final = tuple(_application(shape) for shape in SHAPES)
