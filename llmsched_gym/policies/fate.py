"""FATE-style: plans the whole ready frontier, by what each choice costs now and what it does to the stages to come.

After "FATE: Future-State-Aware Scheduling for Heterogeneous LLM Workflows" (arXiv 2605.07238), of which the abstract is
all that is known here: it re-plans over the ready frontier, scores assignments by their immediate cost and by the
state that they leave behind (models, parents' outputs, prefixes, reach of devices), spreads a stage over a bounded
number of devices, and lets CP-SAT choose. None of its equations is public, hence *FATE-style*: what follows is ours.

- *Candidates* are a ready LLM stage and up to ``shards`` executors, eight per stage, of fifty stages at most, those of
  the oldest jobs (`llmsched_gym.policies.fate_frontier`).
- *Value*: a constant, minus the expected seconds until the stage is over, plus the future terms over ``horizon`` hops
  with a discount ``gamma`` (`llmsched_gym.policies.fate_horizon`). The constant is the same for all and large enough
  that everything is worth starting.
- *Choice*: a set packing (`llmsched_gym.policies.set_packing`) by CP-SAT or greedily. What residency gains or loses is
  counted once for an executor and the model that it takes up.
- *Waiting*: an executor that cannot take a stage now is a candidate too, at the cost of waiting for it. If it is
  chosen, the executor starts nothing of another model meanwhile, and so drains. A stage has had this choice once it
  has been ready for as long as the best that it could have at once would take (as one rents skis): then only what may
  start at once is left to choose from.
- *The plan* is followed as long as nothing but its own dispatches happens.

Assumed besides: tools have no state worth planning, so that tool tasks go to free executors in order of arrival, where
their inputs are nearest, and the bound on shards is one of LLM stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import System
from llmsched_gym.policies import fate_horizon
from llmsched_gym.policies.base import Observation, ObservationMode
from llmsched_gym.policies.fate_frontier import (
    MOST_STAGES,
    Candidates,
    Floats,
    Frontier,
    Ints,
    enumerate_candidates,
    look,
)
from llmsched_gym.policies.parameters import choice, real, whole
from llmsched_gym.policies.plan_follower import PlanFollower, Start, named, tool_starts
from llmsched_gym.policies.set_packing import Packing, need_ortools, pack_greedily, pack_obviously, pack_optimally

Planner = Literal["cpsat", "greedy"]
Term = Literal["residency", "locality", "prefix", "reachability"]

_MARGIN_S: Final = 1.0
"""Least value of a candidate."""

_MOST_MS: Final = 10**8
"""Values are cut at this, so that sums of them stay small for the solver."""


class Fate(PlanFollower):
    """FATE-style planning over the ready frontier.

    Args:
        horizon: Hops of descendants that count; 0: none, and no future terms.
        planner: "cpsat", which needs the extra ``plan``, or "greedy".
        shards: Most executors that the tasks of an LLM stage are spread over at once.
        without: A future term to leave out: "residency", "locality", "prefix" or "reachability".
        gamma: Discount per hop.
        gb_per_s: Assumed rate of the links.

    Attributes:
        fallbacks: Plans of this episode that were made greedily since CP-SAT found no solution within its limit.
        plans: Plans of this episode.

    Raises:
        InputError: A parameter is out of range, or OR-Tools is not installed.
    """

    name = "fate"
    observation: ObservationMode = "graph"
    placement = "agent"

    def __init__(
        self,
        horizon: int = 2,
        planner: Planner = "cpsat",
        shards: int = 2,
        without: Term | None = None,
        gamma: float = 0.8,
        gb_per_s: float = 23.0,
    ) -> None:
        self.horizon = whole(self.name, "horizon", horizon, 0, 16)
        self.shards = whole(self.name, "shards", shards, 1, 4)
        self.gamma = real(self.name, "gamma", gamma, 0.0, 1.0)
        self.gb_per_s = real(self.name, "gb_per_s", gb_per_s, 1e-6, 1e6)
        choice(self.name, "planner", planner, get_args(Planner))
        if without is not None:
            choice(self.name, "without", without, get_args(Term))
        self.terms = frozenset(get_args(Term)) - {without} if horizon else frozenset()
        self._cp_model = need_ortools(self.name) if planner == "cpsat" else None
        self.reset({})

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget the plan."""
        super().reset(info)
        self.fallbacks = 0
        self.plans = 0

    def plan(self, obs: Observation) -> list[Start]:
        """Decide what starts now."""
        self.plans += 1
        return named(obs, self._llm_starts(obs) + tool_starts(obs, self.order(obs)))

    def is_cut(self, obs: Observation) -> bool:
        """Tell whether more stages were ready than a plan looks at."""
        system = obs["system"]
        return bool(system[System.HIDDEN_CANDIDATES] > 0 or system[System.CANDIDATES] > MOST_STAGES)

    def presence(self, obs: Observation) -> Floats:
        """Return how much each row of ``nodes`` counts as demand, float64 (nodes,)."""
        return np.ones(int(obs["system"][System.NODES]))

    def urgency(self, obs: Observation, rows: Ints) -> Floats:
        """Return the weight of each candidate row in the objective, float64 (n,), above 0."""
        del obs
        return np.ones(len(rows))

    def order(self, obs: Observation) -> Ints:
        """Return the candidate rows in the order in which they start."""
        return np.arange(int(obs["system"][System.CANDIDATES]))

    def _llm_starts(self, obs: Observation) -> list[tuple[int, int, int]]:
        frontier = look(obs)
        if len(frontier.rows) == 0 or not frontier.legal.any():
            return []
        candidates = enumerate_candidates(frontier, self._allowed(frontier), self.shards)
        if len(candidates.stage) == 0:
            return []
        packing = self.score(obs, frontier, candidates)
        chosen = np.flatnonzero(self._choose(packing))
        rank = np.empty(len(obs["candidates"]), np.int64)
        order = self.order(obs)
        rank[order] = np.arange(len(order))
        rows = frontier.rows[candidates.stage[chosen]]
        return [
            (int(row), int(e), int(packing.tasks[c, e]))
            for row, c in sorted(zip(rows.tolist(), chosen.tolist(), strict=True), key=lambda pair: rank[pair[0]])
            for e in np.flatnonzero(packing.tasks[c])
        ]

    def _allowed(self, frontier: Frontier) -> NDArray[np.bool_]:
        """Return the executors that each stage may be planned for, bool (N, E)."""
        legal = frontier.legal
        now = np.where(legal, frontier.cost_s(np.ones(1, np.int64)), np.inf).min(axis=1)
        patient = frontier.ready_s < now  # no legal one: infinite
        return np.where(patient[:, None], frontier.serves, legal)

    def score(self, obs: Observation, frontier: Frontier, candidates: Candidates) -> Packing:
        """Return the packing of candidates with their values."""
        s = candidates.stage
        future = np.zeros(len(s))
        opening = np.zeros(frontier.models.shape[:2])
        if self.terms:
            demand = fate_horizon.look_ahead(obs, frontier, self.horizon, self.gamma, self.presence(obs))
            soon = fate_horizon.reach(frontier, demand)
            if "residency" in self.terms:
                opening = fate_horizon.opening_s(frontier, demand, soon, self.gamma ** (self.horizon + 1))
            if "locality" in self.terms:
                future += fate_horizon.locality_s(frontier, demand, candidates, self.gb_per_s)
            if "prefix" in self.terms:
                future += fate_horizon.prefix_s(frontier, demand, soon, candidates)
            if "reachability" in self.terms:
                future -= fate_horizon.reachability_s(frontier, demand, soon, candidates)
        weight = self.urgency(obs, frontier.rows)[s]
        model = np.where(candidates.share > 0, frontier.model[s], -1)
        columns = np.arange(model.shape[1])
        lost = np.minimum(np.where(model >= 0, opening[columns, model], 0.0), 0.0).sum(axis=1)
        needed = candidates.cost_s - future - lost / weight
        value = weight * (needed.max() + _MARGIN_S - candidates.cost_s + future)
        legal = frontier.legal[s]
        now = np.where(legal, np.minimum(candidates.share, frontier.free), 0)
        return Packing(stage=s, value=_ms(value), model=model, tasks=now, room=frontier.free, opening=_ms(opening))

    def _choose(self, packing: Packing) -> NDArray[np.bool_]:
        if self._cp_model is None:
            return pack_greedily(packing)
        chosen = pack_obviously(packing)
        if chosen is None:
            chosen = pack_optimally(packing, self._cp_model)
        if chosen is None:
            self.fallbacks += 1
            chosen = pack_greedily(packing)
        return chosen


def _ms(seconds: Floats) -> NDArray[np.int64]:
    return np.clip(np.rint(seconds * 1e3), -_MOST_MS, _MOST_MS).astype(np.int64)
