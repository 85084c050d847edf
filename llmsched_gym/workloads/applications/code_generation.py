"""Code generation: write code, run the tests, and up to nine times reflect, rewrite and run again.

As in Reflexion. Most jobs are solved by the first attempt; most others use up all rounds (the measured distribution of
rounds is bimodal), and neither the task's nor the first attempt's length tells which. Code lengths of one job correlate
strongly between rounds, reflections moderately. A prompt repeats only the latest attempt, after fixed instructions and
examples, so prompts share those and nothing else.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Final, NamedTuple

import numpy as np

from llmsched_gym._jit import kernel
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.detmath import Curve, Floats, Ints
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
    whole_quantile,
)
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

MAX_ROUNDS: Final = 10
APP_PREFIXES: Final = ("write", "reflect", "rewrite")

_WRITE, _REFLECT, _REWRITE = range(3)

_FACTS: Final = load_facts("code_generation")
_DATASETS: Final = _FACTS["datasets"]["names"]
_quantiles: Final = partial(load_quantiles, "code_generation")


def _template() -> ApplicationTemplate:
    nodes = [
        TemplateNode("code_1", StageKind.LLM),
        TemplateNode("test_1", StageKind.REGULAR, ("code_1",)),
    ]
    for k in range(2, MAX_ROUNDS + 1):
        gate = f"test_{k - 1}"
        nodes += [
            TemplateNode(f"reflect_{k}", StageKind.LLM, (gate,), revealed_by=gate),
            TemplateNode(f"code_{k}", StageKind.LLM, (f"reflect_{k}",), revealed_by=gate),
            TemplateNode(f"test_{k}", StageKind.REGULAR, (f"code_{k}",), revealed_by=gate),
        ]
    template = ApplicationTemplate("code_generation", "chain", tuple(nodes))
    template.validate("code_generation")
    return template


TEMPLATE: Final = _template()


class _Tables(NamedTuple):
    """Distributions, and how much the variates of one job correlate; tuples have an item per data set."""

    datasets: Floats
    """Jobs of each data set, summed up."""
    rounds: Floats
    """(data sets, 10) jobs of 1, 2, ... rounds, summed up."""
    task_prompt: tuple[Quantiles, ...]
    first_code: tuple[Quantiles, ...]
    later_code: tuple[Quantiles, ...]
    failed_tests: tuple[Quantiles, ...]
    """Tokens that a test run reports."""
    reflection: Quantiles
    test_seconds: Quantiles
    instruction_tokens: Ints
    """(3,) by prefix."""
    heading_tokens: int
    task_with_size: float
    """Correlation of the task's length with the job's size; the same for the other `..._with_...`."""
    first_with_size: float
    later_with_size: float
    later_with_fading: float
    """The rest of later code's variance: a part that fades from round to round."""
    fading: float
    """Correlation of that part between neighbouring rounds."""
    failed_with_job: float
    reflection_with_job: float
    test_with_job: float
    normal_curve: Curve


@cache
def _tables() -> _Tables:
    correlations = _FACTS["correlations"]

    def by_dataset(name: str) -> tuple[Quantiles, ...]:
        return tuple(_quantiles(f"{name}_{dataset}") for dataset in _DATASETS)

    return _Tables(
        datasets=np.cumsum(_FACTS["datasets"]["jobs"], dtype=np.float64),
        rounds=np.cumsum([_FACTS[f"rounds_{dataset}"]["counts"] for dataset in _DATASETS], axis=1, dtype=np.float64),
        task_prompt=by_dataset("task_prompt"),
        first_code=by_dataset("first_code"),
        later_code=by_dataset("later_code"),
        failed_tests=by_dataset("failed_tests"),
        reflection=_quantiles("reflection"),
        test_seconds=_quantiles("test_seconds"),
        instruction_tokens=np.array([_FACTS["instruction_tokens"]["value"][name] for name in APP_PREFIXES]),
        heading_tokens=_FACTS["separator_tokens"]["value"],
        task_with_size=correlations["prompt_with_job"],
        first_with_size=correlations["first_with_job"],
        later_with_size=math.sqrt(correlations["later_share"]),
        later_with_fading=math.sqrt(1.0 - correlations["later_share"]),
        fading=correlations["later_decay"],
        failed_with_job=math.sqrt(correlations["failed_tests"]),
        reflection_with_job=math.sqrt(correlations["reflections"]),
        test_with_job=math.sqrt(_FACTS["test_seconds_correlation"]["value"]),
        normal_curve=detmath.normal_curve(),
    )


