"""What an application's sampler returns: many jobs of one application as dense arrays, and their flattening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.template import ApplicationTemplate, StageKind
from llmsched_gym.workloads.workload import JOB, STAGE, TASK

BYTES_PER_TOKEN = 4
"""Assumed size of one token of text; sets the output bytes of LLM tasks."""


@dataclass(frozen=True)
class JobBlock:
    """`n` jobs of one application; `S` stage slots in a topological order, up to `T` tasks per slot.

    Attributes:
        exists: bool (n, S). The slot is a stage of the job: static template stages always exist (an optional one that the
            job skips exists and is not present); slots of a planned sub-DAG exist only when the plan has them.
        node: int (n, S). Template node of the slot.
        present: bool (n, S). False for an optional stage that the job will skip.
        revealer: int (n, S). Slot whose completion reveals this one as present or skipped; -1: visible on arrival.
        parents: bool (n, S, S). ``parents[j, c, p]``: slot p precedes slot c (p < c). For a dynamic slot D of planner P:
            D has parent P and revealer -1; sub-DAG sources have parent D and revealer P; what follows has the sub-DAG's
            sinks and D as parents.
        n_tasks: int (n, S). Parallel tasks of the slot; 0 for dynamic slots.
        prompt_tokens, output_tokens: int (n, S, T). LLM tasks, both at least 1.
        duration_ns: int (n, S, T). Regular tasks.
        app_prefix: int (S,) or (n, S). Application-local prefix id per slot, -1: none. Prefixes 0.. are numbered per application.
        app_prefix_tokens: int (n, S). Leading prompt tokens that every job of the application shares.
        job_prefix: int (n, S). Job-local id of the chain that the slot's content continues, -1: none. Two tasks with the
            same id in one job share content: a later prompt repeats an earlier prompt and its output, or siblings
            sampled from one prompt.
        job_prefix_tokens: int (n, S). Leading prompt tokens of the slot that equal what the chain holds when the slot starts
            (siblings: the whole prompt; a growing conversation: the previous prompt plus its output); >= app_prefix_tokens.
        output_bytes: int (n, S, T) or None. Regular tasks' output; LLM outputs are 4 bytes per token.
    """

    exists: NDArray[np.bool_]
    node: NDArray[np.integer]
    present: NDArray[np.bool_]
    revealer: NDArray[np.integer]
    parents: NDArray[np.bool_]
    n_tasks: NDArray[np.integer]
    prompt_tokens: NDArray[np.integer]
    output_tokens: NDArray[np.integer]
    duration_ns: NDArray[np.integer]
    app_prefix: NDArray[np.integer]
    app_prefix_tokens: NDArray[np.integer]
    job_prefix: NDArray[np.integer]
    job_prefix_tokens: NDArray[np.integer]
    output_bytes: NDArray[np.integer] | None = None
