"""Web search: a ReAct agent that thinks, searches, reads the result, and thinks again until it answers.

Facts: ``facts/web_search.json``, fitted to ReAct runs on HotpotQA and FEVER. A job belongs to one of the two data sets,
which have their own few-shot prompt, step counts and observation lengths. The last thought holds the answer (ReAct's
``Finish`` action), so a job of k steps has k LLM calls and k - 1 searches; a thought that ends in a search reveals
this search and the next thought. Thoughts hardly tell how many steps follow; a search that finds little makes a
further step likelier, so observation tables differ by whether the job then ends (after the first search: also soon).
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Final, NamedTuple

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.detmath import Curve, Floats, Ints
from llmsched_gym.workloads.facts import Quantiles, load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import category, level, nanoseconds, normal, quantile, uniforms, whole_quantile
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

MAX_STEPS: Final = 7
_MAX_SEARCHES: Final = MAX_STEPS - 1
DATASETS: Final = ("hotpotqa", "fever")

_FACTS: Final = load_facts("web_search")
_quantiles: Final = partial(load_quantiles, "web_search")


def _nodes() -> list[TemplateNode]:
    nodes = [TemplateNode("think_1", StageKind.LLM)]
    for k in range(1, MAX_STEPS):
        gate = f"think_{k}"
        nodes.append(TemplateNode(f"search_{k}", StageKind.REGULAR, (gate,), revealed_by=gate))
        nodes.append(TemplateNode(f"think_{k + 1}", StageKind.LLM, (f"search_{k}",), revealed_by=gate))
    return nodes


TEMPLATE: Final = ApplicationTemplate("web_search", "chain", tuple(_nodes()))
APP_PREFIXES: Final = ("react_hotpotqa", "react_fever")


class _DataSet(NamedTuple):
    """Facts of one data set. Searches have three tables: of the first, the second, and all later ones."""

    prefix_tokens: int
    steps: Floats
    """Jobs of 1, 2, ... steps, summed up."""
    question: Quantiles
    first_thought: Quantiles
    middle_thought: Quantiles
    final_thought: Quantiles
    observations: tuple[Quantiles, ...]
    """Where the job searches again."""
    last_observations: tuple[Quantiles, ...]
    """Where the next thought is the final one."""
    first_of_two_observations: Quantiles
    """Of the first search, where the job searches exactly once more."""
    lookup_shares: Floats
    """Share of actions that look up the page fetched before instead of searching."""
    thoughts_share: float
    """Share of the job in the variance of its thoughts' normal scores."""
    observations_share: float
    """The same of its observations."""
    steps_pull: float
    """Correlation of the first thought with the number of steps."""
    observation_pull: float
    """Correlation of a later thought with the observation that it reads."""


def _dataset(name: str) -> _DataSet:
    correlations = _FACTS[f"correlations_{name}"]
    return _DataSet(
        prefix_tokens=_FACTS[f"prefix_tokens_{name}"]["value"],
        steps=np.cumsum(_FACTS[f"steps_{name}"]["counts"], dtype=np.float64),
        question=_quantiles(f"question_{name}"),
        first_thought=_quantiles(f"thought_first_{name}"),
        middle_thought=_quantiles(f"thought_middle_{name}"),
        final_thought=_quantiles(f"thought_final_{name}"),
        observations=tuple(_quantiles(f"observation_{k}_more_{name}") for k in (1, 2, 3)),
        last_observations=tuple(_quantiles(f"observation_{k}_last_{name}") for k in (1, 2, 3)),
        first_of_two_observations=_quantiles(f"observation_1_soon_{name}"),
        lookup_shares=np.array(_FACTS[f"lookup_share_{name}"]["by_step"], dtype=np.float64),
        thoughts_share=correlations["thoughts"],
        observations_share=correlations["observations"],
        steps_pull=correlations["steps_first_thought"],
        observation_pull=correlations["observation_thought"],
    )


class _Tables(NamedTuple):
    """Distributions."""

    dataset_shares: Floats
    """Summed up."""
    datasets: tuple[_DataSet, ...]
    search_seconds: Quantiles
    lookup_seconds: float
    normal_curve: Curve


@cache
def _tables() -> _Tables:
    return _Tables(
        np.cumsum(_FACTS["datasets"]["value"]["share"], dtype=np.float64),
        tuple(_dataset(name) for name in DATASETS),
        _quantiles("search_seconds"),
        _FACTS["lookup_seconds"]["value"],
        detmath.normal_curve(),
    )


class _Uniforms(NamedTuple):
    """Uniforms for `n` jobs, each (n, draws of a job), in the order in which they are drawn."""

    dataset: Floats
    steps: Floats
    observations_of_job: Floats
    """For what all observations of a job share."""
    observations: Floats
    """For each observation on its own."""
    thoughts_of_job: Floats
    """For what all thoughts of a job share."""
    thoughts: Floats
    """For each thought on its own."""
    lookup: Floats
    """For whether an action is a look-up."""
    search_seconds: Floats
    question: Floats


