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

_SAME_S: Final = 0.02
"""Arrivals that are closer may be one: an arrival is the time less the age, and both are rounded."""


class _Programs(NamedTuple):
    """The jobs that were seen last, by arrival.

    Attributes:
        app: (J,) their applications.
        arrival_s: (J,) when they came.
        done: (J,) how many of their stages were over.
        engines: Of each, by model: the executor that its long calls go to.
    """

    app: NDArray[np.float32]
    arrival_s: NDArray[np.float32]
    done: NDArray[np.float32]
    engines: list[dict[int, int]]


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
        none = np.empty(0, np.float32)
        self._programs = _Programs(none, none, none, [])

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate by the number of tasks; infinite where a long call has its engine elsewhere."""
        costs, calls = tasks_held(obs, rows), np.flatnonzero(self._is_long(obs, rows))
        if calls.size == 0:
            return costs
        self._programs = _followed(self._programs, obs)
        engines = np.array([self._programs.engines[job].get(model, -1) for job, model in _calls(obs, rows[calls])])
        elsewhere = (engines[:, None] >= 0) & (np.arange(costs.shape[1]) != engines[:, None])
        costs = costs.copy()
        costs[calls] = np.where(elsewhere, np.inf, costs[calls])
        return costs

    def placed(self, obs: Observation, row: int, executor: int) -> None:
        """Remember where the first long call of a program went."""
        rows = np.array([row])
        if self._is_long(obs, rows)[0]:
            job, model = _calls(obs, rows)[0]
            self._programs.engines[job].setdefault(model, executor)

    def _is_long(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which candidates are long calls of jobs that are shown, bool (n,)."""
        table = obs["candidates"][rows]
        return (table[:, Candidate.PROMPT_TOKENS] > self.short_tokens) & (table[:, Candidate.JOB] >= 0)


class PLAS(Placing):
    """Least attained service first, with a balancer; parameters as `Balancer`."""

    name = "plas"

    def __init__(self, short_tokens: int = 2048) -> None:
        super().__init__(LAS(), Balancer(short_tokens), PLAS.name)


def _calls(obs: Observation, rows: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the job of each candidate, and the model that it asks for."""
    jobs = obs["candidates"][rows, Candidate.JOB].astype(np.int64)
    models = obs["placements"][rows, :, Placement.MODEL].max(axis=1).astype(np.int64)
    return list(zip(jobs.tolist(), models.tolist(), strict=True))


def _followed(before: _Programs, obs: Observation) -> _Programs:
    """Return the programs that are present; those that were there keep their engines.

    Jobs stand in order of arrival, so that the ones that are left have kept their order, and new ones come last.
    """
    jobs = obs["jobs"][: int(obs["system"][System.JOB_ROWS])]
    app, done = jobs[:, Job.APP].copy(), jobs[:, Job.STAGES_DONE].copy()
    arrival_s = obs["system"][System.TIME_S] - jobs[:, Job.AGE_S]
    if len(app) == len(before.app):
        same = (app == before.app) & (np.abs(arrival_s - before.arrival_s) < _SAME_S) & (done >= before.done)
        if same.all():
            return _Programs(app, arrival_s, done, before.engines)
    then = list(zip(before.app.tolist(), before.arrival_s.tolist(), before.done.tolist(), strict=True))
    engines: list[dict[int, int]] = []
    begin = 0
    for its_app, came_s, its_done in zip(app.tolist(), arrival_s.tolist(), done.tolist(), strict=True):
        while begin < len(then) and then[begin][1] <= came_s - _SAME_S:
            begin += 1  # over
        at, found = begin, {}
        while at < len(then) and then[at][1] < came_s + _SAME_S:
            if then[at][0] == its_app and then[at][2] <= its_done:
                found, begin = before.engines[at], at + 1
                break
            at += 1
        engines.append(found)
    return _Programs(app, arrival_s, done, engines)
