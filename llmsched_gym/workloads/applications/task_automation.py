"""Task automation: an LLM plans which tools to call, the tools run, an LLM answers (HuggingGPT, TaskBench).

Facts: ``facts/task_automation.json``. Plans are those that CodeLlama-13b and Mistral-7b made for TaskBench requests to
23 Hugging Face tools, the domain with measured durations of such tools. Jobs that need one tool have the share that
they have in TaskBench. The plan's length follows its size (one JSON object per tool), so the planner's output length
nearly reveals the size of the sub-DAG; the request's length tells a little.

The tools are grouped by what sets their duration (modality and kind of model) into ten candidates, so that a profile of
the template stays small. Calls of tools that the planner invented (16 % of calls) are candidate ``other``.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.applications.plans import PlanShapes, link_plan
from llmsched_gym.workloads.block import JobBlock, blank_block, repeated
from llmsched_gym.workloads.detmath import Curve, Floats
from llmsched_gym.workloads.facts import Quantiles, load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import (
    category,
    correlated,
    level,
    nanoseconds,
    normal,
    quantile,
    uniforms,
    whole,
    whole_quantile,
)

MAX_TOOLS: Final = 7
TOOLS: Final[dict[str, tuple[str, ...]]] = {
    "text_analysis": ("Token Classification", "Sentence Similarity", "Tabular Classification"),
    "text_generation": ("Translation", "Summarization", "Question Answering", "Conversational", "Text Generation"),
    "image_recognition": ("Object Detection", "Image Classification", "Image Segmentation", "Depth Estimation"),
    "image_to_text": ("Image-to-Text", "Visual Question Answering", "Document Question Answering"),
    "image_generation": ("Image-to-Image", "Text-to-Image", "Image Editing"),
    "video_generation": ("Text-to-Video",),
    "speech_synthesis": ("Text-to-Speech",),
    "speech_recognition": ("Automatic Speech Recognition",),
    "audio_processing": ("Audio-to-Audio", "Audio Classification"),
    "other": (),
}
"""Candidate stages and the TaskBench tools that each stands for."""

TEMPLATE: Final = ApplicationTemplate(
    "task_automation",
    "planning",
    (
        TemplateNode("plan", StageKind.LLM),
        TemplateNode("tools", StageKind.DYNAMIC, ("plan",), revealed_by="plan"),
        *(TemplateNode(name, StageKind.REGULAR, candidate_of="tools") for name in TOOLS),
        TemplateNode("answer", StageKind.LLM, ("tools",)),
    ),
)
APP_PREFIXES: Final = ("plan_instructions", "answer_instructions")
_PLAN, _DYNAMIC, _FIRST = 0, 1, 2
_ANSWER: Final = _FIRST + MAX_TOOLS
_SLOTS: Final = _ANSWER + 1
_FIRST_TOOL: Final = TEMPLATE.index["text_analysis"]
"""Template node of the first candidate; the others follow in the order of `TOOLS`."""

_FACTS: Final = load_facts("task_automation")
_PREFIX_TOKENS: Final = tuple(_FACTS[f"{name}_tokens"]["value"] for name in APP_PREFIXES)


def _any_job() -> JobBlock:
    """Block of one job with what all jobs have in common; slots: see `sample`."""
    job = blank_block(1, _SLOTS, 1)
    for slot, name in ((_PLAN, "plan"), (_DYNAMIC, "tools"), (_ANSWER, "answer")):
        job.exists[:, slot] = job.present[:, slot] = True
        job.node[:, slot] = TEMPLATE.index[name]
    job.revealer[:, _FIRST:_ANSWER] = _PLAN
    job.parents[:, _DYNAMIC, _PLAN] = True
    for prefix, slot in enumerate((_PLAN, _ANSWER)):
        job.n_tasks[:, slot] = 1
        job.app_prefix[:, slot] = prefix
        job.app_prefix_tokens[:, slot] = job.job_prefix_tokens[:, slot] = _PREFIX_TOKENS[prefix]
    return job


_ANY_JOB: Final = _any_job()

# Rows of the table of tools, after one for each tool that may come before.
_FIRST_OF_SEVERAL: Final = len(TOOLS)
_ALONE: Final = len(TOOLS) + 1


class _Texts(NamedTuple):
    """What makes the lengths of the request and the plan."""

    size_below: Floats
    """(8,) share of jobs with fewer tools, among those of several tools."""
    size_share: Floats
    """(8,) share of jobs with so many tools, among those of several tools."""
    request_size: float
    """Correlation of the request's length with the number of tools, among jobs of several tools."""
    request_single: Quantiles
    """Tokens of the request for one tool."""
    request_several: Quantiles
    request_plan: float
    """Correlation of the request's length with the factor of the plan's."""
    plan_factor: Quantiles
    plan_constant: float
    plan_per_tool: float
    normal_curve: Curve


class _Tables(NamedTuple):
    """Distributions and constants."""

    shapes: PlanShapes
    texts: _Texts
    tools: Floats
    """(12, 10) shares of the tools, summed up: after each tool, of several tools without parent, and alone."""
    seconds: tuple[Quantiles, ...]
    """Duration of each tool."""
    answer: Quantiles
    """Tokens of the answer."""
    result_tokens: int
    """What a tool returns to the answering prompt."""


