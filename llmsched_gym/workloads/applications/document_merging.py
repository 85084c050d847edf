"""Document merging: draft a merged contract, aggregate the best drafts, improve the best; scored after each step.

As the ``got`` graph of the NDA-merging example of Graph of Thoughts: 5 drafts, 15 scores, 5 aggregations, 15 scores, 10
improvements, 30 scores. Responses grow with the four documents, so the job's size shows in the first stage. The local
selections between the steps take no time. Siblings sampled from one prompt share it whole; the prompts of all scores
share their instructions and the four documents, which come before the draft.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application, static_block
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.facts import Ints, load_facts, load_quantiles, normals
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode

APP_PREFIXES: Final = ("generate", "score", "aggregate", "improve")
DRAFTS, KEPT, AGGREGATES, IMPROVEMENTS, SCORES_EACH = 5, 3, 5, 10, 3

_GENERATE, _SCORE_GENERATED, _AGGREGATE, _SCORE_AGGREGATED, _IMPROVE, _SCORE_IMPROVED = range(6)

_FACTS: Final = load_facts("document_merging")
_quantiles: Final = partial(load_quantiles, "document_merging")


def _template() -> ApplicationTemplate:
    names = ("generate", "score_generated", "aggregate", "score_aggregated", "improve", "score_improved")
    nodes = [TemplateNode(names[0], StageKind.LLM)]
    nodes += [TemplateNode(name, StageKind.LLM, (before,)) for before, name in pairwise(names)]
    template = ApplicationTemplate("document_merging", "predefined", tuple(nodes))
    template.validate("document_merging")
    return template


TEMPLATE: Final = _template()


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` document-merging jobs."""
    block = static_block(TEMPLATE, n, IMPROVEMENTS * SCORES_EACH)
    documents = _quantiles("document").whole(rng.random((n, _FACTS["documents"]["value"])))
    total = np.cumsum(documents, axis=1)[:, -1]
    verbosity = detmath.exp(_FACTS["draft_job_sd_log"]["value"] * normals(rng, n))
    draft = _FACTS["draft_per_document_token"]["value"] * total * verbosity

    def respond(step: str, count: int) -> Ints:
        ratio = _quantiles(f"{step}_ratio")(rng.random((n, count)))
        return np.clip(np.rint(draft[:, None] * ratio).astype(np.int64), 1, _FACTS["output_limit"]["value"])

    drafts, aggregates = respond("generate", DRAFTS), respond("aggregate", AGGREGATES)
    improvements = respond("improve", IMPROVEMENTS)
    kept = np.cumsum(drafts[:, :KEPT], axis=1)[:, -1]  # responses are exchangeable, so any are the best
    for slot, step, content, responses in (
        (_GENERATE, "generate", total, drafts),
        (_AGGREGATE, "aggregate", total + kept, aggregates),
        (_IMPROVE, "improve", total + aggregates[:, 0], improvements),
    ):
        _fill(block, slot, step, content[:, None], responses)
        block.job_prefix[:, slot] = slot
        block.job_prefix_tokens[:, slot] = block.prompt_tokens[:, slot, 0]
    for slot, scored in (
        (_SCORE_GENERATED, drafts),
        (_SCORE_AGGREGATED, aggregates),
        (_SCORE_IMPROVED, improvements),
    ):
        prompts = np.repeat(total[:, None] + scored, SCORES_EACH, axis=1)
        _fill(block, slot, "score", prompts, _quantiles("score").whole(rng.random(prompts.shape)))
        block.job_prefix[:, slot] = _SCORE_GENERATED
        block.job_prefix_tokens[:, slot] = _FACTS["instruction_tokens"]["value"]["score"] + total
    return block


def _fill(block: JobBlock, slot: int, step: str, content: Ints, responses: Ints) -> None:
    """Set one stage: prompts are overhead and `content` ((n, 1) or a column per response)."""
    count = responses.shape[1]
    prompts = np.minimum(_FACTS["overhead_tokens"]["value"][step] + content, MAX_CONTEXT_TOKENS - responses)
    # Siblings sampled from one prompt see it cut at the same place.
    prompts = np.min(prompts, axis=1, keepdims=True) if content.shape[1] == 1 else prompts
    block.n_tasks[:, slot] = count
    block.prompt_tokens[:, slot, :count] = prompts
    block.output_tokens[:, slot, :count] = responses
    block.app_prefix[:, slot] = APP_PREFIXES.index(step)
    block.app_prefix_tokens[:, slot] = _FACTS["instruction_tokens"]["value"][step]


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
