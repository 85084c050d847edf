"""Sequence sorting: split a list, sort its parts, merge pairs of sorted lists until one is left, improving each.

As the sorting example of Graph of Thoughts for 32, 64 and 128 numbers. The branches of one level (parts, pairs of
lists) are tasks of one stage: each branch samples several responses to its prompt, and a local program scores them.
The split reveals how many merge levels follow: one, two or three. With one branch left, siblings share their prompt
whole; with several, the stage's common prefix is the instructions and examples.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.detmath import Floats, Ints
from llmsched_gym.workloads.facts import Quantiles, load_facts, load_quantiles
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import category, nanoseconds, normal, quantile, uniforms, whole
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

_FACTS: Final = load_facts("sequence_sorting")
SIZES: Final = tuple(_FACTS["sizes"]["numbers"])
PART: Final = 16
TOKENS_PER_NUMBER: Final = 3

APP_PREFIXES: Final = (
    *(f"split_{size}" for size in SIZES),
    "sort",
    *(f"merge_{size}" for size in SIZES),
    *(f"improve_{size}" for size in SIZES),
)


def _template() -> ApplicationTemplate:
    nodes = [
        TemplateNode("split", StageKind.LLM),
        TemplateNode("sort", StageKind.LLM, ("split",)),
        TemplateNode("score_sort", StageKind.REGULAR, ("sort",)),
    ]
    for size in SIZES:
        gate = None if size == SIZES[0] else "split"
        for step in ("merge", "improve"):
            name = f"{step}_{size}"
            nodes.append(TemplateNode(name, StageKind.LLM, (nodes[-1].name,), revealed_by=gate))
            nodes.append(TemplateNode(f"score_{name}", StageKind.REGULAR, (name,), revealed_by=gate))
    template = ApplicationTemplate("sequence_sorting", "predefined", tuple(nodes))
    template.validate("sequence_sorting")
    return template


TEMPLATE: Final = _template()


class _Stages(NamedTuple):
    """What the sizes of lists make of the stages, all int64 (sizes, stages)."""

    n_tasks: Ints
    """0 where lists are too short for the stage."""
    prompt_tokens: Ints
    mean_output_tokens: Ints
    output_bytes: Ints
    app_prefix: Ints
    app_prefix_tokens: Ints
    job_prefix: Ints
    job_prefix_tokens: Ints


def _stages() -> _Stages:
    table = _Stages(*np.zeros((len(_Stages._fields), len(SIZES), len(TEMPLATE.nodes)), np.int64))
    table.app_prefix[:] = table.job_prefix[:] = -1
    for which, numbers in enumerate(SIZES):
        _set_llm(table, which, "split", "split", which, 1, 1)
        _set_llm(table, which, "sort", "sort", 0, numbers // PART, _FACTS["sort"]["responses"])
        _set_score(table, which, "score_sort", numbers // PART, PART)
        for level, size in enumerate(SIZES):
            branches = numbers // size
            improvements = _FACTS["improve"]["last_responses" if branches == 1 else "responses"]
            for step, responses in (("merge", _FACTS["merge"]["responses"]), ("improve", improvements)):
                _set_llm(table, which, f"{step}_{size}", step, level, branches, responses)
                _set_score(table, which, f"score_{step}_{size}", branches, size)
    return table


def _set_llm(table: _Stages, which: int, stage: str, step: str, row: int, branches: int, responses: int) -> None:
    """Set an LLM stage: `row` of the step's facts, and so many responses to the prompt of each branch."""
    at = which, TEMPLATE.index[stage]
    prompt, shared = _FACTS[step]["prompt_tokens"][row], _FACTS["instruction_tokens"]["value"][step][row]
    siblings = branches == 1 and responses > 1
    table.n_tasks[at] = branches * responses
    table.prompt_tokens[at] = prompt
    table.mean_output_tokens[at] = _FACTS[step]["output_tokens"][row]
    table.app_prefix[at] = next(i for i, name in enumerate(APP_PREFIXES) if name.startswith(step)) + row
    table.app_prefix_tokens[at] = shared
    table.job_prefix[at] = at[1] if siblings else -1
    table.job_prefix_tokens[at] = prompt if siblings else shared


