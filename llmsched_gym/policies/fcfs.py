"""First come, first served: the job that arrived first, and within it the first stage that is ready.

The default of most serving systems. Work-conserving: a later job uses a slot that no earlier job can use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation, PriorityPolicy


class FCFS(PriorityPolicy):
    """Dispatches the first legal candidate row, since rows are in order of arrival."""

    name = "fcfs"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the row."""
        return rows.astype(np.float32)

    def act(self, obs: Observation) -> int:
        """Return the first legal action; waiting is the last one."""
        return int(obs["action_mask"].argmax())
