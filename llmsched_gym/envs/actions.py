"""What an action says, which are legal, and what becomes of those that are not.

An action ``i * placements + e`` starts a task of the stage in row ``i`` of ``candidates`` on executor ``e``; with one
placement, on the least loaded executor. The last action waits for the next event.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel
from llmsched_gym.cluster.lifecycle import least_loaded
from llmsched_gym.cluster.state import ClusterState


@inlined_kernel
def write_mask(state: ClusterState, can_wait: bool, placements: int, mask: NDArray[np.int8]) -> None:
    """Fill the action mask.

    Args:
        state: The cluster.
        can_wait: Whether anything will ever happen without a dispatch.
        placements: 1, or the number of executors where the action chooses one.
        mask: int8 (N * placements + 1,), zeros.
    """
    rows = (len(mask) - 1) // placements
    for i in range(min(state.clock[0].ready, rows)):
        pool = state.stages[state.ready[i]].pool
        if state.pools[pool].free == 0:
            continue
        if placements == 1:
            mask[i] = 1
            continue
        for e in range(placements):
            row = state.executors[e]
            if (row.pools >> pool) & 1 and row.running < row.slots:
                mask[i * placements + e] = 1
    mask[len(mask) - 1] = can_wait


@kernel
def dispatch_of(state: ClusterState, action: int, rows: int, placements: int) -> tuple[int, int]:
    """Return the stage and the executor that an action starts a task of, and on.

    Args:
        state: The cluster.
        action: Not the one that waits, unless that is illegal now.
        rows: Rows of ``candidates``.
        placements: 1, or the number of executors where the action chooses one.

    Returns:
        (row of the stage, row of the executor). An illegal action counts, and becomes the oldest dispatch.
    """
    row = action // placements
    if 0 <= row < min(state.clock[0].ready, rows):
        stage = state.ready[row]
        pool = state.stages[stage].pool
        if placements == 1:
            if state.pools[pool].free > 0:
                return stage, least_loaded(state, pool)
        else:
            chosen = state.executors[action % placements]
            if (chosen.pools >> pool) & 1 and chosen.running < chosen.slots:
                return stage, action % placements
    state.clock[0].illegal_actions += 1
    for oldest in range(state.clock[0].ready):
        stage = state.ready[oldest]
        if state.pools[state.stages[stage].pool].free > 0:
            return stage, least_loaded(state, state.stages[stage].pool)
    raise RuntimeError("no dispatch is possible: the episode is over")


@inlined_kernel
def count_decision(state: ClusterState, rows: int) -> None:
    """Count a decision, and the ready stages that it could not see."""
    clock = state.clock[0]
    clock.decisions += 1
    clock.hidden_candidates += max(clock.ready - rows, 0)
