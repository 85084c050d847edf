"""Joint policies over the ready frontier: the pair of a ready stage and an executor is chosen at once.

The heuristics of Braun et al. (J. Parallel Distrib. Comput. 61, 2001) map a set of independent tasks to unrelated
machines one pair after another, and work out all completion times anew after each. Here the set is what is ready, a
pair is dispatched as soon as it is chosen, and the environment tells the new times. Assumed, for all of them: only
pairs that may start now are chosen from, since executors have no queues; costs are those of `completion_s`, and
``state=blind`` leaves out what loading and fetching add.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation, Policy
from llmsched_gym.policies.parameters import choice
from llmsched_gym.policies.placement import STATES, State, completion_s, legal_placements


class FrontierPolicy(Policy):
    """Chooses among pairs of a ready stage and an executor that may take its next task.

    Args:
        state: "aware" or "blind" (`completion_s`).
    """

    placement = "agent"

    def __init__(self, state: str = "aware") -> None:
        self.state: State = choice(self.name, "state", state, STATES)

    @abstractmethod
    def pick(
        self, obs: Observation, rows: NDArray[np.intp], seconds: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> tuple[int, int]:
        """Choose a pair.

        Args:
            obs: The observation.
            rows: int (n,), n >= 1. Rows of ``candidates`` that some executor may take now, ascending.
            seconds: float32 (n, E). Completion on every executor; infinite where it never serves such tasks.
            legal: bool (n, E). Which pairs may be chosen.

        Returns:
            Position in `rows`, and the executor.
        """

    def act(self, obs: Observation) -> int:
        """Choose a stage and its executor; wait only if nothing can start."""
        rows, legal = legal_placements(obs)
        if rows.size == 0:
            return len(obs["action_mask"]) - 1
        i, executor = self.pick(obs, rows, completion_s(obs, rows, self.state), legal)
        return int(rows[i] * legal.shape[1] + executor)


def soonest(seconds: NDArray[np.float32], legal: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the executor on which each row would be over first, int (n,), and when, float32 (n,)."""
    allowed = np.where(legal, seconds, np.float32(np.inf))
    return allowed.argmin(axis=1), allowed.min(axis=1)
