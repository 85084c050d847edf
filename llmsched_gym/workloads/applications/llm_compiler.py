"""LLMCompiler: a planner writes a DAG of function calls that run in parallel, a joiner answers or asks to plan again.

Facts: ``facts/llm_compiler.json``. Questions are of LLMCompiler's HotpotQA comparison, movie recommendation and
ParallelQA sets; their parallel branches and the plans in the repository's prompts give the shapes: two searches, eight
searches, or searches whose results calculations combine. A search is a Wikipedia request; a calculation is an LLM call
(the tool turns the question and the results that it needs into an expression). The joiner is the gate: when it is not
satisfied, it reveals a second planner call, whose smaller sub-DAG is followed by a second joiner.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application
from llmsched_gym.workloads.applications.plans import PlanShapes, link_plan
from llmsched_gym.workloads.block import JobBlock, blank_block, repeated
from llmsched_gym.workloads.detmath import Floats, Ints
from llmsched_gym.workloads.facts import Quantiles, load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import category, nanoseconds, quantile, uniforms, whole, whole_quantile
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

_JOIN_PREFIX, _MATH_PREFIX = len(DATASETS), 2 * len(DATASETS)
"""First prefix of the joiner and prefix of a calculation in `APP_PREFIXES`; the planner's come first."""
_MATH_NODE: Final = TEMPLATE.index["math"]

_FACTS: Final = load_facts("llm_compiler")
_quantiles: Final = partial(load_quantiles, "llm_compiler")


def _any_job() -> JobBlock:
    """Block of one job with what all jobs have in common; slots: see `sample`."""
    job = blank_block(1, _SLOTS, 1)
    stages = {
        "plan": _PLAN,
        "tasks": _DYNAMIC,
        "join": _JOIN,
        "replan": _REPLAN,
        "more_tasks": _MORE,
        "final_join": _FINAL,
    }
    for name, slot in stages.items():
        job.exists[:, slot] = True
        job.node[:, slot] = TEMPLATE.index[name]
    job.node[:, _FIRST:_JOIN] = TEMPLATE.index["search"]
    job.node[:, _SECOND:_FINAL] = TEMPLATE.index["more_search"]
    job.present[:, [_PLAN, _DYNAMIC, _JOIN]] = True
    job.n_tasks[:, [_PLAN, _JOIN]] = 1
    job.revealer[:, _FIRST:_JOIN] = _PLAN
    job.revealer[:, [_REPLAN, _MORE, _FINAL]] = _JOIN
    job.revealer[:, _SECOND:_FINAL] = _REPLAN
    job.parents[:, [_DYNAMIC, _REPLAN, _MORE], [_PLAN, _JOIN, _REPLAN]] = True
    # The second planner and joiner continue what the first ones read.
    job.job_prefix[:, [_PLAN, _REPLAN]] = 0
    job.job_prefix[:, [_JOIN, _FINAL]] = 1
    return job


_ANY_JOB: Final = _any_job()


class _Tables(NamedTuple):
    """Plan shapes, distributions and lengths in tokens."""

    shapes: PlanShapes
    dataset: Ints
    """(K,) data set of each plan shape."""
    is_math: NDArray[np.bool_]
    """(K, 8) whether a task is a calculation."""
    plan_tokens: Ints
    """(K,) length of the plan as written in the prompts' example."""
    replan_probability: Floats
    """By data set."""
    replanned_searches: Floats
    """Second plans of 1, 2, ... searches, summed up."""
    no_edges: NDArray[np.bool_]
    """(4, 4) edges of a second plan, whose searches do not wait for each other."""
    question: tuple[Quantiles, ...]
    """By data set."""
    plan_factor: Quantiles
    """Length of a plan over what its calls take in the examples."""
    observation: Quantiles
    """Tokens that a search returns."""
    search_seconds: Quantiles
    math_tokens: Quantiles
    """Tokens that a calculation writes."""
    join_tokens: Quantiles
    """Tokens that a joiner writes."""
    plan_prefix: Ints
    """By data set."""
    join_prefix: Ints
    math_prefix: int
    call_tokens: int
    math_result_tokens: int
    replan_tokens_per_search: int


