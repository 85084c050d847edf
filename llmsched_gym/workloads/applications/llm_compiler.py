"""LLMCompiler: a planner writes a DAG of function calls that run in parallel, a joiner answers or asks to plan again.

Facts: ``facts/llm_compiler.json``. Questions are of LLMCompiler's HotpotQA comparison, movie recommendation and
ParallelQA sets; their parallel branches and the plans in the repository's prompts give the shapes: two searches, eight
searches, or searches whose results calculations combine. A search is a Wikipedia request; a calculation is an LLM call
(the tool turns the question and the results that it needs into an expression). The joiner is the gate: when it is not
satisfied, it reveals a second planner call, whose smaller sub-DAG is followed by a second joiner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application
from llmsched_gym.workloads.applications.plans import PlanShapes, link_plan
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import Ints, categorical, load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

DATASETS: Final = ("hotpotqa", "movie", "parallelqa")
MAX_TASKS: Final = 8
MAX_REPLANNED: Final = 4

TEMPLATE: Final = ApplicationTemplate(
    "llm_compiler",
    "planning",
    (
        TemplateNode("plan", StageKind.LLM),
        TemplateNode("tasks", StageKind.DYNAMIC, ("plan",), revealed_by="plan"),
        TemplateNode("search", StageKind.REGULAR, candidate_of="tasks"),
        TemplateNode("math", StageKind.LLM, candidate_of="tasks"),
        TemplateNode("join", StageKind.LLM, ("tasks",)),
        TemplateNode("replan", StageKind.LLM, ("join",), revealed_by="join"),
        TemplateNode("more_tasks", StageKind.DYNAMIC, ("replan",), revealed_by="replan"),
        TemplateNode("more_search", StageKind.REGULAR, candidate_of="more_tasks"),
        TemplateNode("final_join", StageKind.LLM, ("more_tasks",), revealed_by="join"),
    ),
)
APP_PREFIXES: Final = (*(f"plan_{name}" for name in DATASETS), *(f"join_{name}" for name in DATASETS), "math")

_PLAN, _DYNAMIC, _FIRST = 0, 1, 2
_JOIN: Final = _FIRST + MAX_TASKS
_REPLAN, _MORE, _SECOND = _JOIN + 1, _JOIN + 2, _JOIN + 3
_FINAL: Final = _SECOND + MAX_REPLANNED
_SLOTS: Final = _FINAL + 1
_LONGEST_OUTPUT: Final = 512
"""Room kept in the context for what the model writes."""

_quantiles: Final = partial(load_quantiles, "llm_compiler")


class _Plans(NamedTuple):
    """The table of plan shapes with what else belongs to a shape."""

    shapes: PlanShapes
    dataset: Ints
    """(K,) data set of each shape."""
    is_math: NDArray[np.bool_]
    """(K, 8) whether a task is a calculation."""
    tokens: Ints
    """(K,) length of the plan as written in the prompts' example."""