class _Uniforms(NamedTuple):
    """Uniforms of `n` jobs: (n, 1) of a whole job, (n, 10) of its rounds, (n, 9) of those after the first.

    Those of `..._job` make the rounds of one job alike.
    """

    dataset: Floats
    rounds: Floats
    """(data sets, n) How many rounds; a job uses the row of its data set."""
    size: Floats
    task: Floats
    first_code: Floats
    later_code: Floats
    failed_job: Floats
    failed: Floats
    reflection_job: Floats
    reflection: Floats
    test_job: Floats
    test: Floats


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` code-generation jobs."""
    block = static_block(TEMPLATE, n, 1)
    later = MAX_ROUNDS - 1
    widths = (1, len(_DATASETS), 1, 1, 1, later, 1, MAX_ROUNDS, 1, later, 1, MAX_ROUNDS)
    u = _Uniforms(*uniforms(rng, n, widths))
    _fill(u._replace(rounds=u.rounds.reshape(len(_DATASETS), n)), _tables(), block)
    return block


@kernel
def _fill(u: _Uniforms, tables: _Tables, block: JobBlock) -> None:
    """Write the rounds of each job, and mark those absent that it does without."""
    curve = tables.normal_curve
    instructions = tables.instruction_tokens
    headings = tables.heading_tokens
    for job in range(len(block.exists)):
        dataset = category(u.dataset[job, 0], tables.datasets)
        rounds = 1 + category(u.rounds[dataset, job], tables.rounds[dataset])
        size = normal(u.size[job, 0])
        job_failing = normal(u.failed_job[job, 0])
        job_reflecting = normal(u.reflection_job[job, 0])
        job_running = normal(u.test_job[job, 0])
        asked = _level_with(tables.task_with_size, size, u.task[job, 0], curve)
        task = whole_quantile(asked, tables.task_prompt[dataset])
        attempt = 0  # tokens of the latest code and of what its tests reported
        fading = 0.0
        for k in range(rounds):
            slot = 3 * k
            if k == 0:
                first = _level_with(tables.first_with_size, size, u.first_code[job, 0], curve)
                code = whole_quantile(first, tables.first_code[dataset])
                _set_llm(block, job, slot, _WRITE, instructions, task, code)
            else:
                thoughts = _level_with(tables.reflection_with_job, job_reflecting, u.reflection[job, k - 1], curve)
                reflection = whole_quantile(thoughts, tables.reflection)
                _set_llm(block, job, slot - 1, _REFLECT, instructions, headings + attempt, reflection)
                noise = u.later_code[job, k - 1]
                fading = normal(noise) if k == 1 else correlated(tables.fading, fading, noise)
                later = level(tables.later_with_size * size + tables.later_with_fading * fading, curve)
                code = whole_quantile(later, tables.later_code[dataset])
                quoted = task + attempt + reflection
                _set_llm(block, job, slot, _REWRITE, instructions, headings + quoted, code)
            ran = _level_with(tables.test_with_job, job_running, u.test[job, k], curve)
            seconds = quantile(ran, tables.test_seconds)
            failed = _level_with(tables.failed_with_job, job_failing, u.failed[job, k], curve)
            report = whole_quantile(failed, tables.failed_tests[dataset])
            block.duration_ns[job, slot + 1, 0] = nanoseconds(seconds)
            block.output_bytes[job, slot + 1, 0] = BYTES_PER_TOKEN * report
            attempt = code + report
        _skip_rounds(block, job, rounds)


@kernel
def _level_with(r: float, latent: float, u: float, normal_curve: Curve) -> float:
    """Return a uniform variate whose normal score correlates by `r` with `latent`."""
    return level(correlated(r, latent, u), normal_curve)


@kernel
def _set_llm(block: JobBlock, job: int, slot: int, prefix: int, instructions: Ints, rest: int, output: int) -> None:
    """Set an LLM stage: its prompt is the instructions of its prefix and the rest."""
    shared = instructions[prefix]
    block.prompt_tokens[job, slot, 0] = shared + rest
    block.output_tokens[job, slot, 0] = output
    block.app_prefix[job, slot] = prefix
    block.app_prefix_tokens[job, slot] = block.job_prefix_tokens[job, slot] = shared


@kernel
def _skip_rounds(block: JobBlock, job: int, rounds: int) -> None:
    """Mark the slots after round `rounds` absent: the last test run that happens reveals them all."""
    used = 3 * rounds - 1  # no reflection in the first round
    block.n_tasks[job, :used] = 1
    block.present[job, used:] = False
    block.revealer[job, used:] = used - 1


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
