"""What an episode is to its environment, simulated or served: the cluster, what is believed, the clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.outcome import outcome
from llmsched_gym.envs.tables import Tables
from llmsched_gym.envs.transition import Turn, new_turn
from llmsched_gym.profiler.belief_state import Beliefs


class Episode(ABC):
    """A workload on a cluster, from the first decision to the last completion.

    Attributes:
        turn: One row: what the last step came to.
    """

    def __init__(self) -> None:
        self.turn: Turn = new_turn(1)

    @property
    @abstractmethod
    def state(self) -> ClusterState:
        """The cluster."""

    @property
    @abstractmethod
    def beliefs(self) -> Beliefs:
        """What is believed of the jobs; without rows where there is no profiler."""

    @property
    def _clock(self) -> Any:
        """The clock's record: looked up each time, because a kept view would not follow a copied episode."""
        return self.state.clock[0]

    @property
    def done(self) -> bool:
        """Whether all jobs are finished."""
        return bool(self._clock["done"] == self._clock["jobs"])

    @property
    def now_ns(self) -> int:
        """The time of the present decision, since the start of the episode."""
        return int(self._clock["now_ns"])

    @property
    def area_ns(self) -> int:
        """Jobs in the system, integrated over time so far."""
        return int(self._clock["area_ns"])

    @property
    def illegal_actions(self) -> int:
        """Illegal actions so far."""
        return int(self._clock["illegal_actions"])

    def result(self) -> dict[str, Any]:
        """Return the results of an episode that is over (`llmsched_gym.envs.outcome`).

        With a profiler also ``unprofiled_jobs``; ``belief_updates`` and, of these, ``unseen_evidence``: the profile
        held what was seen for impossible, so that part of it was given up.
        """
        names = "unprofiled_jobs", "belief_updates", "unseen_evidence"
        counts = self.beliefs.counts
        return outcome(self.state) | (dict(zip(names, map(int, counts), strict=True)) if len(counts) else {})

    @abstractmethod
    def look(self, tables: Tables) -> None:
        """Fill `tables`, zeros with a leading axis of one, with the present observation."""

    @abstractmethod
    def step(self, action: int, tables: Tables) -> None:
        """Carry out a decision, move to the next one and fill `tables` with what is seen then.

        Args:
            action: A number out of range is an illegal action.
            tables: Zeros, with a leading axis of one.
        """

    @abstractmethod
    def kv_share(self, executor: int) -> float:
        """Return the share of an LLM executor's KV blocks in use."""
