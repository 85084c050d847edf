"""Real servers behind environments: opened when the first episode needs them, shared by those that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from llmsched_gym.backends.vllm.fleet import Fleet, launch_specs
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.tools import load_tools
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.served_episode import ServedEpisode
from llmsched_gym.envs.tables import Tables
from llmsched_gym.envs.transition import Rules
from llmsched_gym.profiler.profiler import Profiler
from llmsched_gym.workloads.workload import Workload


class Serving:
    """The servers of a cluster, for one episode at a time.

    Args:
        options: Servers and how they are used.
        cluster: Its LLM executors are replaced by as many as there are servers.
        log_dir: Folder for the logs of launched servers; by default temporary ones.

    Attributes:
        options: As given.
        cluster: With one LLM executor per server.

    Raises:
        InputError: A server, tool or the cluster is not usable as described.
    """

    def __init__(self, options: ServedOptions, cluster: ClusterSpec, log_dir: Path | None = None) -> None:
        self.options = options
        self.cluster = cluster.with_llm_executors(len(options.servers))
        self._log_dir = log_dir
        self._tools = load_tools(options.tools)
        self._fleet: Fleet | None = None
        self._episode: ServedEpisode | None = None
        launch_specs(options.servers, self.cluster)

    def open(self) -> Fleet:
        """Return the servers; the first time, connect to them and launch those that are to be launched.

        Raises:
            InputError: A URL does not answer.
            RunError: A server does not start.
        """
        if self._fleet is None:
            self._fleet = Fleet(self.options.servers, self.cluster, self._log_dir)
        return self._fleet

    def begin(self, workload: Workload, rules: Rules, profiler: Profiler | None, tables: Tables) -> ServedEpisode:
        """End the present episode, start another and wait for its first decision.

        Args:
            workload: Jobs to run.
            rules: What holds for its steps.
            profiler: Profiles for the profiler's columns, or none.
            tables: Of the shapes that will be asked for.

        Raises:
            InputError: The cluster or a server cannot run some task.
        """
        self.end()
        servers = self.open(), self.options, self._tools
        self._episode = ServedEpisode(workload, self.cluster, rules, profiler, servers)
        self._episode.start(tables)
        return self._episode

    def end(self) -> None:
        """Drop what is under way of the present episode."""
        if self._episode is not None:
            self._episode.close()
            self._episode = None

    def requests(self) -> NDArray[Any]:
        """Return the `REQUEST` rows of the present episode so far.

        Raises:
            RuntimeError: There is none.
        """
        if self._episode is None:
            raise RuntimeError("no episode is under way")
        return self._episode.cluster.record.requests.copy()

    def describe(self) -> dict[str, Any]:
        """Return what results depend on, JSON-able; opens the servers."""
        options = self.options
        return {
            "servers": self.open().describe(),
            "stream": options.stream,
            "request_timeout_s": options.request_timeout_s,
            "give_up_s": options.give_up_s,
            "tools": {stage: str(tool) for stage, tool in sorted(options.tools.items())},
        }

    def close(self) -> None:
        """End the episode, stop launched servers and close all connections; the next `open` starts anew."""
        self.end()
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
