"""What a policy is, and the one way in which most of them decide: by rank among what can be dispatched now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Job, System

Observation = Mapping[str, NDArray[Any]]
"""The environment's observation: named arrays, columns as in `llmsched_gym.envs.columns`."""

ObservationMode = Literal["table", "graph"]

PlacementMode = Literal["least_loaded", "agent"]

_NUMBERS: Final = "fiub"
"""Kinds of arrays that can be ranked."""


class Policy(ABC):
    """A scheduler: maps observations to actions.

    Tables have as many rows as are needed, and more rows once more are needed: in evaluations of long episodes their
    number grows from one decision to the next, and that of actions with it.

    Action ``i`` below ``len(action_mask) - 1`` dispatches the next task of candidate row ``i``; the last action waits
    for the next event.

    Attributes:
        name: Name in tables and figures.
        privileged: True if it reads ``truth``, what no real scheduler could know; marked in every table.
        observation: Observation mode that the environment must be built with.
        placement: "agent" if its actions choose the executor too (`SchedulingEnv`): ``i * E + e`` then dispatches row
            ``i`` to executor ``e`` of ``E``. Only the simulator can tell such a policy what a placement would cost.
        sources: Files beside its code that its decisions depend on, such as weights, or folders of such. What it
            imports need not be named; what it reads, or runs under a name made at run time, is known from here alone
            (docs/policies.md).
    """

    name: str
    privileged: bool = False
    observation: ObservationMode = "table"
    placement: PlacementMode = "least_loaded"
    sources: tuple[Path, ...] = ()

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin an episode.

        Args:
            info: What the environment's ``reset`` returned; ``info["policy_seed"]`` seeds the policy's own randomness.
        """
        del info  # most policies keep no state between decisions

    @abstractmethod
    def act(self, obs: Observation) -> int:
        """Choose a legal action."""


class PriorityPolicy(Policy):
    """Dispatches the legal candidate of the highest rank; waits only when there is none, or all are held back.

    Ties go to the earliest row, which is the job that arrived first and, within it, the first stage.
    """

    @abstractmethod
    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank candidates.

        Args:
            obs: The observation.
            rows: int (n,), n >= 2. Rows of ``obs["candidates"]`` that can be dispatched, ascending.

        Returns:
            float (n,): the smallest wins. Other numbers and booleans do as well, and a sequence of them.
        """

    def act(self, obs: Observation) -> int:
        """Choose the dispatch with the smallest key."""
        mask = obs["action_mask"]
        rows = np.flatnonzero(mask[:-1])
        if rows.size and mask[-1]:
            rows = self.may_start(obs, rows)
        return self.first(obs, rows) if rows.size else len(mask) - 1

    def may_start(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of the candidates that are not held back; all of them, unless a policy says otherwise.

        Asked only where something else is going to happen.

        Args:
            obs: The observation.
            rows: int (n,), n >= 1. Rows of ``obs["candidates"]`` that can be dispatched, ascending.
        """
        del obs
        return rows

    def first(self, obs: Observation, rows: NDArray[np.intp]) -> int:
        """Return the row of the smallest key.

        Args:
            obs: The observation.
            rows: int (n,), n >= 1. Rows of ``obs["candidates"]``, ascending.

        Raises:
            ValueError: What `key` returned is not one number per row.
        """
        if rows.size == 1:
            return int(rows[0])
        keys = self.key(obs, rows)
        if not isinstance(keys, np.ndarray):
            keys = np.asarray(keys)
        if keys.shape != rows.shape or keys.dtype.kind not in _NUMBERS:
            raise self._refused(f"{keys.dtype}, shape {keys.shape}", rows)
        best = keys.argmin()  # of several keys, one that is NaN if there is any
        if keys[best] != keys[best]:
            raise self._refused("NaN", rows)
        return int(rows[best])

    def _refused(self, got: str, rows: NDArray[np.intp]) -> ValueError:
        return ValueError(f"key of {type(self).__name__}: got {got}; expected a number per row, shape {rows.shape}")


def job_column(obs: Observation, rows: NDArray[np.intp], column: Job, unknown: float = np.inf) -> NDArray[np.float32]:
    """Return one column of the jobs that the given candidates belong to, float32 (n,).

    Jobs that a small job window leaves out get `unknown`: infinity, so that they rank behind the jobs that are known,
    or 0 in a term that is added.
    """
    jobs = obs["candidates"][rows, Candidate.JOB].astype(np.intp)
    values = obs["jobs"][jobs, column]
    system = obs["system"]
    if system[System.JOBS] > system[System.JOB_ROWS]:
        values = np.where(jobs < 0, np.float32(unknown), values)
    return values
