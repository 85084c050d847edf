"""The Gymnasium environment: schedule compound LLM jobs on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_gym._code.ahead import announce
from llmsched_gym._code.parts import episode_parts
from llmsched_gym.backends.vllm.options import ServedOptions, ServerSpec
from llmsched_gym.cluster.spec import ClusterSpec, load_cluster
from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth
from llmsched_gym.envs.episode import Episode, Tables
from llmsched_gym.envs.observation import window_sizes, write_graph, write_truth
from llmsched_gym.envs.reward import REWARDS, reward
from llmsched_gym.envs.simulated_episode import SimulatedEpisode
from llmsched_gym.errors import InputError, suggest
from llmsched_gym.extras import install_hint
from llmsched_gym.profiler.profiler import load_profiler
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.reading import read_workload
from llmsched_gym.workloads.splits import check_seed
from llmsched_gym.workloads.workload import Workload

if TYPE_CHECKING:
    from llmsched_gym.envs.serving import Serving

Observation = dict[str, NDArray[Any]]

BACKENDS = ("simulator", "vllm")
"""Where completions come from."""

_NODES_PER_JOB = 48
_EDGES_PER_JOB = 96


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
    - ``jobs`` float32 (J, 17): jobs in the system, oldest first;
    - ``executors`` float32 (E, 6);
    - ``system`` float32 (7,): time, counts of valid rows, ready stages that did not fit;
    - ``action_mask`` int8: 1 for legal actions (the same array is ``info["action_mask"]`` and `action_masks`);
    - with ``observation="graph"``: ``nodes`` float32 (M, 14) and ``edges`` int32 (L, 2), the unfinished known stages;
    - with ``privileged=True``: ``truth`` float32 (N, 3), for oracles.

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
        jobs: Number of jobs per episode; default: the scenario's.
        load: Offered work over capacity of the busiest pool of executors; default: the scenario's.
        rate: Jobs per second, instead of a load.
        split: Which jobs ``reset(seed=s)`` draws: "train", "eval" or "profile". The splits never share a job.
        workload: Fixed workload instead of drawn ones, or its file: a workload file, or a job trace (.json).
        cluster: Cluster (mapping, YAML file or `ClusterSpec`) instead of the scenario's.
        observation: "table" or "graph".
        privileged: Show the truth about the candidates. For oracles only; such results are marked in every table.
        placement: "least_loaded", or "agent" to let actions choose the executor.
        max_candidates: N; None sizes it to the fixed `workload` so that nothing is ever left out.
        max_jobs: J; None likewise.
        reward: "jct", "terminal_jct" or "makespan".
        profiler: Profiles behind the profiler's columns: True: those that come with the package; False: none, the
            columns are 0; a folder with profiles (``llmsched-gym profile fit``), which go before those of the package.
        soft_evidence: Whether the time that stages have been running for tells the profiler something.
        render_mode: None, "ansi" or "rgb_array".
        time_scale: Arrivals and regular tasks are that many times as fast as in the workload. LLM tasks are not.
        backend: "simulator", or "vllm": LLM tasks are served by real vLLM servers, in real time.
        servers: With backend "vllm", one server per LLM executor: URLs, or what to launch ("dummy:tiny", a model, or a
            mapping of `LaunchSpec` fields), which happens at the first ``reset``; ``close`` stops them. Or a `Serving`
            that several environments share, whose own cluster and options count; it is left open.
        stream: With backend "vllm": stream replies, so that the tokens generated so far are observed.
        request_timeout_s: With backend "vllm": longest silence of a server before a request is sent to another one.
        give_up_s: With backend "vllm": the run ends when no server has been usable for that long.
        tools: With backend "vllm": what runs instead of timed waits, by stage name: ``module:function`` or
            ``path.py:function`` of an async function that takes a `ToolCall`.

    Raises:
        InputError: An argument is not usable; the message names it.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}

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
        backend: Literal["simulator", "vllm"] = "simulator",
        servers: Serving | str | Sequence[ServerSpec] | None = None,
        stream: bool = True,
        request_timeout_s: float = 120.0,
        give_up_s: float = 120.0,
        tools: Mapping[str, str] | None = None,
    ) -> None:
        _check_choice("observation", observation, ("table", "graph"))
        _check_choice("placement", placement, ("least_loaded", "agent"))
        _check_choice("reward", reward, REWARDS)
        for name, flag in (("privileged", privileged), ("soft_evidence", soft_evidence)):
            if not isinstance(flag, bool):
                raise InputError("environment", name, flag, "True or False")
        _check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.scenario = load_scenario(scenario).replaced(jobs=jobs, load=load, rate=rate)
        self.scenario.check_split(split)
        graph = observation == "graph"
        announce(*episode_parts(self.scenario.applications, profiler=profiler is not False, graph=graph))
        self.cluster = self.scenario.cluster if cluster is None else load_cluster(cluster)
        _check_choice("backend", backend, BACKENDS)
        self._serving: Serving | None = None
        self._owns_serving = False
        if backend == "vllm":
            options = {"stream": stream, "request_timeout_s": request_timeout_s, "give_up_s": give_up_s}
            self._serving, self._owns_serving = _serving(servers, self.cluster, {**options, "tools": tools or {}})
            self.cluster = self._serving.cluster
        elif servers is not None:
            raise InputError("environment", "servers", "servers", 'none, or backend="vllm"')
        self.render_mode = render_mode
        self._split = split
        self._time_scale = time_scale
        self._fixed = workload if workload is None or isinstance(workload, Workload) else read_workload(workload)
        if self._fixed is not None:
            self._fixed = self._fixed.scaled(time_scale)
        if self._fixed is not None:
            self.cluster.check_serves(self._fixed)
        self._graph = observation == "graph"
        self._privileged = privileged
        self.reward_index = REWARDS.index(reward)
        made = self._fixed.provenance if self._fixed is not None else {}
        time_scale = made.get("time_scale", time_scale)
        self.profiler = load_profiler(profiler, time_scale, made.get("token_divisor", self.scenario.token_divisor))
        self._soft_evidence = soft_evidence
        self.placements = self.cluster.n_executors if placement == "agent" else 1
        self._set_spaces(max_candidates, max_jobs)
        self._workload: Workload | None = None
        self._episode: Episode | None = None
        self._mask: NDArray[np.int8] = np.zeros(0, np.int8)
        self._area_ns = self._now_ns = 0

    def _set_spaces(self, max_candidates: int | None, max_jobs: int | None) -> None:
        n, m, edges = self._window("max_candidates", max_candidates)
        j = self._window("max_jobs", max_jobs)[0] if max_jobs is not None else 0
        if max_jobs is None:
            if self._fixed is None:
                raise InputError("environment", "max_jobs", None, "a number >= 1, or a fixed workload to size it to")
            j = self._fixed.n_jobs
        self._shapes = {
            "candidates": (n, len(Candidate)),
            "jobs": (j, len(Job)),
            "executors": (self.cluster.n_executors, len(Executor)),
            "system": (len(System),),
        }
        tables: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-np.inf, np.inf, shape, np.float32) for name, shape in self._shapes.items()
        }
        self._n_actions = n * self.placements + 1
        tables["action_mask"] = spaces.MultiBinary(self._n_actions)
        if self._graph:
            self._graph_shapes = ((m, len(Node)), (edges, 2))
            tables["nodes"] = spaces.Box(-np.inf, np.inf, self._graph_shapes[0], np.float32)
            tables["edges"] = spaces.Box(0, m, self._graph_shapes[1], np.int32)
        if self._privileged:
            tables["truth"] = spaces.Box(-np.inf, np.inf, (n, len(Truth)), np.float32)
        self.observation_space = spaces.Dict(tables)
        self.action_space = spaces.Discrete(self._n_actions)

    def _window(self, name: str, given: int | None) -> tuple[int, int, int]:
        """Return the numbers of candidate, node and edge rows."""
        if given is None:
            if self._fixed is None:
                raise InputError("environment", name, None, "a number >= 1, or a fixed workload to size it to")
            ready, nodes, edges = window_sizes(self._fixed.stages, self._fixed.children)
            return max(int(ready), 1), max(int(nodes), 1), max(int(edges), 1)
        if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
            raise InputError("environment", name, given, "a whole number >= 1")
        return int(given), int(given) * _NODES_PER_JOB, int(given) * _EDGES_PER_JOB

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
        if seed is not None:
            check_seed(seed, "environment")
        super().reset(seed=None if seed is None else seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self._workload = self.draw(drawn)
        self._episode = self._begin(self._workload)
        self._area_ns, self._now_ns = self._episode.area_ns, self._episode.now_ns
        tables = self._new_tables()
        self._episode.observe(tables)
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
        return SimulatedEpisode(workload, self.cluster, self.placements, self.profiler, self._soft_evidence)

    def _begin(self, workload: Workload) -> Episode:
        if self._serving is not None:
            return self._serving.begin(workload, self.placements, self.profiler, self._soft_evidence)
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
            action: See the class; an illegal one is counted and replaced.

        Returns:
            Observation, reward, terminated, truncated (always False) and info.
        """
        episode = self._episode
        if episode is None or episode.done:
            raise gym.error.ResetNeeded("the episode is over: call reset()")
        tables = self._new_tables()
        chosen = int(action)
        done = episode.step(chosen if 0 <= chosen < self._n_actions else -1, tables)
        observation, info = self._seen(tables)
        reward = self._reward_since(episode, done)
        if done:
            info["result"] = episode.result()
        return observation, reward, done, False, info

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
        from llmsched_gym.envs import render

        if self.render_mode == "ansi":
            return render.ansi(self.episode, self.workload)
        return render.gantt_array(self.episode.state, self.workload)

    def _new_tables(self) -> Tables:
        shapes = self._shapes
        return Tables(
            np.zeros(shapes["candidates"], np.float32),
            np.zeros(shapes["jobs"], np.float32),
            np.zeros(shapes["executors"], np.float32),
            np.zeros(shapes["system"], np.float32),
            np.zeros(self._n_actions, np.int8),
        )

    def _seen(self, tables: Tables) -> tuple[Observation, dict[str, Any]]:
        """Wrap filled tables as observation and info."""
        episode = self.episode
        candidates, jobs, executors, system, mask = tables
        observation: Observation = {
            "candidates": candidates,
            "jobs": jobs,
            "executors": executors,
            "system": system,
            "action_mask": mask,
        }
        if self._graph:
            nodes, edges = np.zeros(self._graph_shapes[0], np.float32), np.zeros(self._graph_shapes[1], np.int32)
            write_graph(episode.state, episode.stage_beliefs, nodes, edges, system)
            observation["nodes"], observation["edges"] = nodes, edges
        if self._privileged:
            truth = np.zeros((len(candidates), len(Truth)), np.float32)
            write_truth(episode.state, truth)
            observation["truth"] = truth
        self._mask = mask
        info = {
            "action_mask": mask,
            "time_s": episode.now_ns * 1e-9,
            "hidden_candidates": int(system[System.HIDDEN_CANDIDATES]),
            "illegal_actions": episode.illegal_actions,
        }
        return observation, info

    def _reward_since(self, episode: Episode, done: bool) -> float:
        area_ns, now_ns = episode.area_ns, episode.now_ns
        passed_ns, waited_ns = now_ns - self._now_ns, area_ns - self._area_ns
        self._area_ns, self._now_ns = area_ns, now_ns
        return reward(self.reward_index, passed_ns, waited_ns, area_ns, done, len(episode.state.jobs))


def reset_info(seed: int, workload: Workload) -> dict[str, Any]:
    """Return what only the first info of an episode has: names of applications, and the seed of a policy's own coin."""
    return {
        "applications": tuple(template.name for template in workload.templates),
        "policy_seed": int(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1)[0]),
    }


def _check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        known = [str(choice) for choice in allowed]
        raise InputError("environment", name, str(value), suggest(str(value), known))


def _serving(
    servers: Serving | str | Sequence[ServerSpec] | None, cluster: ClusterSpec, options: Mapping[str, Any]
) -> tuple[Serving, bool]:
    """Return the servers of an environment, and whether they are its own to close."""
    try:
        from llmsched_gym.envs.serving import Serving
    except ModuleNotFoundError as error:
        allowed = f"the extra served: {install_hint('served')}"
        raise InputError("environment", "backend", f"vllm without {error.name}", allowed) from error
    if isinstance(servers, Serving):
        return servers, False
    return Serving(ServedOptions.make(servers, **options), cluster), True
