"""Many scheduling environments as one: all sub-environments advance in one compiled call per thread."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array
from numpy.typing import NDArray

from llmsched_gym._jit import direct
from llmsched_gym.envs import arguments
from llmsched_gym.envs.atomic import counters
from llmsched_gym.envs.memory import EpisodeMemory
from llmsched_gym.envs.parked import Parked, store
from llmsched_gym.envs.returned import ReturnedArrays
from llmsched_gym.envs.scheduling_env import Observation, SchedulingEnv, reset_info
from llmsched_gym.envs.simulated_episode import NO_TOKENS, SimulatedEpisode
from llmsched_gym.envs.team import Team
from llmsched_gym.envs.vector_kernels import (
    BelievingEpisodeArrays,
    EpisodeArrays,
    Seen,
    Step,
    new_progress,
    step_believing_episodes,
    step_episodes,
)
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import Scenario
from llmsched_gym.workloads.workload import Workload

_PER_THREAD = 8  # sub-environments below which another thread costs more than it brings


class SchedulingVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """`SchedulingEnv` times `num_envs`: the same observations, rewards, infos and digests, much faster.

    ``gymnasium.make_vec(ID, num_envs=64, vectorization_mode="vector_entry_point", ...)`` makes it. Observations are
    those of one environment with a leading axis; infos are arrays, as `gymnasium.vector.SyncVectorEnv` has them.

    The sub-environments are stepped by several threads. An episode does not depend on which thread steps it. When one
    is over, one thread draws the jobs of the next while the others wait, which takes as long as many steps:
    episodes that end at different times make for even steps.

    Args:
        scenario: As of `SchedulingEnv`.
        num_envs: Number of sub-environments, up to 65,536; their observations may take 1 GiB.
        autoreset_mode: What becomes of a sub-environment whose episode is over. NEXT_STEP: the next step resets it,
            whatever its action. SAME_STEP: it is reset at once; ``info["final_obs"]`` and ``info["final_info"]`` hold
            what its last step returned. DISABLED: ``reset(options={"reset_mask": ...})`` resets it.
        threads: Threads that step, this one included, up to 1024; default: one per processor, and per 8
            sub-environments.
        copy: Whether `reset` and `step` return new arrays. Without, arrays change with the next call, and must not be
            written to: what is not to change in them is not written again, which saves time.
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
        threads: int | None = None,
        copy: bool = True,
        **settings: Any,
    ) -> None:
        self._mode = arguments.autoreset_mode(autoreset_mode)
        self.num_envs = arguments.whole("num_envs", num_envs, arguments.MAX_ENVS)
        copy = arguments.flag("copy", copy)
        useful = max(min(_processors(), self.num_envs // _PER_THREAD), 1)
        self._threads = useful if threads is None else arguments.whole("threads", threads, arguments.MAX_THREADS)
        if settings.get("render_mode") is not None:
            raise InputError("environment", "render_mode", settings["render_mode"], "None: many are not rendered")
        if settings.get("backend", "simulator") != "simulator":
            raise InputError("environment", "backend", settings["backend"], "'simulator' for a vector environment")
        self._one = SchedulingEnv(scenario, **settings)
        self._one.check_size(self.num_envs)
        self.metadata = {**self._one.metadata, "autoreset_mode": self._mode}
        self.single_observation_space = self._one.observation_space
        self.single_action_space = self._one.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        arrays: Any = create_empty_array(self.single_observation_space, self.num_envs)
        self._seen: Observation = arrays
        self._returned = ReturnedArrays(arrays) if copy else None
        self._nothing = np.zeros((self.num_envs, 0, 1), np.float32), np.zeros((self.num_envs, 0, 1), np.int32)
        self._episodes: list[SimulatedEpisode] = []
        self._workloads: list[Workload] = []
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._memory = EpisodeMemory()
        self._parked: Parked | None = None
        profilers = [self._one.profiler.for_thread() for _ in range(self._threads)] if self._one.profiler else []
        self._inferences = Parked([profiler.inference for profiler in profilers]) if profilers else None
        self._team = Team(self._threads, _processors())
        self._taken = counters(self._threads)
        self._step: Parked | None = None  # what the threads do
        self._written: tuple[Observation, NDArray[np.bool_], bool] | None = None  # what of it changes, as last written
        self._kept: dict[int, tuple[NDArray[np.int64], Observation]] = {}  # what was written for which arrays
        self._store: Any = None  # machine code that writes it down, once there are arrays for it
        self._work: Any = None  # machine code that does it
        self._progress = new_progress(self.num_envs)
        self._any_over = False
        self._actions = np.zeros(self.num_envs, np.int64)
        self._begun = np.zeros(self.num_envs, np.bool_)
        self._none = np.zeros(self.num_envs, np.bool_)
        self._all = np.ones(self.num_envs, np.bool_)

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
        return self._seen["action_mask"] != 0

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
        if self._returned is not None:
            self._seen = {name: array.copy() for name, array in self._seen.items()}
        rows = np.flatnonzero(chosen).tolist()
        begun = [self._begin(i, seeds[i]) for i in rows]
        self._look(chosen)
        infos: dict[str, Any] = {}
        for i, info in zip(rows, begun, strict=True):
            infos = self._add_info(infos, {**info, **self._info(i)}, i)
        return dict(self._seen), infos

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
        own: dict[str, Any] = {}
        self._take_actions(actions)
        if self._any_over:
            ended = self._progress.over.copy()
            which = np.flatnonzero(ended).tolist()
            if self._mode is AutoresetMode.DISABLED:
                advice = "reset them (options={'reset_mask': ...})"
                raise gym.error.ResetNeeded(f"the episodes of {which} are over: {advice}")
            for i in which:
                own = self._add_info(own, self._begin(i), i)
            self._begun[:] = ended
        fresh = False
        if self._returned is not None:
            self._seen, used = self._returned.take()
            fresh = not used
        self._advance(self._none, fresh)
        now = self._progress
        rewards, terminations = now.rewards.copy(), now.over.copy()
        if self._any_over:
            own = self._end(terminations, own)
        present = self._all.copy()
        infos = {
            "action_mask": self._seen["action_mask"],
            "_action_mask": present,
            "time_s": now.time_s.copy(),
            "_time_s": present,
            "hidden_candidates": now.hidden_candidates.copy(),
            "_hidden_candidates": present,
            "illegal_actions": now.illegal_actions.copy(),
            "_illegal_actions": present,
            **own,
        }
        return dict(self._seen), rewards, terminations, np.zeros(self.num_envs, np.bool_), infos

    def _end(self, terminations: NDArray[np.bool_], infos: dict[str, Any]) -> dict[str, Any]:
        """Add the results of episodes that are over to `infos`; begins the next ones if they are due in this step."""
        for i in np.flatnonzero(terminations).tolist():
            info: dict[str, Any] = {"result": self._episodes[i].result()}
            if self._mode is AutoresetMode.SAME_STEP:
                final = {name: array[i].copy() for name, array in self._seen.items()}
                last = {"final_obs": final, "final_info": {**self._info(i), **info}}
                infos = self._add_info(infos, last, i)
                info = self._begin(i)
            infos = self._add_info(infos, info, i)
        if self._mode is AutoresetMode.SAME_STEP:
            self._look(terminations)
        return infos

    def close_extras(self, **_: Any) -> None:
        """End the threads."""
        self._team.dismiss()

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
        episode.move(self._memory, i)
        if len(self._episodes) < self.num_envs:
            self._episodes.append(episode)
            self._workloads.append(workload)
        self._episodes[i], self._workloads[i] = episode, workload
        if self._parked is None:
            self._parked = Parked([self._arrays(i)], self.num_envs)
        else:
            self._parked[i] = self._arrays(i)
        return reset_info(drawn, workload)

    def _look(self, begun: NDArray[np.bool_]) -> None:
        """Write the first observations of some episodes."""
        self._begun[:] = begun
        self._advance(~begun, fresh=True)

    def _arrays(self, i: int) -> EpisodeArrays | BelievingEpisodeArrays:
        """Return all arrays of a sub-environment."""
        episode = self._episodes[i]
        common = episode.state, episode.simulation
        if episode.beliefs is None:
            return EpisodeArrays(*common, episode.stage_beliefs, NO_TOKENS)
        return BelievingEpisodeArrays(*common, episode.beliefs.arguments[1:])

    def _take_actions(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._actions[:] = arguments.read_actions(actions, self.num_envs)
        self._begun[:] = False

    def _advance(self, skipped: NDArray[np.bool_], fresh: bool) -> None:
        """Let all threads step until every sub-environment has been stepped; arguments as of `Step`."""
        written = self._written
        if written is None or written[0] is not self._seen or written[1] is not skipped or written[2] != fresh:
            self._write(skipped, fresh)
        self._team.run(self._work)
        self._any_over = bool(self._progress.over.any())

    def _write(self, skipped: NDArray[np.bool_], fresh: bool) -> None:
        """Write down what the threads do."""
        kept = None if fresh else self._kept.get(id(self._seen))
        if self._step is not None and kept is not None:
            self._step.words(0)[:] = kept[0]
        else:
            self._write_anew(skipped, fresh)
        self._written = self._seen, skipped, fresh

    def _write_anew(self, skipped: NDArray[np.bool_], fresh: bool) -> None:
        assert self._parked is not None
        floats, integers = self._nothing
        optional = {"nodes": floats, "edges": integers, "truth": floats}
        step = Step(
            self._parked,
            self._inferences or 0,
            Seen(**optional | self._seen),
            fresh,
            self._actions,
            self._begun,
            skipped,
            self._one.placements,
            self._one.reward_index,
            self._progress,
            self._taken,
        )
        if self._step is None:
            self._step = Parked([step])
            self._store = direct(store, self._step, 0, step)
            arguments = self._step, self._team.rounds
            kernel = direct(step_believing_episodes if self._inferences else step_episodes, 0, *arguments)
            self._work = lambda thread: kernel(thread, *arguments)
        self._store(self._step, 0, step)
        if not fresh:  # these few arrays are written to in turn, and no episode is skipped then
            self._kept[id(self._seen)] = self._step.words(0).copy(), self._seen

    def _info(self, i: int) -> dict[str, Any]:
        """Return what every info of a sub-environment has."""
        return {
            "action_mask": self._seen["action_mask"][i],
            "time_s": float(self._progress.time_s[i]),
            "hidden_candidates": int(self._progress.hidden_candidates[i]),
            "illegal_actions": int(self._progress.illegal_actions[i]),
        }


def _processors() -> int:
    """Return how many processors this process may use; all of the machine's where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
