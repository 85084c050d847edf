"""KV-aware routing, in the style of NVIDIA Dynamo's KV router at temperature 0.

The executor with the smallest

    overlap_weight * prefill blocks + active blocks

where the prefill blocks are those of the prompt that are not in its cache, and the active blocks those that its running
tasks occupy. Assumed: a room of ``kv_tokens`` tokens for every model, because the observation tells which share of its
room an executor uses and not how large that is; blocks of 16 tokens. The router keeps a model of each cache, here the
cache itself is seen. A regular task has no blocks: it goes to the first regular executor that is free. Which models
would have to be loaded is nothing that the router knows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Placement
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.parameters import real
from llmsched_gym.policies.placement import Costs, PlacementRule

_BLOCK: Final = 16
"""Tokens."""


class KVRouter(PlacementRule):
    """The fewest KV blocks to compute and in use."""

    name = "kv_router"

    def __init__(self, overlap_weight: float = 1.0, kv_tokens: float = 65536) -> None:
        self.overlap_weight = real(self.name, "overlap_weight", overlap_weight, 0.0, 1e6)
        self.kv_tokens = real(self.name, "kv_tokens", kv_tokens, 1.0, 1e9)

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by blocks."""
        prompt = obs["candidates"][rows, Candidate.PROMPT_TOKENS]
        missing = prompt[:, None] - obs["placements"][rows, :, Placement.CACHED_TOKENS]
        active = np.ceil(obs["executors"][:, Executor.KV_USED] * (self.kv_tokens / _BLOCK))
        return self.overlap_weight * np.ceil(missing / _BLOCK) + active
