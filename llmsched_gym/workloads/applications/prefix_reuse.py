"""Prefix reuse: an agent whose every prompt begins with thousands of tokens that all jobs share.

An agent thinks, calls a tool and reads what it returned, until the last of two to six thoughts, which is the answer.
Its prompts begin with instructions and tool descriptions, the same in all jobs; then comes a conversation that grows in
the job: each prompt repeats the one before and its output. The shared part is swept from 8,000 to 30,000 tokens.

One application for each length; all draw the same jobs, which differ in nothing but that length. Everything is assumed
(``facts/prefix_reuse.json``): there are reports of how long such prefixes are, but no recorded jobs.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.facts import load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import uniforms
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

NAME: Final = "prefix_reuse"
_FACTS: Final = load_facts(NAME)
SHARED_TOKENS: Final[tuple[int, ...]] = tuple(_FACTS["shared_tokens"]["values"])
USUAL: Final[int] = _FACTS["shared_tokens"]["usual"]
MAX_STEPS: Final = len(_FACTS["steps"]["shares"])


def _template(name: str) -> ApplicationTemplate:
    nodes = [TemplateNode("think_1", StageKind.LLM)]
    for k in range(1, MAX_STEPS):
        gate = f"think_{k}"
        nodes.append(TemplateNode(f"tool_{k}", StageKind.REGULAR, (gate,), revealed_by=gate))
        nodes.append(TemplateNode(f"think_{k + 1}", StageKind.LLM, (f"tool_{k}",), revealed_by=gate))
    template = ApplicationTemplate(name, "chain", tuple(nodes))
    template.validate(name)
    return template


def _sample(shared: int, template: ApplicationTemplate, n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs; slots: think, then tool and think in turn."""
    block = static_block(template, n, 1)
    steps_u, request_u, output_u, result_u, seconds_u = uniforms(
        rng, n, (1, 1, MAX_STEPS, MAX_STEPS - 1, MAX_STEPS - 1)
    )
    ends = np.cumsum(_FACTS["steps"]["shares"])
    steps = 1 + np.minimum(np.searchsorted(ends, steps_u[:, 0] * ends[-1], side="right"), MAX_STEPS - 1)
    slot = np.arange(len(template.nodes))
    last = 2 * (steps - 1)[:, None]
    block.present[:] = slot <= last
    block.n_tasks[:] = slot <= last
    block.revealer[:] = np.minimum(block.revealer, last)  # the last thought tells that nothing follows

    request, output, result = (
        np.rint(load_quantiles(NAME, f"{name}_tokens")(u)).astype(np.int64)
        for name, u in (("request", request_u), ("output", output_u), ("result", result_u))
    )
    block.duration_ns[:, 1::2, 0] = np.rint(load_quantiles(NAME, "tool_seconds")(seconds_u) * 1e9).astype(np.int64)
    block.output_bytes[:, 1::2, 0] = BYTES_PER_TOKEN * result
    held, prompt = np.full(n, shared), shared + request[:, 0]
    for k in range(MAX_STEPS):
        think = 2 * k
        block.app_prefix[:, think], block.app_prefix_tokens[:, think] = 0, shared
        block.job_prefix[:, think], block.job_prefix_tokens[:, think] = 0, held
        block.prompt_tokens[:, think, 0], block.output_tokens[:, think, 0] = prompt, output[:, k]
        held = prompt + output[:, k]
        prompt = held + (result[:, k] if k < MAX_STEPS - 1 else 0)
    return block


def prefix_reuse(shared_tokens: int = USUAL, name: str = NAME) -> Application:
    """Return the application whose prompts share so many tokens.

    Args:
        shared_tokens: Tokens of instructions and tool descriptions, at least 1.
        name: Its name. Whatever it is, a seed draws the same jobs but for the shared tokens.
    """
    template = _template(name)
    return Application(template, ("instructions_and_tools",), partial(_sample, shared_tokens, template), draws_as=NAME)


PREFIX_REUSES: Final = (prefix_reuse(), *(prefix_reuse(tokens, f"{NAME}_{tokens}") for tokens in SHARED_TOKENS))