@cache
def _tables() -> _Tables:
    entries = _FACTS["plan_shapes"]["shapes"]
    is_math = np.zeros((len(entries), MAX_TASKS), dtype=np.bool_)
    for k, entry in enumerate(entries):
        is_math[k, : entry["tasks"]] = [kind == "math" for kind in entry["functions"]]
    prefixes = _FACTS["prefix_tokens"]["value"]
    return _Tables(
        shapes=PlanShapes.of(entries, MAX_TASKS),
        dataset=np.array([DATASETS.index(entry["dataset"]) for entry in entries]),
        is_math=is_math,
        plan_tokens=np.array([entry["plan_tokens"] for entry in entries]),
        replan_probability=np.array(_FACTS["replan_probability"]["value"]),
        replanned_searches=np.cumsum(_FACTS["replanned_searches"]["counts"], dtype=np.float64),
        no_edges=np.zeros((MAX_REPLANNED, MAX_REPLANNED), dtype=np.bool_),
        question=tuple(_quantiles(f"question_{name}") for name in DATASETS),
        plan_factor=_quantiles("plan_factor"),
        observation=_quantiles("observation"),
        search_seconds=_quantiles("search_seconds"),
        math_tokens=_quantiles("math_tokens"),
        join_tokens=_quantiles("join_tokens"),
        plan_prefix=np.array(prefixes["plan"]),
        join_prefix=np.array(prefixes["join"]),
        math_prefix=prefixes["math"],
        call_tokens=_FACTS["call_tokens"]["value"],
        math_result_tokens=_FACTS["math_result_tokens"]["value"],
        replan_tokens_per_search=_FACTS["replan_tokens_per_search"]["value"],
    )