_WIDTHS: Final = (1, 1, 1, _MAX_SEARCHES, 1, MAX_STEPS, _MAX_SEARCHES, _MAX_SEARCHES, 1)
"""Draws of a job for each field of `_Uniforms`."""


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; thoughts are slots 0, 2, ..., searches 1, 3, ...; a job's thoughts form one growing context."""
    block = static_block(TEMPLATE, n, n_tasks=1)
    observations = np.zeros((n, _MAX_SEARCHES), np.int64)
    _fill(_Uniforms(*uniforms(rng, n, _WIDTHS)), _tables(), observations, block)
    return block


@kernel
def _fill(u: _Uniforms, tables: _Tables, observations: Ints, block: JobBlock) -> None:
    """Fill a block; `observations` (n, searches) are zeros, to hold the tokens before they are cut to the context."""
    for job in range(len(block.exists)):
        dataset = category(u.dataset[job, 0], tables.dataset_shares)
        data = tables.datasets[dataset]
        steps = 1 + category(u.steps[job, 0], data.steps)
        last_slot = 2 * (steps - 1)
        for slot in range(2 * MAX_STEPS - 1):
            block.present[job, slot] = slot <= last_slot
            block.n_tasks[job, slot] = slot <= last_slot
            # The final thought reveals that no further step follows.
            block.revealer[job, slot] = min(block.revealer[job, slot], last_slot)
        _draw_texts(job, steps, u, data, tables.normal_curve, observations, block)
        _draw_seconds(block.duration_ns[job], u.lookup[job], u.search_seconds[job], data.lookup_shares, tables)
        question = whole_quantile(u.question[job, 0], data.question)
        _grow_context(job, dataset, data.prefix_tokens, question, observations, block)


@kernel
def _draw_texts(
    job: int, steps: int, u: _Uniforms, data: _DataSet, normal_curve: Curve, observations: Ints, block: JobBlock
) -> None:
    """Draw the tokens of each thought and each observation of a job, by a Gaussian copula.

    Thoughts share a job effect, and so do observations. The first thought follows the normal score of the job's steps
    a little, later ones follow the observation that they read.
    """
    thoughts_effect = math.sqrt(data.thoughts_share) * normal(u.thoughts_of_job[job, 0])
    observations_effect = math.sqrt(data.observations_share) * normal(u.observations_of_job[job, 0])
    pull, before = data.steps_pull, normal(u.steps[job, 0])
    for k in range(steps):
        own = math.sqrt(1.0 - data.thoughts_share - pull * pull) * normal(u.thoughts[job, k])
        thought = level(thoughts_effect + pull * before + own, normal_curve)
        if k == steps - 1:
            block.output_tokens[job, 2 * k, 0] = whole_quantile(thought, data.final_thought)
            break
        table = data.first_thought if k == 0 else data.middle_thought
        block.output_tokens[job, 2 * k, 0] = whole_quantile(thought, table)

        seen = observations_effect + math.sqrt(1.0 - data.observations_share) * normal(u.observations[job, k])
        observation = level(seen, normal_curve)
        if k == steps - 2:
            observations[job, k] = whole_quantile(observation, data.last_observations[min(k, 2)])
        elif k == 0 and steps == 3:
            observations[job, k] = whole_quantile(observation, data.first_of_two_observations)
        else:
            observations[job, k] = whole_quantile(observation, data.observations[min(k, 2)])
        pull, before = data.observation_pull, seen


@kernel
def _draw_seconds(duration_ns: Ints, lookup: Floats, search: Floats, lookup_shares: Floats, tables: _Tables) -> None:
    """Draw how long each action takes: a search, or a look-up in the page that the last search fetched."""
    for k in range(_MAX_SEARCHES):
        if lookup[k] < lookup_shares[min(k, 2)]:
            seconds = tables.lookup_seconds
        else:
            seconds = quantile(search[k], tables.search_seconds)
        duration_ns[2 * k + 1, 0] = nanoseconds(seconds)


@kernel
def _grow_context(job: int, dataset: int, prefix: int, question: int, observations: Ints, block: JobBlock) -> None:
    """Set the prompts: each repeats the one before and the thought that it led to, and adds an observation.

    Observations are cut where the context, with all thoughts of the job, would become too long. Absent thoughts and
    observations have 0 tokens, so that they need no case of their own.
    """
    room = MAX_CONTEXT_TOKENS - prefix - question
    for k in range(MAX_STEPS):
        room -= block.output_tokens[job, 2 * k, 0]
    shared, prompt = prefix, prefix + question
    for k in range(MAX_STEPS):
        think, search = 2 * k, 2 * k + 1
        block.app_prefix[job, think] = dataset
        block.app_prefix_tokens[job, think] = prefix
        block.job_prefix[job, think] = 0
        block.job_prefix_tokens[job, think] = shared
        block.prompt_tokens[job, think, 0] = prompt
        if k < _MAX_SEARCHES:
            observed = min(observations[job, k], room)
            room -= observed
            block.output_bytes[job, search, 0] = observed * BYTES_PER_TOKEN
            shared = prompt + block.output_tokens[job, think, 0]
            prompt = shared + observed


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
