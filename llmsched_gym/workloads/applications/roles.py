"""Roles that stages of a workflow play, and how long the tasks of each are: as those of the six applications.

No public set of workflows says how long the LLM calls at each place of a large graph are. So a task in a role takes its
prompt and output together from a task that an application of ours has in that role, whose lengths are fitted to
measured ones.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.applications import (
    code_generation,
    llm_compiler,
    sequence_sorting,
    task_automation,
    web_search,
)
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.detmath import Floats, Ints, interpolate, normal_curve, normal_quantile
from llmsched_gym.workloads.splits import stream
from llmsched_gym.workloads.template import StageKind

_SOURCES: Final[dict[str, tuple[Application, str]]] = {
    "route": (llm_compiler.APPLICATION, "replan"),
    "plan": (task_automation.APPLICATION, "plan"),
    "work": (sequence_sorting.APPLICATION, "sort"),
    "think": (web_search.APPLICATION, "think_"),
    "code": (code_generation.APPLICATION, "code_"),
    "refine": (sequence_sorting.APPLICATION, "improve_"),
    "judge": (llm_compiler.APPLICATION, "join"),
    "answer": (task_automation.APPLICATION, "answer"),
    "tool": (web_search.APPLICATION, "search_"),
}
"""Application and beginning of the names of the stages that show what a role is like."""

ROLES: Final = tuple(_SOURCES)
KINDS: Final = {role: StageKind.REGULAR if role == "tool" else StageKind.LLM for role in ROLES}
PREFIXES: Final = tuple(role for role in ROLES if KINDS[role] is StageKind.LLM)
"""Prompt prefixes that all jobs of an application of roles share: the instructions of each role."""

_SAMPLED: Final = 500
"""Jobs of an application that are looked at."""


class RoleTasks(NamedTuple):
    """Tasks in one role, from the shortest output to the longest, (rows,) each; and what their prompts share."""

    prompt_tokens: Ints
    output_tokens: Ints
    duration_ns: Ints
    output_bytes: Ints
    prefix_tokens: int
    """Tokens of the role's instructions: the shortest that the application has, so that every prompt holds them."""


@cache
def role_tasks(role: str) -> RoleTasks:
    """Return the tasks that show what a role is like; they are the same for all splits and seeds."""
    application, begin = _SOURCES[role]
    template = application.template
    block = application.sample(_SAMPLED, stream("profile", 0, f"roles/{role}"))
    nodes = [i for i, node in enumerate(template.nodes) if node.name.startswith(begin)]
    job, slot = np.nonzero(block.exists & block.present & np.isin(block.node, nodes))
    task = np.arange(block.prompt_tokens.shape[2])
    used = task < block.n_tasks[job, slot][:, None]
    columns = (block.prompt_tokens, block.output_tokens, block.duration_ns, block.output_bytes)
    prompt, output, duration, size = (column[job, slot][used].astype(np.int64) for column in columns)
    order = np.lexsort((size, prompt, duration, output))
    shared = block.app_prefix_tokens[job, slot]
    return RoleTasks(prompt[order], output[order], duration[order], size[order], int(shared.min(initial=shared[0])))


def set_instructions(block: JobBlock, roles: NDArray[np.int64]) -> None:
    """Let the prompts of LLM stages begin with the instructions of their roles.

    Args:
        block: Written.
        roles: int (n, S) Position in `ROLES` of each slot's role; -1: none.
    """
    for number, role in enumerate(ROLES):
        if KINDS[role] is StageKind.LLM:
            here = roles == number
            block.app_prefix[here] = PREFIXES.index(role)
            block.app_prefix_tokens[here] = block.job_prefix_tokens[here] = role_tasks(role).prefix_tokens


def set_tasks(block: JobBlock, roles: NDArray[np.int64], job_score: Floats, score: Floats, correlation: float) -> None:
    """Draw the tasks of all stages that have a role.

    The ranks of a job's tasks among those of their roles are alike: their normal scores correlate.

    Args:
        block: Written; ``exists``, ``present`` and ``n_tasks`` are set.
        roles: int (n, S) As `set_instructions`.
        job_score: (n, 1) Uniforms, of each job.
        score: (n, W) Uniforms, of the tasks of each job in the order of its slots; it has at most W.
        correlation: Between the scores of two tasks of one job.
    """
    room = block.prompt_tokens.shape[2]
    job, slot, task = np.nonzero(np.arange(room) < block.n_tasks[:, :, None])
    first = np.cumsum(np.bincount(job, minlength=len(roles)))[job] - np.bincount(job, minlength=len(roles))[job]
    own = normal_quantile(np.maximum(score[job, np.arange(len(job)) - first], 2.0**-54))
    common = normal_quantile(np.maximum(job_score[job, 0], 2.0**-54))
    both = np.sqrt(correlation) * common + np.sqrt(1.0 - correlation) * own
    rank = interpolate(both, *normal_curve())
    for number, role in enumerate(ROLES):
        here = roles[job, slot] == number
        if not here.any():
            continue
        table, at = role_tasks(role), (job[here], slot[here], task[here])
        row = np.minimum((rank[here] * len(table.prompt_tokens)).astype(np.int64), len(table.prompt_tokens) - 1)
        block.prompt_tokens[at] = table.prompt_tokens[row]
        block.output_tokens[at] = table.output_tokens[row]
        block.duration_ns[at] = table.duration_ns[row]
        block.output_bytes[at] = table.output_bytes[row]