class _Uniforms(NamedTuple):
    """Uniforms of `n` jobs for all stages that a job can have: (n, width)."""

    shape: Floats
    again: Floats
    """Whether the joiner plans again."""
    more: Floats
    """How many searches the second plan has."""
    question: Floats
    factor: Floats
    """(n, 2) for the first and the second plan."""
    observation: Floats
    """(n, 12) for the searches of both plans."""
    seconds: Floats
    """(n, 12)"""
    math: Floats
    """(n, 8)"""
    answer: Floats
    """(n, 2) for both joiners."""


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; slots: plan, dynamic, 8 tasks, join, replan, dynamic, 4 tasks, final join."""
    block = repeated(_ANY_JOB, n)
    searches = MAX_TASKS + MAX_REPLANNED
    u = _Uniforms(*uniforms(rng, n, (1, 1, 1, 1, 2, searches, searches, MAX_TASKS, 2)))
    _fill(u, _tables(), np.empty(MAX_TASKS, np.int64), block)
    return block


@kernel
def _fill(u: _Uniforms, tables: _Tables, seen: Ints, block: JobBlock) -> None:
    """Fill a block; a second plan is written for every job, whether present or not.

    Args:
        u: Uniforms.
        tables: Distributions.
        seen: (8,) tokens that each task of a job returns; overwritten.
        block: What all jobs have in common; the rest is written.
    """
    for job in range(len(block.exists)):
        shape = category(u.shape[job, 0], tables.shapes.cumulative)
        dataset = int(tables.dataset[shape])
        again = u.again[job, 0] < tables.replan_probability[dataset]
        more = 1 + category(u.more[job, 0], tables.replanned_searches)
        _add_plan(block, job, tables.shapes, shape)
        _add_second_plan(block, job, tables.no_edges, more if again else 0)

        question = whole_quantile(u.question[job, 0], tables.question[dataset])
        plan_prefix, join_prefix = tables.plan_prefix[dataset], tables.join_prefix[dataset]
        plan_prompt = plan_prefix + question
        plan = whole(tables.plan_tokens[shape] * quantile(u.factor[job, 0], tables.plan_factor))
        _set_llm(block, job, _PLAN, plan_prompt, plan, dataset, plan_prefix)

        room = MAX_CONTEXT_TOKENS - _LONGEST_OUTPUT - plan_prefix - join_prefix - question - plan
        read = min(_set_tasks(block, job, u, tables, shape, seen), room)
        join_prompt = join_prefix + question + read
        answer = whole_quantile(u.answer[job, 0], tables.join_tokens)
        _set_llm(block, job, _JOIN, join_prompt, answer, _JOIN_PREFIX + dataset, join_prefix)

        replan_prompt = plan_prompt + plan + read + answer
        usual = tables.replan_tokens_per_search * more
        replan = whole(usual * quantile(u.factor[job, 1], tables.plan_factor))
        _set_llm(block, job, _REPLAN, replan_prompt, replan, dataset, plan_prefix)
        block.job_prefix_tokens[job, _REPLAN] = plan_prompt + plan

        found = _set_second_tasks(block, job, u, tables, more)
        final_prompt = min(join_prompt + found, MAX_CONTEXT_TOKENS - _LONGEST_OUTPUT)
        answer = whole_quantile(u.answer[job, 1], tables.join_tokens)
        _set_llm(block, job, _FINAL, final_prompt, answer, _JOIN_PREFIX + dataset, join_prefix)
        block.job_prefix_tokens[job, _FINAL] = join_prompt


@kernel
def _add_plan(block: JobBlock, job: int, shapes: PlanShapes, shape: int) -> None:
    """Add the stages and edges of the first plan."""
    _add_tasks(block, job, _FIRST, shapes.size[shape])
    link_plan(block.parents[job], shapes.edges[shape], shapes.size[shape], _DYNAMIC, _FIRST, _JOIN)


@kernel
def _add_second_plan(block: JobBlock, job: int, edges: NDArray[np.bool_], searches: int) -> None:
    """Add the stages and edges of a second plan of so many searches; without any, its template stages are absent."""
    _add_tasks(block, job, _SECOND, searches)
    link_plan(block.parents[job], edges, searches, _MORE, _SECOND, _FINAL)
    again = searches > 0
    block.present[job, _REPLAN] = block.present[job, _MORE] = block.present[job, _FINAL] = again
    block.n_tasks[job, _REPLAN] = block.n_tasks[job, _FINAL] = again


@kernel
def _add_tasks(block: JobBlock, job: int, first: int, size: int) -> None:
    """Add the stages that were planned."""
    block.exists[job, first : first + size] = True
    block.present[job, first : first + size] = True
    block.n_tasks[job, first : first + size] = 1


@kernel
def _set_tasks(block: JobBlock, job: int, u: _Uniforms, tables: _Tables, shape: int, seen: Ints) -> int:
    """Set the tasks of the first plan, and return how many tokens the joiner reads of them."""
    read = 0
    for task in range(MAX_TASKS):
        slot = _FIRST + task
        if tables.is_math[shape, task]:
            used = 0
            for earlier in range(task):
                if tables.shapes.edges[shape, task, earlier]:
                    used += seen[earlier]
            prompt = tables.math_prefix + tables.call_tokens + used
            output = whole_quantile(u.math[job, task], tables.math_tokens)
            _set_llm(block, job, slot, prompt, output, _MATH_PREFIX, tables.math_prefix)
            block.node[job, slot] = _MATH_NODE
            seen[task] = tables.math_result_tokens
        else:
            seen[task] = whole_quantile(u.observation[job, task], tables.observation)
            _set_search(block, job, slot, quantile(u.seconds[job, task], tables.search_seconds), seen[task])
        if task < tables.shapes.size[shape]:
            read += seen[task] + tables.call_tokens
    return read


@kernel
def _set_second_tasks(block: JobBlock, job: int, u: _Uniforms, tables: _Tables, more: int) -> int:
    """Set the searches of the second plan, and return how many tokens the joiner reads of `more` of them."""
    read = 0
    for task in range(MAX_REPLANNED):
        seconds = quantile(u.seconds[job, MAX_TASKS + task], tables.search_seconds)
        observation = whole_quantile(u.observation[job, MAX_TASKS + task], tables.observation)
        _set_search(block, job, _SECOND + task, seconds, observation)
        if task < more:
            read += observation + tables.call_tokens
    return read


@kernel
def _set_search(block: JobBlock, job: int, slot: int, seconds: float, observation: int) -> None:
    """Set a search, which takes so long and returns so many tokens."""
    block.duration_ns[job, slot, 0] = nanoseconds(seconds)
    block.output_bytes[job, slot, 0] = BYTES_PER_TOKEN * observation


@kernel
def _set_llm(block: JobBlock, job: int, slot: int, prompt: int, output: int, prefix: int, shared: int) -> None:
    """Set an LLM stage, whose prompt begins with the `shared` tokens of its prefix."""
    block.prompt_tokens[job, slot, 0] = prompt
    block.output_tokens[job, slot, 0] = output
    block.app_prefix[job, slot] = prefix
    block.app_prefix_tokens[job, slot] = block.job_prefix_tokens[job, slot] = shared


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