@cache
def _plans() -> _Plans:
    entries = load_facts("llm_compiler")["plan_shapes"]["shapes"]
    is_math = np.zeros((len(entries), MAX_TASKS), dtype=bool)
    for k, entry in enumerate(entries):
        is_math[k, : entry["tasks"]] = [kind == "math" for kind in entry["functions"]]
    dataset = np.array([DATASETS.index(entry["dataset"]) for entry in entries])
    tokens = np.array([entry["plan_tokens"] for entry in entries])
    return _Plans(PlanShapes.of(entries, MAX_TASKS), dataset, is_math, tokens)


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; slots: plan, dynamic, 8 tasks, join, replan, dynamic, 4 tasks, final join."""
    facts = load_facts("llm_compiler")
    table = _plans()
    shape = table.shapes.draw(rng.random(n))
    dataset, size, edges = table.dataset[shape], table.shapes.size[shape], table.shapes.edges[shape]
    is_math = table.is_math[shape]
    again = rng.random(n) < np.array(facts["replan_probability"]["value"])[dataset]
    more = 1 + categorical(rng.random(n), facts["replanned_searches"]["counts"])

    block = _structure(size, edges, is_math, again, np.where(again, more, 0))
    tokens = _texts(facts, dataset, rng)
    plan = np.maximum(np.rint(table.tokens[shape] * tokens.factor[:, 0]), 1.0).astype(np.int64)
    per_search = facts["replan_tokens_per_search"]["value"]
    replan = np.maximum(np.rint(per_search * more * tokens.factor[:, 1]), 1.0).astype(np.int64)
    prefixes = facts["prefix_tokens"]["value"]
    plan_prefix, join_prefix = (np.array(prefixes[name])[dataset] for name in ("plan", "join"))
    call = facts["call_tokens"]["value"]
    member, other = np.arange(MAX_TASKS) < size[:, None], np.arange(MAX_REPLANNED) < more[:, None]
    seen = np.where(is_math, facts["math_result_tokens"]["value"], tokens.observation[:, :MAX_TASKS])
    room = MAX_CONTEXT_TOKENS - _LONGEST_OUTPUT - plan_prefix - join_prefix - tokens.question - plan
    read = np.minimum(((seen + call) * member).sum(axis=1), room)
    found = ((tokens.observation[:, MAX_TASKS:] + call) * other).sum(axis=1)

    prompt, output = block.prompt_tokens[:, :, 0], block.output_tokens[:, :, 0]
    tasks = slice(_FIRST, _JOIN)
    prompt[:, _PLAN] = plan_prefix + tokens.question
    prompt[:, tasks] = prefixes["math"] + call + (edges * seen[:, None, :]).sum(axis=2)
    prompt[:, _JOIN] = join_prefix + tokens.question + read
    prompt[:, _REPLAN] = prompt[:, _PLAN] + plan + read + tokens.answer[:, 0]
    prompt[:, _FINAL] = np.minimum(prompt[:, _JOIN] + found, MAX_CONTEXT_TOKENS - _LONGEST_OUTPUT)
    output[:, _PLAN], output[:, _REPLAN] = plan, replan
    output[:, tasks] = tokens.math
    output[:, [_JOIN, _FINAL]] = tokens.answer
    block.prompt_tokens[:, tasks, 0] *= is_math
    block.output_tokens[:, tasks, 0] *= is_math

    searched = [*range(_FIRST, _JOIN), *range(_SECOND, _FINAL)]
    block.duration_ns[:, searched, 0] = np.rint(tokens.seconds * 1e9).astype(np.int64)
    block.duration_ns[:, tasks, 0] *= ~is_math
    output_bytes = np.zeros_like(block.duration_ns)
    output_bytes[:, searched, 0] = tokens.observation * BYTES_PER_TOKEN
    output_bytes[:, tasks, 0] *= ~is_math

    _set_prefixes(block, dataset, is_math, plan_prefix, join_prefix, prefixes["math"])
    block.job_prefix_tokens[:, _REPLAN] = prompt[:, _PLAN] + plan
    block.job_prefix_tokens[:, _FINAL] = prompt[:, _JOIN]
    return replace(block, output_bytes=output_bytes)


def _structure(
    size: Ints, edges: NDArray[np.bool_], is_math: NDArray[np.bool_], again: NDArray[np.bool_], more: Ints
) -> JobBlock:
    """Stages and edges of each job, without tokens; where `again`, the joiner plans again, for `more` searches."""
    n = len(size)
    template_slots = np.array([_PLAN, _DYNAMIC, _JOIN, _REPLAN, _MORE, _FINAL])
    names = ("plan", "tasks", "join", "replan", "more_tasks", "final_join")
    exists = np.zeros((n, _SLOTS), dtype=bool)
    exists[:, template_slots] = True
    exists[:, _FIRST:_JOIN] = np.arange(MAX_TASKS) < size[:, None]
    exists[:, _SECOND:_FINAL] = np.arange(MAX_REPLANNED) < more[:, None]
    present = exists.copy()
    present[:, [_REPLAN, _MORE, _FINAL]] = again[:, None]
    node = np.zeros((n, _SLOTS), dtype=np.int64)
    node[:, template_slots] = [TEMPLATE.index[name] for name in names]
    node[:, _FIRST:_JOIN] = np.where(is_math, TEMPLATE.index["math"], TEMPLATE.index["search"])
    node[:, _SECOND:_FINAL] = TEMPLATE.index["more_search"]
    revealer = np.full((n, _SLOTS), -1)
    revealer[:, _FIRST:_JOIN] = _PLAN
    revealer[:, [_REPLAN, _MORE, _FINAL]] = _JOIN
    revealer[:, _SECOND:_FINAL] = _REPLAN
    parents = np.zeros((n, _SLOTS, _SLOTS), dtype=bool)
    parents[:, [_DYNAMIC, _REPLAN, _MORE], [_PLAN, _JOIN, _REPLAN]] = True
    link_plan(parents, edges, size, _DYNAMIC, _FIRST, _JOIN)
    link_plan(parents, np.zeros((n, MAX_REPLANNED, MAX_REPLANNED), dtype=bool), more, _MORE, _SECOND, _FINAL)
    n_tasks = present.astype(np.int64)
    n_tasks[:, [_DYNAMIC, _MORE]] = 0
    return JobBlock(
        exists=exists,
        node=node,
        present=present,
        revealer=revealer,
        parents=parents,
        n_tasks=n_tasks,
        prompt_tokens=np.zeros((n, _SLOTS, 1), dtype=np.int64),
        output_tokens=np.zeros((n, _SLOTS, 1), dtype=np.int64),
        duration_ns=np.zeros((n, _SLOTS, 1), dtype=np.int64),
        app_prefix=np.full((n, _SLOTS), -1),
        app_prefix_tokens=np.zeros((n, _SLOTS), dtype=np.int64),
        job_prefix=np.full((n, _SLOTS), -1),
        job_prefix_tokens=np.zeros((n, _SLOTS), dtype=np.int64),
    )


class _Texts(NamedTuple):
    """Random lengths and times of `n` jobs, for all stages that a job can have."""

    question: Ints
    factor: Floats
    """(n, 2) length of the first and second plan over what its calls take in the examples."""
    observation: Ints
    """(n, 12) tokens that each search returns."""
    seconds: Floats
    """(n, 12) time of each search."""
    math: Ints
    """(n, 8) tokens that a calculation writes."""
    answer: Ints
    """(n, 2) tokens that each joiner writes."""


def _texts(facts: Mapping[str, Any], dataset: Ints, rng: np.random.Generator) -> _Texts:
    n = len(dataset)
    u = rng.random(n)
    by_dataset = [_quantiles(f"question_{name}").whole(u) for name in DATASETS]
    searches = (n, MAX_TASKS + MAX_REPLANNED)
    return _Texts(
        question=np.choose(dataset, by_dataset),
        factor=_quantiles("plan_factor")(rng.random((n, 2))),
        observation=_quantiles("observation").whole(rng.random(searches)),
        seconds=_quantiles("search_seconds")(rng.random(searches)),
        math=_quantiles("math_tokens").whole(rng.random((n, MAX_TASKS))),
        answer=_quantiles("join_tokens").whole(rng.random((n, 2))),
    )


def _set_prefixes(
    block: JobBlock, dataset: Ints, is_math: NDArray[np.bool_], plan_prefix: Ints, join_prefix: Ints, math_prefix: int
) -> None:
    """Shared instructions; the second planner and joiner continue what the first ones read (chains 0 and 1)."""
    kinds = len(DATASETS)
    for chain, slots, first, length in (
        (0, [_PLAN, _REPLAN], 0, plan_prefix),
        (1, [_JOIN, _FINAL], kinds, join_prefix),
    ):
        block.app_prefix[:, slots] = first + dataset[:, None]
        block.app_prefix_tokens[:, slots] = length[:, None]
        block.job_prefix[:, slots] = chain
    block.app_prefix[:, _FIRST:_JOIN] = np.where(is_math, 2 * kinds, -1)
    block.app_prefix_tokens[:, _FIRST:_JOIN] = np.where(is_math, math_prefix, 0)
    block.job_prefix_tokens[:] = block.app_prefix_tokens


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
