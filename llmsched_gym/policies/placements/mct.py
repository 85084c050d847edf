"""Minimum completion time (MCT): the executor on which the task would be over first.

Braun et al. (J. Parallel Distrib. Comput. 61, 2001): tasks in order of arrival, each to the machine with the smallest
completion time. On its own it is that policy, with the order of arrival of jobs; behind another order it places the
task that the order picks. Assumed: completion is max(load, fetch) + task by ``placements``; ``state=blind`` leaves out
loading and fetching, as a scheduler would that knows devices and no state (`completion_s`). Machines of the source
have queues, executors here have not: by default only executors that may take the task now are compared. With
``wait=true`` the others are too, from when they are expected to be free; a task whose best executor is one of these
waits. That expectation holds only if nothing else goes there meanwhile, which nobody sees to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Placement
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.parameters import choice, flag
from llmsched_gym.policies.placement import STATES, Costs, PlacementRule, State, completion_s


class MCT(PlacementRule):
    """The executor on which the task is over first."""

    name = "mct"

    def __init__(self, state: str = "aware", wait: bool = False) -> None:
        self.state: State = choice(self.name, "state", state, STATES)
        self.wait = flag(self.name, "wait", wait)

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the expected completion."""
        seconds = completion_s(obs, rows, self.state)
        if self.wait:
            legal = obs["placements"][rows, :, Placement.LEGAL] != 0
            now = np.where(legal, seconds, np.inf).min(axis=1)
            seconds[seconds.min(axis=1) < now] = np.inf
        return seconds
