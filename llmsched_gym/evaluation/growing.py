"""How a policy sees an episode on the simulator, so that a decision costs what is there, and not what there could be.

An environment whose window leaves nothing out has tables with as many rows as the workload could ever fill: in a long
episode nearly all of them are empty, and clearing them takes longer than anything else. So tables begin small here, and
grow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Protocol

from llmsched_gym.envs.columns import System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.tables import Observation, Tables, TableShapes, Window

FIXED_ROWS: Final = 1024
"""Windows of up to so many candidates are not worth growing, and where larger ones begin."""

_FIRST: Final = Window(FIXED_ROWS, FIXED_ROWS, nodes=4 * FIXED_ROWS, edges=4 * FIXED_ROWS)


class Playable(Protocol):
    """What a policy can play: an environment, or something around one."""

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; return what is seen, and info."""
        ...

    def step(self, action: int, /) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Carry out a decision; return what is seen then, reward, whether it is over, False, and info."""
        ...


def small_tables(env: SchedulingEnv) -> Playable:
    """Return what is to be played instead of a simulated environment, whose ``episode`` it is all the same."""
    return GrowingPlay(env) if env.shapes.window.candidates > FIXED_ROWS else env


class GrowingPlay:
    """An episode whose tables have as many rows as were needed so far, at least, and none that was left out.

    Args:
        env: The environment.
    """

    def __init__(self, env: SchedulingEnv) -> None:
        self._env = env
        self._whole = env.shapes.window
        self._shapes: TableShapes = env.shapes

    def reset(self, *, seed: int) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        _, info = self._env.reset(seed=seed)
        self._shapes = replace(self._env.shapes, window=self._at_most(_FIRST))
        observation = self._look()
        return observation, info | {"action_mask": observation["action_mask"]}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out a decision."""
        episode, tables = self._env.episode, self._shapes.new(1)
        episode.step(action if 0 <= action < self._shapes.actions else -1, tables)
        reward, over = episode.turn.rewards.item(0), episode.turn.over.item(0)
        observation = self._shapes.first(tables) if self._fits(tables) else self._look()
        info = {"action_mask": observation["action_mask"], "time_s": episode.turn.time_s.item(0)}
        return observation, reward, over, False, info | ({"result": episode.result()} if over else {})

    def _look(self) -> Observation:
        """Return what is seen now, in tables that are large enough."""
        while True:
            tables = self._shapes.new(1)
            self._env.episode.look(tables)
            if self._fits(tables):
                return self._shapes.first(tables)
            self._shapes = replace(self._shapes, window=self._at_most(self._larger(tables)))
            self._shapes.check_size()

    def _fits(self, tables: Tables) -> bool:
        """Tell whether nothing was left out."""
        return self._larger(tables) == self._shapes.window

    def _larger(self, tables: Tables) -> Window:
        """Return a window with twice the rows of what was left out of these."""
        system, window = tables.system[0], self._shapes.window
        jobs = 2 if system[System.JOBS] > system[System.JOB_ROWS] else 1
        candidates = 2 if system[System.HIDDEN_CANDIDATES] > 0 else 1
        graph = 2 if self._shapes.graph and jobs == 1 and not self._has_nodes_of_all() else 1
        return Window(window.candidates * candidates, window.jobs * jobs, window.nodes * graph, window.edges * graph)

    def _has_nodes_of_all(self) -> bool:
        """Tell whether the graph shows the last job, and so all of them."""
        state = self._env.episode.state
        active = int(state.clock["active"][0])
        if active == 0:
            return True
        last = state.jobs[state.active[active - 1]]
        first = int(last["first_stage"])
        return bool((state.stages["row"][first : first + int(last["n_stages"])] >= 0).any())

    def _at_most(self, window: Window) -> Window:
        """Return a window that has no more rows than there could ever be something in."""
        return Window(*map(min, window, self._whole))
