"""Task automation: an LLM plans which tools to call, the tools run, an LLM answers (HuggingGPT, TaskBench).

Facts: ``facts/task_automation.json``. Plans are those that CodeLlama-13b and Mistral-7b made for TaskBench requests to
23 Hugging Face tools, the domain with measured durations of such tools. Jobs that need one tool have the share that
they have in TaskBench. The plan's length follows its size (one JSON object per tool), so the planner's output length
nearly reveals the size of the sub-DAG; the request's length tells a little.

The tools are grouped by what sets their duration (modality and kind of model) into ten candidates, so that a profile of
the template stays small. Calls of tools that the planner invented (16 % of calls) are candidate ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.applications.plans import PlanShapes, link_plan
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.facts import Ints, load_facts, load_quantiles, normals
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode

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
_quantiles: Final = partial(load_quantiles, "task_automation")


@cache
def _shapes() -> PlanShapes:
    return PlanShapes.of(load_facts("task_automation")["plan_shapes"]["shapes"], MAX_TOOLS)


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; slots: plan, dynamic, up to seven tools, answer."""
    facts = load_facts("task_automation")
    shapes = _shapes()
    shape = shapes.draw(rng.random(n))
    size, edges = shapes.size[shape], shapes.edges[shape]
    request, plan = _texts(facts, size, rng)
    tool = _tools(facts, size, edges, rng.random((n, MAX_TOOLS)))
    answer = _quantiles("answer_tokens").whole(rng.random(n))
    seconds = np.zeros((n, MAX_TOOLS))
    level = rng.random((n, MAX_TOOLS))
    for number, name in enumerate(TOOLS):
        seconds = np.where(tool == number, _quantiles(f"seconds_{name}")(level), seconds)

    member = np.arange(MAX_TOOLS) < size[:, None]
    exists = np.ones((n, _SLOTS), dtype=bool)
    exists[:, _FIRST:_ANSWER] = member
    node = np.zeros((n, _SLOTS), dtype=np.int64)
    node[:, _DYNAMIC] = TEMPLATE.index["tools"]
    node[:, _FIRST:_ANSWER] = _FIRST + tool
    node[:, _ANSWER] = TEMPLATE.index["answer"]
    revealer = np.full((n, _SLOTS), -1)
    revealer[:, _FIRST:_ANSWER] = _PLAN
    parents = np.zeros((n, _SLOTS, _SLOTS), dtype=bool)
    parents[:, _DYNAMIC, _PLAN] = True
    link_plan(parents, edges, size, _DYNAMIC, _FIRST, _ANSWER)
    n_tasks = exists.astype(np.int64)
    n_tasks[:, _DYNAMIC] = 0

    prefix = [facts[f"{name}_tokens"]["value"] for name in APP_PREFIXES]
    result_tokens = facts["result_tokens"]["value"]
    prompt = np.zeros((n, _SLOTS), dtype=np.int64)
    prompt[:, _PLAN] = prefix[0] + request
    prompt[:, _ANSWER] = prefix[1] + request + plan + result_tokens * size
    output = np.zeros((n, _SLOTS), dtype=np.int64)
    output[:, _PLAN], output[:, _ANSWER] = plan, answer
    duration = np.zeros((n, _SLOTS), dtype=np.int64)
    duration[:, _FIRST:_ANSWER] = np.where(member, np.rint(seconds * 1e9), 0.0).astype(np.int64)
    app_prefix = np.full(_SLOTS, -1)
    app_prefix[[_PLAN, _ANSWER]] = 0, 1
    prefix_tokens = np.zeros((n, _SLOTS), dtype=np.int64)
    prefix_tokens[:, [_PLAN, _ANSWER]] = prefix
    return JobBlock(
        exists=exists,
        node=node,
        present=exists,
        revealer=revealer,
        parents=parents,
        n_tasks=n_tasks,
        prompt_tokens=prompt[:, :, None],
        output_tokens=output[:, :, None],
        duration_ns=duration[:, :, None],
        app_prefix=app_prefix,
        app_prefix_tokens=prefix_tokens,
        job_prefix=np.full((n, _SLOTS), -1),
        job_prefix_tokens=prefix_tokens,
    )


def _texts(facts: Mapping[str, Any], size: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Tokens of the request and of the plan (n,), given the number of tools.

    Among jobs of several tools, the request's score follows the size, spread evenly over the size's share of the
    distribution. The plan's length is linear in the size, times a factor that follows the request's score.
    """
    n = len(size)
    weight = np.bincount(_shapes().size, weights=_shapes().weight, minlength=MAX_TOOLS + 1)
    weight[1] = 0.0
    share = weight / np.cumsum(weight)[-1]
    below = np.cumsum(share) - share
    level = below[size] + share[size] * rng.random(n)
    latent = np.where(size > 1, detmath.normal_quantile(np.clip(level, 1e-9, 1.0 - 1e-9)), 0.0)
    r = np.where(size > 1, facts["correlations"]["request_size"], 0.0)
    score = r * latent + np.sqrt(1.0 - r * r) * normals(rng, n)
    request_level = detmath.normal_cdf(score)
    single, several = (_quantiles(f"request_tokens_{kind}").whole(request_level) for kind in ("single", "several"))
    request = np.where(size > 1, several, single)
    r = facts["correlations"]["request_plan_given_size"]
    factor_score = r * score + np.sqrt(1.0 - r * r) * normals(rng, n)
    factor = _quantiles("plan_factor")(detmath.normal_cdf(factor_score))
    line = facts["plan_line"]
    plan = np.maximum(np.rint((line["constant"] + line["per_tool"] * size) * factor), 1.0).astype(np.int64)
    return request, plan


def _tools(facts: Mapping[str, Any], size: Ints, edges: NDArray[np.bool_], u: NDArray[np.float64]) -> Ints:
    """Candidate number of each planned tool (n, 7): a Markov chain along the edges, first parent first."""
    counts = facts["tool_order"]
    rows = np.array([*counts["after"], counts["first"], counts["alone"]], dtype=np.float64)
    below = np.cumsum(rows, axis=1)
    below = below / below[:, -1:]
    first, alone = len(TOOLS), len(TOOLS) + 1
    tool = np.zeros(u.shape, dtype=np.int64)
    job = np.arange(len(size))
    for k in range(MAX_TOOLS):
        parent = edges[:, k].argmax(axis=1)
        row = np.where(edges[:, k].any(axis=1), tool[job, parent], np.where(size == 1, alone, first))
        tool[:, k] = np.minimum((u[:, k, None] >= below[row]).sum(axis=1), len(TOOLS) - 1)
    return tool


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
