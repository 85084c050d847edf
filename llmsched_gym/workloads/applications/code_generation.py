"""Code generation: write code, run the tests, and up to nine times reflect, rewrite and run again.

As in Reflexion. Most jobs are solved by the first attempt; most others use up all rounds (the measured distribution of
rounds is bimodal), and neither the task's nor the first attempt's length tells which. Code lengths of one job correlate
strongly between rounds, reflections moderately. A prompt repeats only the latest attempt, after fixed instructions and
examples, so prompts share those and nothing else.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application, static_block
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import (
    Ints,
    categorical,
    correlated_uniforms,
    load_facts,
    load_quantiles,
    normals,
    uniforms_given,
)
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

MAX_ROUNDS: Final = 10
APP_PREFIXES: Final = ("write", "reflect", "rewrite")

_WRITE, _REFLECT, _REWRITE = range(3)
_CODE, _TEST, _REFLECTION = (slice(first, None, 3) for first in range(3))  # slots by round; reflections from round 2

_FACTS: Final = load_facts("code_generation")
_DATASETS: Final = _FACTS["datasets"]["names"]
_CORRELATIONS: Final = _FACTS["correlations"]
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


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` code-generation jobs."""
    block = static_block(TEMPLATE, n, 1)
    dataset = categorical(rng.random(n), _FACTS["datasets"]["jobs"])
    rounds = 1 + _by_dataset(dataset, [categorical(rng.random(n), _FACTS[f"rounds_{d}"]["counts"]) for d in _DATASETS])
    size = normals(rng, n)
    task = _tokens("task_prompt", dataset, uniforms_given(rng, size, 1, _CORRELATIONS["prompt_with_job"]))
    first = _tokens("first_code", dataset, uniforms_given(rng, size, 1, _CORRELATIONS["first_with_job"]))
    later = _tokens("later_code", dataset, _later_scores(rng, size))
    code = np.concatenate([first, later], axis=1)
    failed = correlated_uniforms(rng, n, MAX_ROUNDS, _CORRELATIONS["failed_tests"])
    feedback = _tokens("failed_tests", dataset, failed)
    thoughts = correlated_uniforms(rng, n, MAX_ROUNDS - 1, _CORRELATIONS["reflections"])
    reflection = _quantiles("reflection").whole(thoughts)
    running = correlated_uniforms(rng, n, MAX_ROUNDS, _FACTS["test_seconds_correlation"]["value"])
    seconds = _quantiles("test_seconds")(running)

    instructions = _FACTS["instruction_tokens"]["value"]
    headings = _FACTS["separator_tokens"]["value"]
    attempt = code[:, :-1] + feedback[:, :-1]
    prompt, output = block.prompt_tokens[:, :, 0], block.output_tokens[:, :, 0]
    prompt[:, _CODE] = instructions["rewrite"] + headings + task
    prompt[:, _CODE][:, 1:] += attempt + reflection
    prompt[:, :1] = instructions["write"] + task
    prompt[:, _REFLECTION] = instructions["reflect"] + headings + attempt
    output[:, _CODE] = code
    output[:, _REFLECTION] = reflection
    block.duration_ns[:, _TEST, 0] = np.rint(seconds * 1e9).astype(np.int64)
    assert block.output_bytes is not None
    block.output_bytes[:, _TEST, 0] = BYTES_PER_TOKEN * feedback

    for slots, prefix in ((slice(0, 1), _WRITE), (slice(3, None, 3), _REWRITE), (_REFLECTION, _REFLECT)):
        block.app_prefix[:, slots] = prefix
        block.app_prefix_tokens[:, slots] = instructions[APP_PREFIXES[prefix]]
    block.job_prefix_tokens[:] = block.app_prefix_tokens
    _skip_rounds(block, rounds)
    return block


def _later_scores(rng: np.random.Generator, size: Floats) -> Floats:
    """(n, 9) uniforms of later rounds: a share of variance is the job's `size`, the rest fades from round to round."""
    share, decay = _CORRELATIONS["later_share"], _CORRELATIONS["later_decay"]
    noise = normals(rng, (len(size), MAX_ROUNDS - 1))
    fading = np.empty_like(noise)
    fading[:, 0] = noise[:, 0]
    for k in range(1, MAX_ROUNDS - 1):
        fading[:, k] = decay * fading[:, k - 1] + np.sqrt(1.0 - decay * decay) * noise[:, k]
    return detmath.normal_cdf(np.sqrt(share) * size[:, None] + np.sqrt(1.0 - share) * fading)


def _tokens(name: str, dataset: Ints, u: Floats) -> Ints:
    return _by_dataset(dataset[:, None], [_quantiles(f"{name}_{d}").whole(u) for d in _DATASETS])


def _by_dataset(dataset: Ints, options: list[Ints]) -> Ints:
    return np.choose(dataset, options)


def _skip_rounds(block: JobBlock, rounds: NDArray[np.int64]) -> None:
    """Mark the slots after round ``rounds`` absent: the last test run that happens reveals them all."""
    round_of = np.array([1, 1] + [k for k in range(2, MAX_ROUNDS + 1) for _ in range(3)])
    block.present[:] = round_of <= rounds[:, None]
    last_test = 3 * (rounds[:, None] - 1) + 1
    block.revealer[:] = np.where(block.present, block.revealer, last_test)
    block.n_tasks[:] = block.present


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
