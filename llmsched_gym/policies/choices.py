"""Where there is something to choose, and where all orders come to the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.envs.columns import Candidate
from llmsched_gym.workloads.template import StageKind


def forced(obs: Mapping[str, NDArray[Any]]) -> int:
    """Return the action where there is no choice: -1 where there is one.

    There is none if nothing can start (wait), or a single stage can; and if all tasks that wait for executors of one
    kind fit, they start one after another: their order decides nothing.

    Args:
        obs: Observation of an environment with ``placement="least_loaded"``.
    """
    return forced_action(obs["action_mask"], obs["candidates"])


@kernel
def forced_action(mask: NDArray[np.int8], candidates: NDArray[np.float32]) -> int:
    """Return what `forced` does, from ``action_mask`` and ``candidates``."""
    waits = len(mask) - 1
    rows, last = 0, waits
    for row in range(waits):
        if mask[row]:
            rows += 1
            last = row
    if rows <= 1:
        return last
    for kind in range(StageKind.DYNAMIC):  # LLM, regular
        first, waiting, free = -1, 0.0, np.inf
        for row in range(waits):
            if mask[row] and candidates[row, Candidate.KIND] == kind:
                first = row if first < 0 else first
                waiting += candidates[row, Candidate.TASKS_WAITING]
                free = min(free, candidates[row, Candidate.FREE_SLOTS])
        if first >= 0 and waiting <= free:
            return first
    return -1
