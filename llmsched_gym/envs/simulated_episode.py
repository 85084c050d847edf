"""One episode on the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmsched_gym._jit import bind
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.episode import Episode
from llmsched_gym.envs.stacked import EpisodeArrays, stack_of_one
from llmsched_gym.envs.tables import Tables
from llmsched_gym.envs.transition import Due, Rules, World, step_episodes
from llmsched_gym.profiler.belief_state import Beliefs, no_beliefs
from llmsched_gym.profiler.profiler import Profiler, no_profiler
from llmsched_gym.workloads.workload import Workload


class SimulatedEpisode(Episode):
    """A workload on a simulated cluster, from the first decision to the last completion.

    Args:
        workload: Jobs to run.
        cluster: Executors to run them on.
        rules: What holds for its steps.
        profiler: Profiles for the profiler's columns; None leaves them 0.

    Attributes:
        arrays: All that it consists of.

    Raises:
        InputError: The cluster cannot run some task, or a profile does not fit its application.
    """

    def __init__(self, workload: Workload, cluster: ClusterSpec, rules: Rules, profiler: Profiler | None) -> None:
        super().__init__()
        state, simulation = loop.start(workload, cluster)
        self.arrays = EpisodeArrays(state, simulation, beliefs_of(workload, profiler))
        self._rules = rules
        self._inference = (profiler or no_profiler()).inference
        self._bound: Callable[..., Any] | None = None  # `step_episodes` of this episode

    @property
    def state(self) -> ClusterState:
        """The cluster."""
        return self.arrays.cluster

    @property
    def simulation(self) -> Simulation:
        """The simulator."""
        return self.arrays.simulation

    @property
    def beliefs(self) -> Beliefs:
        """What is believed of the jobs; without rows where there is no profiler."""
        return self.arrays.beliefs

    def __getstate__(self) -> dict[str, Any]:
        """Leave out compiled code: a copy has arrays of its own."""
        return {**vars(self), "_bound": None}

    def look(self, tables: Tables) -> None:
        """Fill `tables` with the present observation."""
        self.turn.due[0] = Due.LOOK
        self._advance(tables)
        self.turn.due[0] = Due.DECIDE

    def step(self, action: int, tables: Tables) -> None:
        """Carry out a decision, after the first `look`, and fill `tables` with what is seen when the next is due."""
        self.turn.actions[0] = action
        self._advance(tables)

    def _advance(self, tables: Tables) -> None:
        if self._bound is None:
            world = World(stack_of_one(self.arrays), self._inference, self._rules)
            self._bound = bind(step_episodes, world, self.turn, others=(tables, 0, 1))
        self._bound(tables, 0, 1)

    def kv_share(self, executor: int) -> float:
        """Return the share of an LLM executor's KV blocks in use."""
        return loop.kv_share(self.state, self.simulation, executor)


def beliefs_of(workload: Workload, profiler: Profiler | None) -> Beliefs:
    """Return what is believed of jobs of which nothing has been seen yet."""
    if profiler is None:
        return no_beliefs(no_profiler().layout(workload))
    return profiler.beliefs(workload)
