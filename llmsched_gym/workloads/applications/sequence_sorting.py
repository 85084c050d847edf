"""Sequence sorting: split a list, sort its parts, merge pairs of sorted lists until one is left, improving each.

As the sorting example of Graph of Thoughts for 32, 64 and 128 numbers. The branches of one level (parts, pairs of
lists) are tasks of one stage: each branch samples several responses to its prompt, and a local program scores them.
The split reveals how many merge levels follow: one, two or three. With one branch left, siblings share their prompt
whole; with several, the stage's common prefix is the instructions and examples.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.base import Application, static_block
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.detmath import Floats
from llmsched_gym.workloads.facts import Ints, categorical, load_facts, load_quantiles, normals
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN

_FACTS: Final = load_facts("sequence_sorting")
_quantiles: Final = partial(load_quantiles, "sequence_sorting")
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

_MOST_TASKS: Final = max(
    SIZES[-1] // PART * _FACTS["sort"]["responses"], SIZES[-1] // SIZES[0] * _FACTS["merge"]["responses"]
)


def sample(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw `n` sorting jobs."""
    block = static_block(TEMPLATE, n, _MOST_TASKS)
    which = categorical(rng.random(n), _FACTS["sizes"]["jobs"])
    numbers = np.array(SIZES)[which]
    verbosity = detmath.exp(_FACTS["response_job_sd_log"]["value"] * normals(rng, n))
    draw = _Draw(block, verbosity, rng)

    one = np.ones(n, dtype=np.int64)
    draw.llm("split", "split", which, one, one, "copied")
    parts = numbers // PART
    draw.llm("sort", "sort", np.zeros_like(which), parts, _FACTS["sort"]["responses"] * one, "copied")
    draw.score("score_sort", parts, PART)
    for level, size in enumerate(SIZES):
        branches = numbers // size  # 0 where the job's list is shorter: the level is absent
        improvements = np.where(branches == 1, _FACTS["improve"]["last_responses"], _FACTS["improve"]["responses"])
        for step, responses in (("merge", _FACTS["merge"]["responses"] * one), ("improve", improvements)):
            draw.llm(f"{step}_{size}", step, np.full(n, level), branches, responses, "merged")
            draw.score(f"score_{step}_{size}", branches, size)
    return block


class _Draw:
    """Fills the stages of a block one by one."""

    def __init__(self, block: JobBlock, verbosity: Floats, rng: np.random.Generator) -> None:
        self.block = block
        self.verbosity = verbosity
        self.rng = rng

    def llm(self, stage: str, step: str, row: Ints, branches: Ints, responses: Ints, noise: str) -> None:
        """Set an LLM stage: `row` of the step's facts per job, `responses` to the prompt of each of its `branches`."""
        block, slot = self.block, TEMPLATE.index[stage]
        count = branches * responses
        most = int(count.max(initial=0))
        factor = _quantiles(f"response_{noise}")(self.rng.random((len(row), most)))
        tokens = np.array(_FACTS[step]["output_tokens"])[row]
        prompt = np.array(_FACTS[step]["prompt_tokens"])[row]
        output = np.maximum(np.rint((tokens * self.verbosity)[:, None] * factor).astype(np.int64), 1)
        block.present[:, slot] = branches > 0
        block.n_tasks[:, slot] = count
        used = np.arange(most) < count[:, None]
        block.prompt_tokens[:, slot, :most] = np.where(used, prompt[:, None], 0)
        block.output_tokens[:, slot, :most] = np.where(used, output, 0)
        shared = np.array(_FACTS["instruction_tokens"]["value"][step])[row]
        siblings = (branches == 1) & (responses > 1)
        block.app_prefix[:, slot] = _first_prefix(step) + row
        block.app_prefix_tokens[:, slot] = shared
        block.job_prefix[:, slot] = np.where(siblings, slot, -1)
        block.job_prefix_tokens[:, slot] = np.where(siblings, prompt, shared)

    def score(self, stage: str, branches: Ints, size: int) -> None:
        """Set a scoring stage: one program per branch, which passes on the best list of `size` numbers."""
        block, slot = self.block, TEMPLATE.index[stage]
        most = int(branches.max(initial=0))
        seconds = _quantiles("score_seconds")(self.rng.random((len(branches), most)))
        used = np.arange(most) < branches[:, None]
        block.present[:, slot] = branches > 0
        block.n_tasks[:, slot] = branches
        block.duration_ns[:, slot, :most] = np.where(used, np.rint(seconds * 1e9).astype(np.int64), 0)
        assert block.output_bytes is not None
        block.output_bytes[:, slot, :most] = np.where(used, BYTES_PER_TOKEN * TOKENS_PER_NUMBER * size, 0)


def _first_prefix(step: str) -> int:
    """Position of the first prefix of `step` in `APP_PREFIXES`."""
    return next(i for i, name in enumerate(APP_PREFIXES) if name.startswith(step))


APPLICATION: Final = Application(TEMPLATE, APP_PREFIXES, sample)
