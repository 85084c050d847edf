"""Static: every model has its home executors, and its tasks go nowhere else.

A fixed deployment, as operators write it down by hand. Tasks wait for a home of their model rather than go elsewhere or
have a model moved; among free homes they take the least loaded. Assumed, in this order: the homes of a model are the
executors on which it is resident as the episode begins; the executors that serve a model which is nowhere yet are
dealt out among all models of the cluster in equal runs, by their order in the cluster file, at least one to each (what
models weigh and how much is asked of them is not in the observation). Homes of several models serve them in turn,
whichever has tasks when an executor is drained. Regular tasks are at home on all regular executors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Placement, Residency
from llmsched_gym.policies.base import Observation
from llmsched_gym.policies.placement import Costs, PlacementRule, tasks_held


class Static(PlacementRule):
    """A home of the model, and nowhere else."""

    name = "static"

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget where models were in the last episode."""
        del info
        self._first: NDArray[np.bool_] | None = None  # (E, M): resident as the episode begins

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate homes by the number of their tasks."""
        if self._first is None:
            self._first = np.asarray(obs["models"][..., Residency.RESIDENT] != 0)
        return np.where(_homes(obs, rows, self._first), tasks_held(obs, rows), np.inf)


def _homes(obs: Observation, rows: NDArray[np.intp], first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which executors are homes of the model of each row, bool (n, E)."""
    shown = obs["placements"][rows]
    serves = shown[..., Placement.SERVES] != 0
    model = shown[..., Placement.MODEL].astype(np.intp).max(axis=1)
    llm, models = (model >= 0)[:, None], first.shape[1]
    if not llm.any():
        return serves
    there = serves & first[:, model].T
    place, places = np.cumsum(serves, axis=1) - 1, serves.sum(axis=1)
    begin = model * places // models
    end = np.maximum(begin + 1, (model + 1) * places // models)
    run = serves & (place >= begin[:, None]) & (place < end[:, None])
    return np.where(llm, np.where(there.any(axis=1)[:, None], there, run), serves)
