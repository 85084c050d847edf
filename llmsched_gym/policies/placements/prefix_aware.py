"""Prefix- and load-aware routing, in the style of the vLLM production stack's ``loadaware`` router (its #1035).

The executor with the largest

    matched / prompt - beta * (load - mean) / max(1, mean)

where matched are the tokens of the prompt in its prefix cache and load is the number of tasks that it holds. Assumed:
the mean is over the executors that may take the task now; what is in the cache is known exactly, where a router in
front of servers guesses it from the requests that it has sent; a regular task has no prompt and goes by load. Which
models would have to be loaded is nothing that the router knows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Placement
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.parameters import real
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held


class PrefixAware(PlacementRule):
    """The largest cached share of the prompt, less the excess of load."""

    name = "prefix_aware"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = real(self.name, "beta", beta, 0.0, 1e6)

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the negative score."""
        shown, load = obs["placements"][rows], tasks_held(obs, rows)
        prompt = np.maximum(obs["candidates"][rows, Candidate.PROMPT_TOKENS], 1.0)
        legal = shown[..., Placement.LEGAL]
        mean = ((load * legal).sum(axis=1) / legal.sum(axis=1))[:, None]
        excess = (load - mean) / np.maximum(mean, 1.0)
        return self.beta * excess - shown[..., Placement.CACHED_TOKENS] / prompt[:, None]
