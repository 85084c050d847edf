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
        """Forget the homes of the last episode."""
        del info
        self._homes: NDArray[np.bool_] | None = None

    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate homes by the number of their tasks."""
        models = obs["placements"][rows, :, Placement.MODEL].astype(np.intp)
        if self._homes is None:
            self._homes = _first_homes(obs)
        settled = np.logical_or.reduce(self._homes, axis=0)
        for i in np.flatnonzero(~settled[models.max(axis=1)]):  # of models met for the first time
            serves = obs["placements"][rows[i], :, Placement.SERVES] != 0
            model = models[i].max()
            self._homes[_run_of(model, self._homes.shape[1] - 1, serves), model] = True
        return np.where(self._homes[np.arange(models.shape[1]), models], tasks_held(obs, rows), np.inf)


def _first_homes(obs: Observation) -> NDArray[np.bool_]:
    """Return which executors are homes of which models as the episode begins, bool (E, models + 1); last: of none."""
    resident = obs["models"][..., Residency.RESIDENT] != 0
    return np.concatenate((resident, np.ones((len(resident), 1), np.bool_)), axis=1)


def _run_of(model: int, models: int, serves: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the executors, of those that serve a model, that fall to it if all models get equal runs of them."""
    places = np.flatnonzero(serves)
    begin = model * len(places) // models
    end = max(begin + 1, (model + 1) * len(places) // models)
    return places[begin:end]
