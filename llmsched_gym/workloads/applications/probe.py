"""Probe: jobs of two kinds that look alike until a short first stage tells which kind each is.

The first stage yields about 30 tokens, a few more if the job is a long one. The second stage yields about 600 tokens in
a short job and `spread` times as many in a long one. Whoever starts first stages early knows which jobs are short, at a
twentieth of the price of a short job. Beside it stands `probe_known`, one stage of about 1,100 tokens: longer than a
short job, shorter than what is expected of one that nobody has looked at. By historical means it comes before all jobs
of unknown kind, though most of these are shorter.

**Made up**, all of it (``facts/probe.json``): no recorded jobs are like this. It asks one question, what looking first
is worth, and is no claim about how often that matters. A spread of 16 (`probe_16`) does not fit the context of 8,192
tokens that other applications keep to; its cluster needs room for it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from llmsched_gym.errors import InputError
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.facts import load_facts, load_quantiles
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.variates import uniforms

NAME: Final = "probe"
KNOWN_NAME: Final = "probe_known"
_FACTS: Final = load_facts(NAME)
USUAL_SPREAD: Final[int] = _FACTS["spread"]["usual"]
SPREADS: Final[tuple[int, ...]] = tuple(_FACTS["spread"]["values"])
LONG_SHARE: Final[float] = _FACTS["long_share"]["value"]
MOST_SPREAD: Final = 100


def _sample(
    spread: float, long_share: float, template: ApplicationTemplate, n: int, rng: np.random.Generator
) -> JobBlock:
    """Draw `n` jobs; slots: probe, solve. The second prompt repeats the first and its output."""
    block = static_block(template, n, 1)
    kind_u, prompt_u, probe_u, solve_u = (u[:, 0] for u in uniforms(rng, n, (1, 1, 1, 1)))
    long = kind_u < long_share
    least, most = np.where(long[:, None], _FACTS["probe_tokens"]["long"], _FACTS["probe_tokens"]["short"]).T
    prompt = np.rint(load_quantiles(NAME, "prompt_tokens")(prompt_u)).astype(np.int64)
    told = least + np.floor(probe_u * (most - least + 1)).astype(np.int64)
    solved = np.rint(load_quantiles(NAME, "solve_tokens")(solve_u) * np.where(long, spread, 1.0)).astype(np.int64)
    block.n_tasks[:] = 1
    block.prompt_tokens[:, :, 0] = np.stack((prompt, prompt + told), axis=1)
    block.output_tokens[:, :, 0] = np.stack((told, solved), axis=1)
    block.job_prefix[:] = 0
    block.job_prefix_tokens[:, 1] = prompt + told
    return block


def probe(spread: float = USUAL_SPREAD, long_share: float = LONG_SHARE, name: str = NAME) -> Application:
    """Return the application whose first stage tells the kind of a job.

    Args:
        spread: How many times as long the second stage of a long job is, 1 to `MOST_SPREAD`.
        long_share: Share of long jobs, 0 to 1.
        name: Its name. Whatever it is, a seed draws the same jobs but for what these parameters change.

    Raises:
        InputError: A parameter is out of range.
    """
    if not 1.0 <= (real_number(spread) or 0.0) <= MOST_SPREAD:
        raise InputError(f"application {name}", "spread", spread, f"a number from 1 to {MOST_SPREAD}")
    share = real_number(long_share)
    if share is None or not 0.0 <= share <= 1.0:
        raise InputError(f"application {name}", "long_share", long_share, "a number from 0 to 1")
    nodes = (TemplateNode("probe", StageKind.LLM), TemplateNode("solve", StageKind.LLM, ("probe",)))
    template = ApplicationTemplate(name, "chain", nodes)
    return Application(template, (), partial(_sample, spread, share, template), draws_as=NAME)


def _sample_known(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` jobs of one stage."""
    block = static_block(_KNOWN, n, 1)
    prompt_u, answer_u = (u[:, 0] for u in uniforms(rng, n, (1, 1)))
    block.n_tasks[:] = 1
    block.prompt_tokens[:, 0, 0] = np.rint(load_quantiles(NAME, "prompt_tokens")(prompt_u)).astype(np.int64)
    block.output_tokens[:, 0, 0] = np.rint(load_quantiles(NAME, "known_tokens")(answer_u)).astype(np.int64)
    return block


_KNOWN: Final = ApplicationTemplate(KNOWN_NAME, "predefined", (TemplateNode("answer", StageKind.LLM),))

PROBES: Final = (
    probe(),
    *(probe(spread, name=f"{NAME}_{spread}") for spread in SPREADS),
    Application(_KNOWN, (), _sample_known),
)
