"""PLAS, Autellix-style: the program that has been served least goes first; its long calls go to one engine.

Luo et al., "Autellix" (arXiv 2502.13965; NSDI 2026). A job is a program, a task one of its calls. The order is that of
`llmsched_gym.policies.las`, with what is assumed there. The balancer is known from what others tell of it: a call of at
most 2,048 prompt tokens goes to the engine that is used least, a longer one to the engine of its program, where its
prefix is. Assumed:

- *used* is the number of tasks that an executor holds;
- a program gets its engine with its first long call: the least used of those that may take it. Engines here serve
  certain models, so that a program has one for each model that it asks for;
- a long call waits for its engine, and others go on meanwhile;
- tools have no engines: their tasks go to the executor that is used least.

Programs are told apart from one decision to the next as `following` has it; of several that it takes for one, one that
is over may hand its engine on to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Placement
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.following import Followed, follow, nobody
from llmsched_gym.policies.las import LAS
from llmsched_gym.policies.parameters import whole
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held
from llmsched_gym.policies.placing import Placing


class Balancer(PlacementRule):
    """The engine that is used least, or that of the program.

    Args:
        short_tokens: Most prompt tokens of a call that goes to the engine that is used least.
    """

    name = "balancer"

    def __init__(self, short_tokens: int = 2048) -> None:
        self.short_tokens = whole(PLAS.name, "short_tokens", short_tokens, 0, 10**9)

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget all programs."""
        del info
        self._programs: Followed[dict[int, int]] = nobody()  # of each, by model: the executor of its long calls

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the number of tasks; infinite where a long call has its engine elsewhere."""
        costs, calls = tasks_held(obs, rows), np.flatnonzero(self._is_long(obs, rows))
        if calls.size == 0:
            return costs
        self._programs = follow(self._programs, obs, lambda _: {})
        engines = np.array([self._programs.kept[job].get(model, -1) for job, model in _calls(obs, rows[calls])])
        elsewhere = (engines[:, None] >= 0) & (np.arange(costs.shape[1]) != engines[:, None])
        costs = costs.copy()
        costs[calls] = np.where(elsewhere, np.inf, costs[calls])
        return costs

    def placed(self, obs: Observation, row: int, executor: int) -> None:
        """Remember where the first long call of a program went."""
        rows = np.array([row])
        if self._is_long(obs, rows)[0]:
            job, model = _calls(obs, rows)[0]
            self._programs.kept[job].setdefault(model, executor)

    def _is_long(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which candidates are long calls of jobs that are shown, bool (n,)."""
        table = obs["candidates"][rows]
        return (table[:, Candidate.PROMPT_TOKENS] > self.short_tokens) & (table[:, Candidate.JOB] >= 0)


class PLAS(Placing):
    """Least attained service first, with a balancer; parameters as `Balancer` and `LAS` have them."""

    name = "plas"

    def __init__(self, short_tokens: int = 2048, quantum_s: float = 0.0) -> None:
        super().__init__(LAS(quantum_s), Balancer(short_tokens), PLAS.name)


def _calls(obs: Observation, rows: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the job of each candidate, and the model that it asks for."""
    jobs = obs["candidates"][rows, Candidate.JOB].astype(np.int64)
    models = obs["placements"][rows, :, Placement.MODEL].max(axis=1).astype(np.int64)
    return list(zip(jobs.tolist(), models.tolist(), strict=True))
