"""First come, first served: the job that arrived first, and within it the first stage that is ready.

The default of most serving systems. Work-conserving: a later job uses a slot that no earlier job can use.
"""

from __future__ import annotations

from llmsched_gym.policies.base import Observation, Policy


class FCFS(Policy):
    """Dispatches the first legal candidate row, since rows are in order of arrival."""

    name = "fcfs"

    def act(self, obs: Observation) -> int:
        """Return the first legal action; waiting is the last one."""
        return int(obs["action_mask"].argmax())
