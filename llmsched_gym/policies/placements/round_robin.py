"""Round robin: the next feasible executor in turn.

What results of placements are divided by, so the rule is fixed: executors take turns in the order of the cluster file,
LLM and regular ones each among themselves, whatever the model. A feasible executor is one that may take the task at
this moment: it serves the model, has a free slot, and holds no task of another model. Others are skipped and lose their
turn; the next turn begins after the executor that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.placement import Costs, PlacementRule
from llmsched_gym.workloads.template import StageKind


class RoundRobin(PlacementRule):
    """The next executor in turn that may take the task."""

    name = "round_robin"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin with the first executor of each kind."""
        del info
        self._next = np.zeros(StageKind.DYNAMIC, np.intp)  # by kind

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by how many executors have their turn before."""
        executors = len(obs["executors"])
        turn = self._next[obs["candidates"][rows, Candidate.KIND].astype(np.intp)]
        return (np.arange(executors) - turn[:, None]) % executors

    def placed(self, obs: Observation, row: int, executor: int) -> None:
        """Let the next turn begin after this one."""
        self._next[int(obs["candidates"][row, Candidate.KIND])] = executor + 1
