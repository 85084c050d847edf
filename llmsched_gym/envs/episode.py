"""What an episode is to its environment, simulated or served: the cluster, what is believed, the clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.outcome import outcome
from llmsched_gym.profiler.beliefs import BELIEF, STAGE_BELIEF
from llmsched_gym.profiler.profiler import EpisodeBeliefs, Profiler
from llmsched_gym.workloads.workload import Workload


class Tables(NamedTuple):
    """Freshly zeroed C-contiguous arrays for one default observation (shapes in `SchedulingEnv`)."""

    candidates: NDArray[np.float32]
    jobs: NDArray[np.float32]
    executors: NDArray[np.float32]
    system: NDArray[np.float32]
    action_mask: NDArray[np.int8]


class Episode(ABC):
    """A workload on a cluster, from the first decision to the last completion.

    Args:
        state: The cluster.
        workload: Jobs that run on it.
        placements: 1, or the number of executors where actions choose one.
        profiler: Profiles for the profiler's columns; None leaves them 0.
        soft_evidence: Whether running stages are evidence.

    Attributes:
        state: The cluster.
        beliefs: What is believed of the jobs; None without a profiler.
        job_beliefs: `BELIEF` rows; none without a profiler.
        stage_beliefs: `STAGE_BELIEF` rows, likewise.

    Raises:
        InputError: A profile does not fit its application.
    """

    def __init__(
        self,
        state: ClusterState,
        workload: Workload,
        placements: int,
        profiler: Profiler | None,
        soft_evidence: bool,
    ) -> None:
        self.state = state
        self.beliefs = EpisodeBeliefs(profiler, workload, soft_evidence) if profiler else None
        self.job_beliefs = self.beliefs.jobs if self.beliefs else np.zeros(0, BELIEF)
        self.stage_beliefs = self.beliefs.stages if self.beliefs else np.zeros(0, STAGE_BELIEF)
        self._placements = placements

    @property
    def _clock(self) -> Any:
        """The clock's record: looked up each time, because a kept view would not follow a copied episode."""
        return self.state.clock[0]

    @property
    def done(self) -> bool:
        """Whether all jobs are finished."""
        return bool(self._clock["done"] == len(self.state.jobs))

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
        """Return the results of an episode that is over (`llmsched_gym.envs.outcome`)."""
        return outcome(self.state) | (self.beliefs.counts() if self.beliefs else {})

    @abstractmethod
    def observe(self, tables: Tables) -> None:
        """Fill `tables` with the present observation."""

    @abstractmethod
    def step(self, action: int, tables: Tables) -> bool:
        """Carry out a decision, move to the next one and fill `tables` with what is seen then.

        Returns:
            Whether all jobs are finished.
        """

    @abstractmethod
    def kv_share(self, executor: int) -> float:
        """Return the share of an LLM executor's KV cache in use."""
