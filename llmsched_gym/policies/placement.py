"""What a placement is: a rule that says how good each executor is for the next task of a candidate.

`llmsched_gym.policies.placing` joins one with an order among the candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Executor, Placement, Residency, System
from llmsched_gym.policies.base import Observation

Costs = NDArray[Any]

State = Literal["aware", "blind"]
"""Whether expected times count what the state of an executor adds (`start_s`, `completion_s`)."""

STATES: Final[tuple[State, ...]] = ("aware", "blind")


class PlacementRule(ABC):
    """Picks executors.

    Attributes:
        name: Name in tables and figures.
        sources: As `Policy.sources`.
    """

    name: str
    sources: tuple[Path, ...] = ()

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin an episode; `info` is what a `Policy` gets."""
        del info  # most rules keep no state between decisions

    @abstractmethod
    def cost(self, obs: Observation, rows: NDArray[np.intp]) -> Costs:
        """Rate executors.

        Args:
            obs: Observation of an environment with ``placement="agent"`` on the simulator.
            rows: int (n,), n >= 1. Rows of ``obs["candidates"]`` that some executor may take now, ascending.

        Returns:
            float (n, E): per row, the smallest among the executors that may take it now wins, the first of equal ones.
            Infinity where the task should rather wait.
        """

    def placed(self, obs: Observation, row: int, executor: int) -> None:
        """Learn that the next task of a row goes to an executor."""
        del obs, row, executor  # most rules keep no state between decisions


def legal_placements(obs: Observation) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return what may be dispatched where.

    Returns:
        Rows of ``candidates`` that some executor may take now, int (n,); and bool (n, E) which ones may.
    """
    executors, shown = len(obs["executors"]), int(obs["system"][System.CANDIDATES])
    legal = obs["action_mask"][: shown * executors].reshape(shown, executors) != 0
    rows = np.flatnonzero(legal.any(axis=1))
    return rows, legal[rows]


def start_s(obs: Observation, rows: NDArray[np.intp], state: State = "aware") -> NDArray[np.float32]:
    """Return when the next task of candidates could start on each executor, in seconds from now.

    Args:
        obs: The observation.
        rows: int (n,). Rows of ``candidates``.
        state: "aware": waiting until the executor may take it, then loading its model and fetching its inputs at the
            same time. "blind": waiting alone, as if models and inputs were everywhere.

    Returns:
        float32 (n, E): infinite where the executor never serves such tasks.
    """
    shown = obs["placements"][rows]
    seconds = shown[..., Placement.WAIT_S]
    if state == "aware":
        seconds = seconds + np.maximum(shown[..., Placement.LOAD_S], shown[..., Placement.FETCH_S])
    return np.where(shown[..., Placement.SERVES] != 0, seconds, np.float32(np.inf))


def completion_s(obs: Observation, rows: NDArray[np.intp], state: State = "aware") -> NDArray[np.float32]:
    """Return when it would be over there: the same, and the expected time of the task.

    The task's time is one number that counts what any scheduler with a profile of each device knows, and the present
    batch and cached tokens besides: "blind" does not take these out of it.
    """
    return start_s(obs, rows, state) + obs["placements"][rows, :, Placement.TASK_S]


def tasks_held(obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return how many tasks each executor holds, once for every row, float32 (n, E)."""
    running = obs["executors"][:, Executor.RUNNING]
    return np.broadcast_to(running, (len(rows), len(running)))


def residency(obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return what ``models`` tells of the model that would serve each candidate on each executor.

    Returns:
        float32 (n, E, len(Residency)): zeros where no model would.
    """
    models = obs["placements"][rows, :, Placement.MODEL].astype(np.intp)
    executors = models.shape[1]
    none = np.zeros((executors, 1, len(Residency)), np.float32)
    return np.concatenate((obs["models"], none), axis=1)[np.arange(executors), models]  # column -1 is that of no model
