"""Many scheduling environments as one: all sub-environments advance in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from llmsched_gym._jit import bind
from llmsched_gym.envs import arguments
from llmsched_gym.envs.helpers import Helpers
from llmsched_gym.envs.scheduling_env import SchedulingEnv, reset_info
from llmsched_gym.envs.simulated_episode import SimulatedEpisode
from llmsched_gym.envs.stacked import Stack
from llmsched_gym.envs.tables import Observation, Tables
from llmsched_gym.envs.transition import Due, World, new_turn, step_episodes, step_share
from llmsched_gym.errors import InputError
from llmsched_gym.profiler.profiler import no_profiler
from llmsched_gym.scenario import Scenario
from llmsched_gym.workloads.workload import Workload


class SchedulingVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """`SchedulingEnv` times `num_envs`: the same observations, rewards, infos and digests, much faster.

    ``gymnasium.make_vec(ID, num_envs=64, vectorization_mode="vector_entry_point", ...)`` makes it. Observations are
    those of one environment with a leading axis; infos are arrays, as `gymnasium.vector.SyncVectorEnv` has them.

    When an episode is over, the jobs of the next one are drawn, which takes as long as many steps: episodes that end at
    different times make for even steps.

    Args:
        scenario: As of `SchedulingEnv`.
        num_envs: Number of sub-environments, up to 65,536; their observations may take 1 GiB.
        autoreset_mode: What becomes of a sub-environment whose episode is over. NEXT_STEP: the next step resets it,
            whatever its action. SAME_STEP: it is reset at once; ``info["final_obs"]`` and ``info["final_info"]`` hold
            what its last step returned. DISABLED: ``reset(options={"reset_mask": ...})`` resets it.
        threads: Threads that step, this one included. More than one pay on idle processors, with some hundred
            sub-environments (`docs/training.md`). An episode does not depend on which thread steps it.
        copy: Whether `reset` and `step` return new arrays. Without, two sets of arrays take turns: one changes with the
            next call but one, and must not be written to (rows that hold nothing are not cleared again), which saves
            time.
        settings: All other arguments of `SchedulingEnv`, equal for all sub-environments.

    Raises:
        InputError: An argument is not usable; the message names it.
    """

    def __init__(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario = "mixed",
        *,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        copy: bool = True,
        **settings: Any,
    ) -> None:
        self._mode = arguments.autoreset_mode(autoreset_mode)
        self.num_envs = arguments.whole("num_envs", num_envs, arguments.MAX_ENVS)
        self._threads = min(arguments.whole("threads", threads, arguments.MAX_THREADS), self.num_envs)
        copy = arguments.flag("copy", copy)
        if settings.get("render_mode") is not None:
            raise InputError("environment", "render_mode", settings["render_mode"], "None: many are not rendered")
        if settings.get("served") is not None:
            raise InputError("environment", "served", settings["served"], "None for a vector environment")
        self._one = SchedulingEnv(scenario, **settings)
        self._one.shapes.check_size(self.num_envs)
        self.metadata = {**self._one.metadata, "autoreset_mode": self._mode}
        self.single_observation_space = self._one.observation_space
        self.single_action_space = self._one.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rules = self._one.rules._replace(reuse=not copy)
        self._reused = [] if copy else [self._one.shapes.new(self.num_envs) for _ in range(2)]
        self._tables = self._one.shapes.new(self.num_envs)
        self._turn = new_turn(self.num_envs)
        self._stack = Stack(self.num_envs)
        self._episodes: list[SimulatedEpisode] = []
        self._workloads: list[Workload] = []
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        profiler = self._one.profiler or no_profiler()
        scratch = [profiler, *(profiler.for_thread() for _ in range(1, self._threads))]
        self._inferences = [each.inference for each in scratch]
        self._helpers = Helpers(self._threads - 1)
        self._shares: list[Callable[[Tables], object]] = []  # what each thread steps; none before they are bound

    def __getstate__(self) -> dict[str, Any]:
        """Leave out threads and compiled code: a copy starts and binds its own."""
        return {**vars(self), "_shares": [], "_helpers": Helpers(self._threads - 1)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Let the episodes lie in the stack again."""
        vars(self).update(state)
        self._view_episodes()

    @property
    def episodes(self) -> Sequence[SimulatedEpisode]:
        """The present episodes, for rendering and export; not for policies. The next one overwrites it."""
        return self._episodes

    @property
    def workloads(self) -> Sequence[Workload]:
        """The jobs of the present episodes, with the whole truth about them; not for policies."""
        return self._workloads

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions: bool (num_envs, actions)."""
        return self._tables.action_mask != 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: A seed for the first sub-environment, one more for each that follows; or a list or array of one for
                each; None: as for `SchedulingEnv.reset`.
            options: ``"reset_mask"``: bool (num_envs,), the sub-environments to reset; default: all.

        Returns:
            Observations and infos.
        """
        seeds = arguments.read_seeds(seed, self.num_envs)
        chosen = arguments.reset_mask(options, self.num_envs)
        if not self._episodes and not chosen.all():
            raise gym.error.ResetNeeded("the first reset is of all sub-environments")
        rows = np.flatnonzero(chosen).tolist()
        begun = [self._begin(i, seeds[i]) for i in rows]
        self._look()
        infos: dict[str, Any] = {}
        for i, info in zip(rows, begun, strict=True):
            infos = self._add_info(infos, {**info, **self._info(i)}, i)
        return self._observation(), infos

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Carry out one decision in each sub-environment and move to the next.

        Args:
            actions: int (num_envs,); integers that are illegal are counted and replaced.

        Returns:
            Observations, rewards, terminations, truncations (always False) and infos.
        """
        if self.closed:
            raise gym.error.ClosedEnvironmentError("step() was called after close()")
        if len(self._episodes) < self.num_envs:
            raise gym.error.ResetNeeded("call reset() before step()")
        turn, own = self._turn, {}
        self._take_actions(actions)
        turn.due[:] = Due.DECIDE
        if turn.over.any():
            which = np.flatnonzero(turn.over).tolist()
            if self._mode is AutoresetMode.DISABLED:
                advice = "reset them (options={'reset_mask': ...})"
                raise gym.error.ResetNeeded(f"the episodes of {which} are over: {advice}")
            for i in which:
                own = self._add_info(own, self._begin(i), i)
            turn.due[which] = Due.LOOK
        self._next_tables()
        self._advance()
        rewards, terminations = turn.rewards.copy(), turn.over.copy()
        if terminations.any():
            own = self._end(terminations, own)
        present = np.ones(self.num_envs, np.bool_)
        infos = {
            "action_mask": self._tables.action_mask,
            "_action_mask": present,
            "time_s": turn.time_s.copy(),
            "_time_s": present,
            "hidden_candidates": turn.hidden_candidates.copy(),
            "_hidden_candidates": present,
            "illegal_actions": turn.illegal_actions.copy(),
            "_illegal_actions": present,
            **own,
        }
        return self._observation(), rewards, terminations, np.zeros(self.num_envs, np.bool_), infos

    def _end(self, terminations: NDArray[np.bool_], infos: dict[str, Any]) -> dict[str, Any]:
        """Add the results of episodes that are over to `infos`; begins the next ones if they are due in this step."""
        for i in np.flatnonzero(terminations).tolist():
            info: dict[str, Any] = {"result": self._episodes[i].result()}
            if self._mode is AutoresetMode.SAME_STEP:
                final = {name: array[i].copy() for name, array in self._observation().items()}
                last = {"final_obs": final, "final_info": {**self._info(i), **info}}
                infos = self._add_info(infos, last, i)
                info = self._begin(i)
            infos = self._add_info(infos, info, i)
        if self._mode is AutoresetMode.SAME_STEP:
            self._look()
        return infos

    def close_extras(self, **_: Any) -> None:
        """End the threads."""
        self._helpers.dismiss()

    def _begin(self, i: int, seed: int | None = None) -> dict[str, Any]:
        """Begin a new episode in a sub-environment; returns what only its first info has."""
        if seed is not None:
            self._generators[i] = seeding.np_random(seed)[0]
        generator = self._generators[i]
        if generator is None:
            generator = self._generators[i] = seeding.np_random()[0]
        drawn = int(generator.integers(2**31)) if seed is None else int(seed)
        workload = self._one.draw(drawn)
        episode = self._one.simulate(workload)
        before = self._stack.arrays
        episode.arrays = self._stack.put(i, episode.arrays)
        if len(self._episodes) < self.num_envs:
            self._episodes.append(episode)
            self._workloads.append(workload)
        self._episodes[i], self._workloads[i] = episode, workload
        if self._stack.arrays is not before:  # it has grown: all lie elsewhere
            self._shares = []
            self._view_episodes()
        return reset_info(drawn, workload)

    def _view_episodes(self) -> None:
        for place, episode in enumerate(self._episodes):
            episode.arrays = self._stack.at(place, episode.arrays)

    def _look(self) -> None:
        """Write the present observations: of episodes that have just begun, and again of the others.

        Callers may have written into what they were given of these.
        """
        self._turn.due[:] = Due.LOOK
        self._next_tables()
        self._advance()

    def _take_actions(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._turn.actions[:] = arguments.read_actions(actions, self.num_envs)

    def _next_tables(self) -> Tables:
        """Make other tables the present ones: zeros, or those before the last, as they are."""
        if self._reused:
            self._reused.reverse()
            self._tables = self._reused[0]
        else:
            self._tables = self._one.shapes.new(self.num_envs)
        return self._tables

    def _advance(self) -> None:
        """Do what is due in every sub-environment, and fill the present tables."""
        if not self._shares:
            self._shares = self._bound()
        if self._threads == 1:
            self._shares[0](self._tables)
        else:
            self._helpers.run([partial(share, self._tables) for share in self._shares])

    def _bound(self) -> list[Callable[[Tables], object]]:
        """Return what each thread does: the kernel for its share of the stack."""
        assert self._stack.arrays is not None
        step = step_episodes if self._threads == 1 else step_share
        ends = np.linspace(0, self.num_envs, self._threads + 1).astype(int).tolist()
        shares: list[Callable[[Tables], object]] = []
        for inference, first, end in zip(self._inferences, ends, ends[1:], strict=False):
            world = World(self._stack.arrays, inference, self._rules)
            bound = bind(step, world, self._turn, others=(self._tables, 0, 0))
            shares.append(partial(_step_rows, bound, first, end))
        return shares

    def _observation(self) -> Observation:
        return self._one.shapes.as_observation(self._tables)

    def _info(self, i: int) -> dict[str, Any]:
        """Return what every info of a sub-environment has."""
        return {
            "action_mask": self._tables.action_mask[i],
            "time_s": float(self._turn.time_s[i]),
            "hidden_candidates": int(self._turn.hidden_candidates[i]),
            "illegal_actions": int(self._turn.illegal_actions[i]),
        }


def _step_rows(bound: Callable[[Tables, int, int], object], first: int, end: int, tables: Tables) -> None:
    bound(tables, first, end)
