"""Document merging: draft a merged contract, aggregate the best drafts, improve the best; scored after each step.

As the ``got`` graph of the NDA-merging example of Graph of Thoughts: 5 drafts, 15 scores, 5 aggregations, 15 scores, 10
improvements, 30 scores. Responses grow with the four documents, so the job's size shows in the first stage. The local
selections between the steps take no time. Siblings sampled from one prompt share it whole; the prompts of all scores
share their instructions and the four documents, which come before the draft.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, pairwise
from typing import Final, NamedTuple

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import Quantiles, load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import normal, quantile, uniforms, whole, whole_quantile

APP_PREFIXES: Final = ("generate", "score", "aggregate", "improve")
DRAFTS, KEPT, AGGREGATES, IMPROVEMENTS, SCORES_EACH = 5, 3, 5, 10, 3

_GENERATE, _SCORE_GENERATED, _AGGREGATE, _SCORE_AGGREGATED, _IMPROVE, _SCORE_IMPROVED = range(6)

_FACTS: Final = load_facts("document_merging")


def _template() -> ApplicationTemplate:
    names = ("generate", "score_generated", "aggregate", "score_aggregated", "improve", "score_improved")
    nodes = [TemplateNode(names[0], StageKind.LLM)]
    nodes += [TemplateNode(name, StageKind.LLM, (before,)) for before, name in pairwise(names)]
    template = ApplicationTemplate("document_merging", "predefined", tuple(nodes))
    template.validate("document_merging")
    return template


TEMPLATE: Final = _template()

_WRITTEN: Final = (DRAFTS, AGGREGATES, IMPROVEMENTS)
_SCORES: Final = tuple(written * SCORES_EACH for written in _WRITTEN)

# Of each stage in turn, the same in all jobs: tasks, and the instructions at the start of their prompts.
_N_TASKS: Final = tuple(chain.from_iterable(zip(_WRITTEN, _SCORES, strict=True)))
_STEPS: Final = ("generate", "score", "aggregate", "score", "improve", "score")
_INSTRUCTIONS: Final = tuple(APP_PREFIXES.index(step) for step in _STEPS)
_INSTRUCTION_TOKENS: Final = tuple(_FACTS["instruction_tokens"]["value"][step] for step in _STEPS)


class _Writing(NamedTuple):
    """A step that writes contracts."""

    slot: int
    overhead_tokens: int
    """Prompt without documents and contracts."""
    ratio: Quantiles
    """Length of a response over the job's expected draft."""
    longest: int
    """Limit of a response."""


class _Scoring(NamedTuple):
    """The step that scores them."""

    overhead_tokens: int
    """Prompt without documents and contract."""
    response: Quantiles
    """Tokens of a response."""


class _Tables(NamedTuple):
    """Distributions and constants."""

    document: Quantiles
    """Tokens of a document."""
    draft_per_document_token: float
    draft_job_sd_log: float
    generate: _Writing
    aggregate: _Writing
    improve: _Writing
    score: _Scoring


@cache
def _tables() -> _Tables:
    overhead, longest = _FACTS["overhead_tokens"]["value"], _FACTS["output_limit"]["value"]

    def writing(step: str) -> _Writing:
        return _Writing(
            TEMPLATE.index[step], overhead[step], load_quantiles("document_merging", f"{step}_ratio"), longest
        )

    return _Tables(
        load_quantiles("document_merging", "document"),
        _FACTS["draft_per_document_token"]["value"],
        _FACTS["draft_job_sd_log"]["value"],
        writing("generate"),
        writing("aggregate"),
        writing("improve"),
        _Scoring(overhead["score"], load_quantiles("document_merging", "score")),
    )


class _Uniforms(NamedTuple):
    """Uniforms of `n` jobs for the lengths of their texts, (n, texts) each."""

    documents: Floats
    verbosity: Floats
    """(n, 1) for the lengths of all contracts of the job."""
    drafts: Floats
    aggregates: Floats
    improvements: Floats
    draft_scores: Floats
    aggregate_scores: Floats
    improvement_scores: Floats


_WIDTHS: Final = (_FACTS["documents"]["value"], 1, *_WRITTEN, *_SCORES)
"""Uniforms that a job takes from each of these arrays."""


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` document-merging jobs."""
    block = static_block(TEMPLATE, n, max(_N_TASKS))
    block.n_tasks[:] = _N_TASKS
    block.app_prefix[:] = _INSTRUCTIONS
    block.app_prefix_tokens[:] = _INSTRUCTION_TOKENS
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
        documents = 0
        for document in range(u.documents.shape[1]):
            documents += whole_quantile(u.documents[job, document], tables.document)
        verbosity = detmath.exponential(tables.draft_job_sd_log * normal(u.verbosity[job, 0]))
        draft = tables.draft_per_document_token * documents * verbosity

        _write(block, job, documents, draft, tables.generate, u.drafts)
        kept = 0  # responses are exchangeable, so any are the best
        for task in range(KEPT):
            kept += block.output_tokens[job, _GENERATE, task]
        read = documents + kept
        _write(block, job, read, draft, tables.aggregate, u.aggregates)
        read = documents + block.output_tokens[job, _AGGREGATE, 0]
        _write(block, job, read, draft, tables.improve, u.improvements)

        _score(block, job, tables.generate, documents, tables.score, u.draft_scores)
        _score(block, job, tables.aggregate, documents, tables.score, u.aggregate_scores)
        _score(block, job, tables.improve, documents, tables.score, u.improvement_scores)


@kernel
def _write(block: JobBlock, job: int, read: int, draft: float, step: _Writing, u: Floats) -> None:
    """Fill a stage that writes contracts: siblings sampled from one prompt.

    Args:
        block: Written.
        job: The job.
        read: Tokens of the documents and contracts in the prompt.
        draft: Expected length of the job's drafts.
        step: What the stage does.
        u: (n, tasks) uniforms for the responses.
    """
    slot, longest = step.slot, 0
    for task in range(u.shape[1]):
        response = min(whole(draft * quantile(u[job, task], step.ratio)), step.longest)
        block.output_tokens[job, slot, task] = response
        longest = max(longest, response)
    # Siblings see their prompt cut at the same place.
    prompt = min(step.overhead_tokens + read, MAX_CONTEXT_TOKENS - longest)
    for task in range(u.shape[1]):
        block.prompt_tokens[job, slot, task] = prompt
    block.job_prefix[job, slot] = slot
    block.job_prefix_tokens[job, slot] = prompt


@kernel
def _score(block: JobBlock, job: int, scored: _Writing, documents: int, step: _Scoring, u: Floats) -> None:
    """Fill the stage that follows one which writes contracts, and scores each of them several times.

    Args:
        block: Written.
        job: The job.
        scored: What the stage before does.
        documents: Tokens of the documents.
        step: What the stage does.
        u: (n, tasks) uniforms for the responses.
    """
    slot = scored.slot + 1
    for task in range(u.shape[1]):
        contract = block.output_tokens[job, scored.slot, task // SCORES_EACH]
        response = whole_quantile(u[job, task], step.response)
        prompt = step.overhead_tokens + documents + contract
        block.prompt_tokens[job, slot, task] = min(prompt, MAX_CONTEXT_TOKENS - response)
        block.output_tokens[job, slot, task] = response
    block.job_prefix[job, slot] = _SCORE_GENERATED
    block.job_prefix_tokens[job, slot] = block.app_prefix_tokens[job, slot] + documents


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