def _texts(shapes: PlanShapes) -> _Texts:
    weight = np.bincount(shapes.size, weights=shapes.weight, minlength=MAX_TOOLS + 1)
    weight[1] = 0.0
    share = weight / np.cumsum(weight)[-1]
    return _Texts(
        np.cumsum(share) - share,
        share,
        _FACTS["correlations"]["request_size"],
        load_quantiles("task_automation", "request_tokens_single"),
        load_quantiles("task_automation", "request_tokens_several"),
        _FACTS["correlations"]["request_plan_given_size"],
        load_quantiles("task_automation", "plan_factor"),
        _FACTS["plan_line"]["constant"],
        _FACTS["plan_line"]["per_tool"],
        detmath.normal_curve(),
    )


def _tools() -> Floats:
    order = _FACTS["tool_order"]
    summed = np.cumsum(np.array([*order["after"], order["first"], order["alone"]], dtype=np.float64), axis=1)
    return summed / summed[:, -1:]


@cache
def _tables() -> _Tables:
    shapes = PlanShapes.of(_FACTS["plan_shapes"]["shapes"], MAX_TOOLS)
    return _Tables(
        shapes,
        _texts(shapes),
        _tools(),
        tuple(load_quantiles("task_automation", f"seconds_{name}") for name in TOOLS),
        load_quantiles("task_automation", "answer_tokens"),
        _FACTS["result_tokens"]["value"],
    )


class _Uniforms(NamedTuple):
    """Uniforms of `n` jobs, (n, 1) or, for each tool, (n, 7)."""

    plan_shape: Floats
    within_size: Floats
    """Where the job is among those with as many tools, as far as the request shows it."""
    request: Floats
    plan_factor: Floats
    tools: Floats
    answer: Floats
    seconds: Floats


_WIDTHS: Final = (1, 1, 1, 1, MAX_TOOLS, 1, MAX_TOOLS)
"""Uniforms that a job takes from each of these arrays."""


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; slots: plan, dynamic, up to seven tools, answer."""
    block = repeated(_ANY_JOB, n)
    _fill(_Uniforms(*uniforms(rng, n, _WIDTHS)), _tables(), block)
    return block


@kernel
def _fill(u: _Uniforms, tables: _Tables, block: JobBlock) -> None:
    """Fill what differs between jobs.

    Args:
        u: Uniforms for everything random.
        tables: Distributions and constants.
        block: Written.
    """
    for job in range(len(block.exists)):
        shape = category(u.plan_shape[job, 0], tables.shapes.cumulative)
        size, edges = tables.shapes.size[shape], tables.shapes.edges[shape]
        score = _request_score(size, u.within_size[job, 0], u.request[job, 0], tables.texts)
        request = _request_tokens(size, score, tables.texts)
        plan = _plan_tokens(size, score, u.plan_factor[job, 0], tables.texts)

        block.prompt_tokens[job, _PLAN, 0] = block.app_prefix_tokens[job, _PLAN] + request
        block.output_tokens[job, _PLAN, 0] = plan

        _choose_tools(block.node[job], size, edges, u.tools[job], tables.tools)
        for slot in range(_FIRST, _FIRST + size):
            block.exists[job, slot] = block.present[job, slot] = True
            block.n_tasks[job, slot] = 1
            seconds = quantile(u.seconds[job, slot - _FIRST], tables.seconds[block.node[job, slot] - _FIRST_TOOL])
            block.duration_ns[job, slot, 0] = nanoseconds(seconds)
        link_plan(block.parents[job], edges, size, _DYNAMIC, _FIRST, _ANSWER)

        read = request + plan + tables.result_tokens * size
        block.prompt_tokens[job, _ANSWER, 0] = block.app_prefix_tokens[job, _ANSWER] + read
        block.output_tokens[job, _ANSWER, 0] = whole_quantile(u.answer[job, 0], tables.answer)


@kernel
def _request_score(size: int, within_size: float, u: float, texts: _Texts) -> float:
    """Draw the normal score of the request's length.

    Among jobs of several tools it follows their number, spread evenly over the number's share of the distribution.
    """
    if size == 1:
        return normal(u)
    rank = texts.size_below[size] + texts.size_share[size] * within_size
    latent = detmath.quantile_of_normal(min(max(rank, 1e-9), 1.0 - 1e-9))
    return correlated(texts.request_size, latent, u)


@kernel
def _request_tokens(size: int, score: float, texts: _Texts) -> int:
    lengths = texts.request_single if size == 1 else texts.request_several
    return whole_quantile(level(score, texts.normal_curve), lengths)


@kernel
def _plan_tokens(size: int, request_score: float, u: float, texts: _Texts) -> int:
    """Draw the plan's length: linear in the number of tools, times a factor that follows the request's score."""
    score = correlated(texts.request_plan, request_score, u)
    factor = quantile(level(score, texts.normal_curve), texts.plan_factor)
    return whole((texts.plan_constant + texts.plan_per_tool * size) * factor)


@kernel
def _choose_tools(node: NDArray[np.int64], size: int, edges: NDArray[np.bool_], u: Floats, tools: Floats) -> None:
    """Draw the tools of a plan: a Markov chain along its edges, where the first parent counts.

    Args:
        node: (S,) template node of each slot of the job, written for all seven tools, the unused slots among them.
        size: Number of planned tools.
        edges: (7, 7) edges among them.
        u: (7,) uniforms.
        tools: As in `_Tables`.
    """
    for k in range(MAX_TOOLS):
        before = _ALONE if size == 1 else _FIRST_OF_SEVERAL
        for parent in range(k - 1, -1, -1):  # the first one comes last, so it stays
            if edges[k, parent]:
                before = node[_FIRST + parent] - _FIRST_TOOL
        node[_FIRST + k] = _FIRST_TOOL + category(u[k], tools[before])


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