def _set_score(table: _Stages, which: int, stage: str, branches: int, size: int) -> None:
    """Set a scoring stage: one program per branch, which passes on the best list of `size` numbers."""
    at = which, TEMPLATE.index[stage]
    table.n_tasks[at] = branches
    table.output_bytes[at] = BYTES_PER_TOKEN * TOKENS_PER_NUMBER * size


_STAGES: Final = _stages()
_MOST_TASKS: Final = int(_STAGES.n_tasks.max())


class _Tables(NamedTuple):
    """Distributions."""

    sizes: Floats
    """Lists of each size, summed up."""
    verbosity_sd_log: float
    copied: Quantiles
    """Output over its mean where a response repeats numbers in order: stages `split` and `sort`."""
    merged: Quantiles
    """The same of all later responses."""
    score_seconds: Quantiles


@cache
def _tables() -> _Tables:
    return _Tables(
        np.cumsum(_FACTS["sizes"]["jobs"], dtype=np.float64),
        _FACTS["response_job_sd_log"]["value"],
        load_quantiles("sequence_sorting", "response_copied"),
        load_quantiles("sequence_sorting", "response_merged"),
        load_quantiles("sequence_sorting", "score_seconds"),
    )


_LAST_COPIED: Final = TEMPLATE.index["sort"]


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` sorting jobs."""
    block = static_block(TEMPLATE, n, _MOST_TASKS)
    size, verbosity = uniforms(rng, n, (1, 1))
    which = np.empty(n, np.int64)
    _draw_sizes(size, _tables(), which)
    widths = _STAGES.n_tasks[which].max(axis=0, initial=0)  # each stage draws for the longest list that there is
    draws = _TaskDraws(rng.random(n * int(widths.sum())), n * starts(widths), widths)
    _fill(which, verbosity, draws, _STAGES, _tables(), block)
    return block


class _TaskDraws(NamedTuple):
    """Uniforms of all tasks: (n, width) for each stage in turn."""

    u: Floats
    first: Ints
    """Where a stage's begin."""
    width: Ints


@kernel
def _draw_sizes(size: Floats, tables: _Tables, which: Ints) -> None:
    for job in range(len(which)):
        which[job] = category(size[job, 0], tables.sizes)


@kernel
def _fill(which: Ints, verbosity: Floats, draws: _TaskDraws, stages: _Stages, tables: _Tables, block: JobBlock) -> None:
    """Fill a block.

    Args:
        which: (n,) Size of each job's list, as a row of `stages`.
        verbosity: (n, 1) Uniforms for the job's lengths.
        draws: Uniforms for its tasks.
        stages: What the size makes of the stages.
        tables: Distributions.
        block: Written.
    """
    for job in range(len(block.exists)):
        size = which[job]
        factor = detmath.exponential(tables.verbosity_sd_log * normal(verbosity[job, 0]))
        for slot in range(len(draws.width)):
            used = stages.n_tasks[size, slot]
            block.present[job, slot] = used > 0
            block.n_tasks[job, slot] = used
            block.app_prefix[job, slot] = stages.app_prefix[size, slot]
            block.app_prefix_tokens[job, slot] = stages.app_prefix_tokens[size, slot]
            block.job_prefix[job, slot] = stages.job_prefix[size, slot]
            block.job_prefix_tokens[job, slot] = stages.job_prefix_tokens[size, slot]
            mean = stages.mean_output_tokens[size, slot]
            first = int(draws.first[slot] + job * draws.width[slot])
            for task in range(used):
                u = draws.u[first + task]
                if mean > 0:
                    own = quantile(u, tables.copied if slot <= _LAST_COPIED else tables.merged)
                    block.prompt_tokens[job, slot, task] = stages.prompt_tokens[size, slot]
                    block.output_tokens[job, slot, task] = whole(mean * factor * own)
                else:
                    seconds = quantile(u, tables.score_seconds)
                    block.duration_ns[job, slot, task] = nanoseconds(seconds)
                    block.output_bytes[job, slot, task] = stages.output_bytes[size, slot]


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
