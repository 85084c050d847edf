"""Least loaded: the executor that holds the fewest tasks, the first of equal ones.

What the environment does for policies that choose no executor, so that ``ORDER+least_loaded`` is ``ORDER``. Tasks are
counted whatever their size, and which models are where counts nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held


class LeastLoaded(PlacementRule):
    """The executor that holds the fewest tasks."""

    name = "least_loaded"

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the number of tasks."""
        return tasks_held(obs, rows)
