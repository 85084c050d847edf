"""Shorter prompts and outputs, for engines that would take hours over the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.workload import BYTES_PER_TOKEN, Workload


def shortened(workload: Workload, divisor: int) -> Workload:
    """Divide all prompts, prefixes and outputs by a whole number; 1 returns the workload itself.

    Prompts and outputs are rounded up, so that none is empty, shared prefixes down, so that a chain holds all that a
    later prompt repeats. Historical means are divided with them.
    """
    if divisor == 1:
        return workload
    tasks = workload.tasks.copy()
    llm = tasks["model"] >= 0
    for column in ("prompt_tokens", "output_tokens"):
        tasks[column][llm] = -(-tasks[column][llm] // divisor)
    for column in ("app_prefix_tokens", "job_prefix_tokens"):
        tasks[column][llm] //= divisor
    tasks["output_bytes"][llm] = tasks["output_tokens"][llm].astype(np.int64) * BYTES_PER_TOKEN
    history = tuple(shortened_history(rows, divisor) for rows in workload.history)
    total = divisor * workload.provenance.get("token_divisor", 1)
    return replace(workload, tasks=tasks, history=history, provenance={**workload.provenance, "token_divisor": total})


def shortened_history(history: NDArray[Any], divisor: int) -> NDArray[Any]:
    """Divide the token counts of `HISTORY` rows; context is summed over decodes, and so shrinks twice."""
    rows = history.copy()
    for column in ("prefill_tokens", "output_tokens"):
        rows[column] /= divisor
    rows["context_tokens"] /= divisor**2
    return rows
