"""An order among the candidates, joined with a placement: ``ORDER+PLACE``.

The order ranks stages and knows nothing of executors; the placement rates executors and knows nothing of other stages.
A placement named alone orders by arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmsched_gym.policies.base import Observation, Policy, PriorityPolicy
from llmsched_gym.policies.placement import PlacementRule, legal_placements, tasks_held


class Placing(Policy):
    """Dispatches the first candidate, by one policy's rank, that a placement has an executor for.

    Candidates that the placement would rather have wait are passed over: later ones use the executors meanwhile, and no
    executor is held back for them. If nothing can come of waiting, the first candidate goes to the least loaded
    executor.

    Args:
        order: Ranks the candidates.
        rule: Picks the executor.
        name: Default: ``ORDER+PLACE``.
    """

    placement = "agent"

    def __init__(self, order: PriorityPolicy, rule: PlacementRule, name: str = "") -> None:
        self.order, self.rule = order, rule
        self.name = name or f"{order.name}+{rule.name}"
        self.privileged = order.privileged
        self.observation = order.observation
        self.sources = (*order.sources, *rule.sources)

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin an episode for both."""
        self.order.reset(info)
        self.rule.reset(info)

    def act(self, obs: Observation) -> int:
        """Choose a stage and its executor.

        Raises:
            ValueError: What the placement or the order returned are not numbers in the shape that is asked for.
        """
        mask = obs["action_mask"]
        rows, legal = legal_placements(obs)
        if rows.size and mask[-1]:
            kept = np.isin(rows, self.order.may_start(obs, rows))
            rows, legal = rows[kept], legal[kept]
        if rows.size == 0:
            return len(mask) - 1
        costs = np.asarray(self.rule.cost(obs, rows))
        if costs.shape != legal.shape or costs.dtype.kind not in "fiub" or np.isnan(costs).any():
            got = f"{costs.dtype}, shape {costs.shape}, or NaN"
            raise ValueError(f"cost of {type(self.rule).__name__}: got {got}; expected numbers, shape {legal.shape}")
        costs = np.where(legal, costs, np.inf)
        if not (costs < np.inf).any():
            if mask[-1]:
                return len(mask) - 1
            costs = np.where(legal, tasks_held(obs, rows), np.inf)
        row = self.order.first(obs, rows[costs.min(axis=1) < np.inf])
        executor = int(costs[np.searchsorted(rows, row)].argmin())
        self.rule.placed(obs, row, executor)
        return row * legal.shape[1] + executor
