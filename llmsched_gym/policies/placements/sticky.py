"""Sticky: where the model runs already, else where it is in memory, else the least loaded executor.

Residency affinity as multi-model routers have it: no times and no look ahead. It piles tasks up where the model is, and
evicts another model only if no executor that has the model may take the task.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Residency
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.placement import Costs, PlacementRule, residency, tasks_held

_MANY: Final = np.float32(1e5)
"""More tasks than an executor holds."""


class Sticky(PlacementRule):
    """An executor that has the model."""

    name = "sticky"

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by active, then resident, then the number of tasks."""
        here = residency(obs, rows)
        missing = 2 - here[..., Residency.RESIDENT] - here[..., Residency.ACTIVE]
        return missing * _MANY + tasks_held(obs, rows)
