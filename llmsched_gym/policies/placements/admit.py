"""Admit: the least loaded executor, as long as one more sequence will fit its KV cache; else the task waits.

An engine takes every request that has a slot. Where slots are many and the KV cache is small, sequences then grow into
each other: some are preempted, and what they computed is computed again. This placement holds tasks back. How many
sequences fit is learned from what is seen: sequences held over the share of the cache that they use, each summed over
the last while. Assumed: sequences are on average half grown when they are seen, but share prefixes and end at different
times, so that ``fill`` of what would fill the cache is admitted; the default was chosen on the `train` split
(``baselines/admission.py``). One sequence always fits, and nothing is held back before any use was seen. Tools are not
held back.

After the admission control of serving systems, which caps running requests by the memory that they will need; the rule
is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Executor, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.parameters import real
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held


class Admit(PlacementRule):
    """The executor that holds the fewest tasks, of those whose cache has room for one more.

    Args:
        fill: How many sequences are admitted, over those that would fill the cache.
        window_s: Seconds after which what was seen counts a third.
    """

    name = "admit"

    def __init__(self, fill: float = 0.8, window_s: float = 30.0) -> None:
        self.fill = real(self.name, "fill", fill, 0.01, 100.0)
        self.window_s = real(self.name, "window_s", window_s, 0.001, 1e9)

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget what was seen."""
        del info
        self._time_s = -np.inf  # before the first decision
        self._held_s: NDArray[np.float64] = np.zeros(0)
        self._used_s: NDArray[np.float64] = np.zeros(0)

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the number of tasks; infinite where the cache has no room for one more sequence."""
        held = tasks_held(obs, rows)
        return np.where(held < self._room(obs), held, np.inf)

    def _room(self, obs: Observation) -> NDArray[np.float64]:
        """Return how many sequences each executor may hold, float64 (E,); infinite where no use was seen (tools)."""
        held = obs["executors"][:, Executor.RUNNING].astype(np.float64)
        used = obs["executors"][:, Executor.KV_USED].astype(np.float64)
        now = float(obs["system"][System.TIME_S])
        if self._time_s == -np.inf:
            self._time_s, self._held_s, self._used_s = now, np.zeros(len(held)), np.zeros(len(held))
        passed = now - self._time_s
        if passed > 0.0:
            kept = np.exp(-passed / self.window_s)
            self._held_s = kept * self._held_s + passed * held
            self._used_s = kept * self._used_s + passed * used
            self._time_s = now
        seen = self._used_s > 0.0
        fits = np.divide(self._held_s, self._used_s, out=np.full(len(held), np.inf), where=seen)
        return np.maximum(1.0, self.fill * fits)
