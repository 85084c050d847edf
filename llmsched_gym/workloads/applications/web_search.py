"""Web search: a ReAct agent that thinks, searches, reads the result, and thinks again until it answers.

Facts: ``facts/web_search.json``, fitted to ReAct runs on HotpotQA and FEVER. A job belongs to one of the two data sets,
which have their own few-shot prompt, step counts and observation lengths. The last thought holds the answer (ReAct's
``Finish`` action), so a job of k steps has k LLM calls and k - 1 searches; a thought that ends in a search reveals
this search and the next thought. Thoughts hardly tell how many steps follow; a search that finds little makes a
further step likelier, so observation tables differ by whether the job then ends (after the first search: also soon).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS, Application, static_block
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import Ints, categorical, load_facts, load_quantiles, normals
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

MAX_STEPS: Final = 7
DATASETS: Final = ("hotpotqa", "fever")
_THINK: Final = slice(0, None, 2)
_SEARCH: Final = slice(1, None, 2)
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


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; thoughts are slots 0, 2, ..., searches 1, 3, ...; a job's thoughts form one growing context."""
    facts = load_facts("web_search")
    dataset = categorical(rng.random(n), facts["datasets"]["value"]["share"])
    steps = np.empty(n, dtype=np.int64)
    draw = np.maximum(rng.random(n), 2.0**-54)
    for number, name in enumerate(DATASETS):
        mine = dataset == number
        steps[mine] = 1 + categorical(draw[mine], facts[f"steps_{name}"]["counts"])
    thoughts, observations = _texts(facts, dataset, steps, detmath.normal_quantile(draw), rng)
    seconds = _search_seconds(facts, dataset, rng)

    prefix = np.array([facts[f"prefix_tokens_{name}"]["value"] for name in DATASETS])[dataset]
    question = _by_dataset(facts, "question", dataset, rng.random((n, 1)))[:, 0]
    thinks = np.arange(MAX_STEPS) < steps[:, None]
    thoughts = np.where(thinks, thoughts, 0)
    room = MAX_CONTEXT_TOKENS - prefix - question - thoughts.sum(axis=1)
    observed = np.minimum(np.cumsum(np.where(thinks[:, 1:], observations, 0), axis=1), room[:, None])
    written = np.cumsum(thoughts, axis=1)
    prompt = np.repeat((prefix + question)[:, None], MAX_STEPS, axis=1)
    prompt[:, 1:] += written[:, :-1] + observed

    block = static_block(TEMPLATE, n, n_tasks=1)
    block.present[:] = np.arange(len(TEMPLATE.nodes)) < 2 * steps[:, None] - 1
    block.revealer[:] = np.minimum(block.revealer, 2 * (steps[:, None] - 1))  # absent steps: the last thought
    block.n_tasks[:] = block.present
    block.prompt_tokens[:, _THINK, 0] = prompt
    block.output_tokens[:, _THINK, 0] = thoughts
    block.app_prefix[:, _THINK] = dataset[:, None]
    block.app_prefix_tokens[:, _THINK] = prefix[:, None]
    block.job_prefix[:, _THINK] = 0
    block.job_prefix_tokens[:, _THINK] = prefix[:, None]
    block.job_prefix_tokens[:, 2::2] = prompt[:, :-1] + thoughts[:, :-1]
    block.duration_ns[:, _SEARCH, 0] = np.rint(seconds * 1e9).astype(np.int64)
    output_bytes = np.zeros_like(block.duration_ns)
    output_bytes[:, _SEARCH, 0] = np.diff(observed, axis=1, prepend=0) * BYTES_PER_TOKEN
    return replace(block, output_bytes=output_bytes)


def _texts(
    facts: Mapping[str, Any], dataset: Ints, steps: Ints, steps_score: Floats, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Tokens of each thought (n, 7) and each observation (n, 6), by a Gaussian copula within the job.

    Thoughts share a job effect. The first one follows the normal score of the job's steps a little, later ones follow
    the observation that they read.
    """
    n = len(dataset)
    strength = {
        key: np.array([facts[f"correlations_{name}"][key] for name in DATASETS])[dataset][:, None]
        for key in ("thoughts", "observation_thought", "observations", "steps_first_thought")
    }
    common = strength["observations"]
    seen = np.sqrt(common) * normals(rng, (n, 1)) + np.sqrt(1.0 - common) * normals(rng, (n, MAX_STEPS - 1))
    share = strength["thoughts"]
    pull = np.repeat(strength["observation_thought"], MAX_STEPS, axis=1)
    pull[:, :1] = strength["steps_first_thought"]
    before = np.concatenate([steps_score[:, None], seen], axis=1)
    score = np.sqrt(share) * normals(rng, (n, 1)) + pull * before
    score = score + np.sqrt(1.0 - share - pull * pull) * normals(rng, (n, MAX_STEPS))
    level, read = detmath.normal_cdf(score), detmath.normal_cdf(seen)

    last = steps[:, None] - 1
    step = np.arange(MAX_STEPS)
    middle = _by_dataset(facts, "thought_middle", dataset, level)
    middle[:, :1] = _by_dataset(facts, "thought_first", dataset, level[:, :1])
    thoughts = np.where(step == last, _by_dataset(facts, "thought_final", dataset, level), middle)
    observations = np.empty((n, MAX_STEPS - 1), dtype=np.int64)
    for k in range(MAX_STEPS - 1):
        table = f"observation_{min(k + 1, 3)}"
        more, ending = (_by_dataset(facts, f"{table}_{kind}", dataset, read[:, k]) for kind in ("more", "last"))
        observations[:, k] = np.where(k == last[:, 0] - 1, ending, more)
    soon = _by_dataset(facts, "observation_1_soon", dataset, read[:, 0])
    observations[:, 0] = np.where(last[:, 0] == 2, soon, observations[:, 0])
    return thoughts, observations


def _search_seconds(facts: Mapping[str, Any], dataset: Ints, rng: np.random.Generator) -> Floats:
    """Seconds of each action (n, 6): a search, or a look-up in the page that the last search fetched."""
    shape = (len(dataset), MAX_STEPS - 1)
    share = np.array([facts[f"lookup_share_{name}"]["by_step"] for name in DATASETS])
    lookup = rng.random(shape) < share[dataset][:, np.minimum(np.arange(MAX_STEPS - 1), 2)]
    return np.where(lookup, facts["lookup_seconds"]["value"], _quantiles("search_seconds")(rng.random(shape)))


def _by_dataset(facts: Mapping[str, Any], table: str, dataset: Ints, u: NDArray[np.float64]) -> Ints:
    """Whole numbers from the table of each job's data set; `u` (n, ...) uniforms."""
    hotpotqa, fever = (_quantiles(f"{table}_{name}").whole(u) for name in DATASETS)
    return np.where(dataset.reshape(-1, *(1,) * (u.ndim - 1)) == 0, hotpotqa, fever)


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
