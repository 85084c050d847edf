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

Programs are told apart from one decision to the next by their application and time of arrival; of several that share
both, one that is over may hand its engine on to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Job, Placement, System
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.las import LAS
from llmsched_gym.policies.parameters import whole
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held
from llmsched_gym.policies.placing import Placing

_SAME_S: Final = 1e-3
"""Arrivals that are closer are one: an arrival is the time less the age, and both are rounded."""


class _Program(NamedTuple):
    """A job that was seen.

    Attributes:
        app: Its application.
        arrival_s: When it came.
        done: How many of its stages were over.
        engines: By model: the executor that its long calls go to.
    """

    app: float
    arrival_s: float
    done: float
    engines: dict[int, int]


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
        self._programs: list[_Program] = []

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the number of tasks; infinite where a long call has its engine elsewhere."""
        costs, calls = tasks_held(obs, rows), np.flatnonzero(self._is_long(obs, rows))
        if calls.size == 0:
            return costs
        self._programs = _followed(self._programs, obs)
        engines = np.array([self._engines(obs, row).get(model, -1) for row, model in _models(obs, rows[calls])])
        elsewhere = (engines[:, None] >= 0) & (np.arange(costs.shape[1]) != engines[:, None])
        costs = costs.copy()
        costs[calls] = np.where(elsewhere, np.inf, costs[calls])
        return costs

    def placed(self, obs: Observation, row: int, executor: int) -> None:
        """Remember where the first long call of a program went."""
        rows = np.array([row])
        if self._is_long(obs, rows)[0]:
            self._engines(obs, row).setdefault(_models(obs, rows)[0][1], executor)

    def _engines(self, obs: Observation, row: int) -> dict[int, int]:
        """Return the engines of the program of a candidate."""
        return self._programs[int(obs["candidates"][row, Candidate.JOB])].engines

    def _is_long(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which candidates are long calls of jobs that are shown, bool (n,)."""
        table = obs["candidates"][rows]
        return (table[:, Candidate.PROMPT_TOKENS] > self.short_tokens) & (table[:, Candidate.JOB] >= 0)


class PLAS(Placing):
    """Least attained service first, with a balancer; parameters as `Balancer`."""

    name = "plas"

    def __init__(self, short_tokens: int = 2048) -> None:
        super().__init__(LAS(), Balancer(short_tokens), PLAS.name)


def _models(obs: Observation, rows: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return candidate rows, each with the model that it asks for."""
    models = obs["placements"][rows, :, Placement.MODEL].max(axis=1).astype(np.int64)
    return list(zip(rows.tolist(), models.tolist(), strict=True))


def _followed(before: list[_Program], obs: Observation) -> list[_Program]:
    """Return the programs that are present, in the order of the jobs; those that were there keep their engines.

    Jobs stand in order of arrival, so that the ones that are left have kept their order, and new ones come last.
    """
    jobs = obs["jobs"][: int(obs["system"][System.JOB_ROWS])]
    arrivals = obs["system"][System.TIME_S] - jobs[:, Job.AGE_S]
    found: list[_Program] = []
    begin = 0
    for app, arrival_s, done in zip(
        jobs[:, Job.APP].tolist(), arrivals.tolist(), jobs[:, Job.STAGES_DONE].tolist(), strict=True
    ):
        while begin < len(before) and before[begin].arrival_s <= arrival_s - _SAME_S:
            begin += 1  # over
        engines: dict[int, int] = {}
        at = begin
        while at < len(before) and before[at].arrival_s < arrival_s + _SAME_S:
            if before[at].app == app and before[at].done <= done:
                engines, begin = before[at].engines, at + 1
                break
            at += 1
        found.append(_Program(app, arrival_s, done, engines))
    return found
