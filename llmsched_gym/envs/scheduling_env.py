"""The Gymnasium environment: schedule compound LLM jobs on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_gym._code.ahead import announce
from llmsched_gym._code.parts import episode_parts
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.cluster.spec import ClusterSpec, load_cluster
from llmsched_gym.envs.arguments import RENDER_MODES, check_arguments, read_action
from llmsched_gym.envs.episode import Episode
from llmsched_gym.envs.reward import REWARDS
from llmsched_gym.envs.simulated_episode import SimulatedEpisode
from llmsched_gym.envs.tables import Observation, Tables, TableShapes, Window
from llmsched_gym.envs.transition import Rules
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.extras import install_hint
from llmsched_gym.profiler.profiler import load_profiler
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.reading import read_workload
from llmsched_gym.workloads.splits import check_seed
from llmsched_gym.workloads.workload import Workload

if TYPE_CHECKING:
    from llmsched_gym.envs.serving import Serving


class SchedulingEnv(gym.Env[Any, np.int64]):
    """Schedule compound LLM jobs, whose stages become known as they run, on tool and batched LLM executors.

    ## Description
    Jobs of several applications arrive over time. Each is a DAG of stages with one or more parallel tasks; LLM tasks
    share batched LLM executors, tool tasks take a regular executor each. How long a task takes, which optional stages
    a job will need, and which sub-DAG a planner will produce are unknown until they are revealed.

    ## Action Space
    ``Discrete(N + 1)``: action ``i < N`` starts the next task of the stage in row ``i`` of ``candidates`` on the
    compatible executor that holds the fewest tasks; action ``N`` waits for the next event. With ``placement="agent"``
    the space is ``Discrete(N * E + 1)`` and action ``i * E + e`` names executor ``e`` too. A decision is due whenever
    a ready stage has a free compatible slot, and time does not move on a dispatch. An illegal action is counted and
    replaced by the oldest legal dispatch. At least one action is always legal.

    ## Observation Space
    A ``Dict`` of fixed-size arrays, padded with zeros; `llmsched_gym.envs.columns` names and documents the columns:

    - ``candidates`` float32 (N, 18): ready stages with tasks to start, oldest job first;
    - ``jobs`` float32 (J, 21): jobs in the system, oldest first;
    - ``executors`` float32 (E, 6);
    - ``system`` float32 (7,): time, counts of valid rows, ready stages that did not fit;
    - ``action_mask`` int8: 1 for legal actions (the same array is ``info["action_mask"]`` and `action_masks`);
    - with ``observation="graph"``: ``nodes`` float32 (M, 14) and ``edges`` int32 (L, 2), the unfinished known stages;
    - with ``placement="agent"`` on the simulator: ``placements`` float32 (N, E, 9), what each candidate would cost on
      each executor, and ``models`` float32 (E, M, 7), which models are where; with ``observation="graph"`` also
      ``ahead`` float32 (M', 3), a row per row of ``nodes``: models and outputs of the stages to come;
    - with ``privileged=True``: ``truth`` float32 (N, 4), for oracles.

    If more stages are ready than ``max_candidates``, those of the oldest jobs are shown and the rest is counted in
    ``system``, ``info`` and the results; they become visible as shown ones start. The same holds for ``max_jobs``.

    ## Rewards
    ``reward="jct"`` (default): minus the integral of the number of jobs in the system since the last decision, over
    the number of jobs: an episode's return is minus the mean job completion time in seconds. ``"terminal_jct"``: the
    same value at the end, 0 before. ``"makespan"``: minus the seconds that passed.

    ## Episode End
    Terminates when the last job is finished; ``info["result"]`` then holds the results (`llmsched_gym.envs.outcome`).
    Never truncates.

    ## Arguments
    See below; all can be given to ``gymnasium.make``.

    ## Version History
    - v0: first version.

    Args:
        scenario: Name (`llmsched_gym.scenario.SCENARIOS`), YAML file, mapping or `Scenario`.
        jobs: Number of jobs per episode; default: the scenario's. Not with `workload`.
        load: Offered work over capacity of the busiest pool of executors; default: the scenario's. Not with `workload`.
        rate: Jobs per second, instead of a load. Not with `workload`.
        split: Which jobs ``reset(seed=s)`` draws: "train", "eval" or "profile". The splits never share a job.
        workload: Fixed workload instead of drawn ones, or its file: a workload file, or a job trace (.json).
        cluster: Cluster (mapping, YAML file or `ClusterSpec`) instead of the scenario's.
        observation: "table" or "graph".
        privileged: Show the truth about the candidates. For oracles only; such results are marked in every table.
        placement: "least_loaded", or "agent" to let actions choose the executor.
        max_candidates: N, up to 1,000,000; None sizes it to the fixed `workload` so that nothing is ever left out,
            whatever its jobs turn out to be.
        max_jobs: J; None likewise. An observation may take 1 GiB.
        reward: "jct", "terminal_jct" or "makespan".
        profiler: Profiles behind the profiler's columns: True: those that come with the package; False: none, the
            columns are 0; a folder with profiles (``llmsched-gym profile fit``), which go before those of the package.
        soft_evidence: Whether the time that stages have been running for tells the profiler something.
        render_mode: None, "ansi" or "rgb_array".
        time_scale: Arrivals and regular tasks are that many times as fast as in the workload, 1e-6 to 1e6 times. LLM
            tasks are not.
        served: None: the simulator. Else LLM tasks are served by real vLLM servers, in real time: `ServedOptions` or a
            mapping of its fields (``{"servers": ["dummy:tiny"]}``; what is to be launched is launched at the first
            ``reset``, and ``close`` stops it), or a `Serving` that several environments share, whose own cluster and
            options count, and which is left open.

    Raises:
        InputError: An argument is not usable; the message names it.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 10}

    def __init__(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario = "mixed",
        *,
        jobs: int | None = None,
        load: float | None = None,
        rate: float | None = None,
        split: Literal["train", "eval", "profile"] = "train",
        workload: Workload | str | Path | None = None,
        cluster: ClusterSpec | str | Path | Mapping[str, Any] | None = None,
        observation: Literal["table", "graph"] = "table",
        privileged: bool = False,
        placement: Literal["least_loaded", "agent"] = "least_loaded",
        max_candidates: int | None = 64,
        max_jobs: int | None = 64,
        reward: Literal["jct", "terminal_jct", "makespan"] = "jct",
        profiler: bool | str | Path = True,
        soft_evidence: bool = True,
        render_mode: str | None = None,
        time_scale: float = 1.0,
        served: Serving | ServedOptions | Mapping[str, Any] | None = None,
    ) -> None:
        given = check_arguments(
            jobs=jobs,
            load=load,
            rate=rate,
            split=split,
            workload=workload,
            observation=observation,
            privileged=privileged,
            placement=placement,
            max_candidates=max_candidates,
            max_jobs=max_jobs,
            reward=reward,
            profiler=profiler,
            soft_evidence=soft_evidence,
            render_mode=render_mode,
            time_scale=time_scale,
        )
        jobs, load, rate, time_scale = (given[name] for name in ("jobs", "load", "rate", "time_scale"))
        self.scenario = load_scenario(scenario).replaced(jobs=jobs, load=load, rate=rate)
        graph = observation == "graph"
        announce(*episode_parts(self.scenario.applications, profiler=given["profiler"] is not False, graph=graph))
        self.cluster = self.scenario.cluster if cluster is None else load_cluster(cluster)
        self._serving: Serving | None = None
        self._owns_serving = False
        if served is not None:
            self._serving, self._owns_serving = _serving(served, self.cluster)
            self.cluster = self._serving.cluster
        self.render_mode = render_mode
        self._split = split
        self._time_scale = time_scale
        self._fixed = workload if workload is None or isinstance(workload, Workload) else read_workload(workload)
        if self._fixed is not None:
            self._fixed = self._fixed.scaled(time_scale)
            self.cluster.check_serves(self._fixed)
        made = self._fixed.provenance if self._fixed is not None else {}
        time_scale = made.get("time_scale", time_scale)
        divisor = made.get("token_divisor", self.scenario.token_divisor)
        self.profiler = load_profiler(given["profiler"], time_scale, divisor)
        self.shapes = TableShapes(
            window=self._window(given["max_candidates"], given["max_jobs"]),
            executors=self.cluster.n_executors,
            placements=self.cluster.n_executors if placement == "agent" else 1,
            graph=observation == "graph",
            privileged=given["privileged"],
            models=len(self.cluster.model_names) if placement == "agent" and self._serving is None else None,
        )
        self.shapes.check_size()
        self.rules = Rules(self.shapes.placements, REWARDS.index(reward), given["soft_evidence"], reuse=False)
        self.observation_space = self.shapes.space()
        self.action_space = spaces.Discrete(self.shapes.actions)
        self._workload: Workload | None = None
        self._episode: Episode | None = None
        self._mask: NDArray[np.int8] = np.zeros(0, np.int8)

    def _window(self, max_candidates: int | None, max_jobs: int | None) -> Window:
        if max_candidates is not None and max_jobs is not None:
            return Window.given(max_candidates, max_jobs)
        if self._fixed is None:
            name = "max_candidates" if max_candidates is None else "max_jobs"
            raise InputError("environment", name, None, "a number >= 1, or a fixed workload to size it to")
        whole = Window.around(self._fixed)
        if max_candidates is not None:
            return Window.given(max_candidates, whole.jobs)
        return whole if max_jobs is None else whole._replace(jobs=max_jobs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw the jobs of the next episode and move to its first decision.

        Args:
            seed: Draws the workload (split, seed); None draws a seed from the environment's own generator.
            options: Not used.

        Returns:
            First observation and info.
        """
        given = None if seed is None else check_seed(seed, "environment")
        super().reset(seed=given)
        drawn = int(self.np_random.integers(2**31)) if given is None else given
        self._workload = self.draw(drawn)
        self._episode = self._begin(self._workload)
        tables = self.shapes.new(1)
        self._episode.look(tables)
        observation, info = self._seen(tables)
        return observation, info | reset_info(drawn, self._workload)

    def draw(self, seed: int) -> Workload:
        """Return the jobs of the episode of a seed; the environment stays as it is."""
        if self._fixed is not None:
            return self._fixed
        return self.scenario.build(self._split, seed, self._arrival_rate).scaled(self._time_scale)

    @cached_property
    def _arrival_rate(self) -> float | None:
        """Worked out once: it takes as long as drawing the jobs of an application."""
        return self.scenario.rate_for(self.cluster)

    def simulate(self, workload: Workload) -> SimulatedEpisode:
        """Return a simulated episode at its first decision; the environment stays as it is."""
        return SimulatedEpisode(workload, self.cluster, self.rules, self.profiler)

    def _begin(self, workload: Workload) -> Episode:
        if self._serving is not None:
            return self._serving.begin(workload, self.rules, self.profiler, self.shapes.new(1))
        return self.simulate(workload)

    def close(self) -> None:
        """End the present episode on real servers, and stop those that this environment launched."""
        if self._serving is not None:
            self._serving.end()
            if self._owns_serving:
                self._serving.close()

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out one decision and move to the next.

        Args:
            action: See the class; an integer that is illegal is counted and replaced.

        Returns:
            Observation, reward, terminated, truncated (always False) and info.

        Raises:
            InputError: The action is no integer.
        """
        episode = self._episode
        if episode is None or episode.turn.over.item(0):
            raise gym.error.ResetNeeded("the episode is over: call reset()")
        tables = self.shapes.new(1)
        chosen = read_action(action)
        episode.step(chosen if 0 <= chosen < self.shapes.actions else -1, tables)
        observation, info = self._seen(tables)
        over = episode.turn.over.item(0)
        if over:
            info["result"] = episode.result()
        return observation, episode.turn.rewards.item(0), over, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions as booleans, as sb3-contrib's MaskablePPO asks for them."""
        return self._mask.astype(np.bool_)

    @property
    def workload(self) -> Workload:
        """The jobs of the present episode, with the whole truth about them; not for policies."""
        if self._workload is None:
            raise gym.error.ResetNeeded("there is no workload before reset()")
        return self._workload

    @property
    def episode(self) -> Episode:
        """The present episode, for rendering and export; not for policies."""
        if self._episode is None:
            raise gym.error.ResetNeeded("there is no episode before reset()")
        return self._episode

    def render(self) -> str | NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the schedule so far: as text ("ansi") or as a Gantt picture, uint8 (height, width, 3)."""
        if self.render_mode is None:
            return None
        from llmsched_gym.export import render

        if self.render_mode == "ansi":
            return render.ansi(self.episode, self.workload)
        return render.gantt_array(self.episode.state, self.workload)

    def _seen(self, tables: Tables) -> tuple[Observation, dict[str, Any]]:
        """Wrap filled tables as observation and info."""
        observation = self.shapes.first(tables)
        self._mask = observation["action_mask"]
        turn = self.episode.turn
        info = {
            "action_mask": self._mask,
            "time_s": turn.time_s.item(0),
            "hidden_candidates": turn.hidden_candidates.item(0),
            "illegal_actions": turn.illegal_actions.item(0),
        }
        return observation, info


def reset_info(seed: int, workload: Workload) -> dict[str, Any]:
    """Return what only the first info of an episode has: names of applications, and the seed of a policy's own coin."""
    return {
        "applications": tuple(template.name for template in workload.templates),
        "policy_seed": int(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1)[0]),
    }


def _serving(given: Serving | ServedOptions | Mapping[str, Any], cluster: ClusterSpec) -> tuple[Serving, bool]:
    """Return the servers of an environment, and whether they are its own to close."""
    try:
        from llmsched_gym.envs.serving import Serving
    except ModuleNotFoundError as error:
        allowed = f"the extra served: {install_hint('served')}"
        raise InputError("environment", "served", Plain(f"servers without {error.name}"), allowed) from error
    if isinstance(given, Serving):
        return given, False
    options = given if isinstance(given, ServedOptions) else ServedOptions.from_mapping(given)
    return Serving(options, cluster), True
