"""Random: any dispatch that is possible now, with equal probability. The floor that every scheduler should clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmsched_gym.policies.base import Observation, Policy


class RandomPolicy(Policy):
    """Uniform over the candidates that can be dispatched; waits only when there is none."""

    name = "random"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Seed the generator from ``info["policy_seed"]``."""
        self._rng = np.random.default_rng(info["policy_seed"])

    def act(self, obs: Observation) -> int:
        """Draw one of the possible dispatches."""
        mask = obs["action_mask"]
        rows = np.flatnonzero(mask[:-1])
        if rows.size == 0:
            return len(mask) - 1
        return int(rows[self._rng.integers(rows.size)])
