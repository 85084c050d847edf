"""One episode on real servers, with the interface of `SimulatedEpisode`: a decision in, the next observation out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.backends.vllm.fleet import Fleet
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.served_cluster import ServedCluster
from llmsched_gym.backends.vllm.tools import Tool
from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.cluster.lifecycle import least_loaded
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState, Rows, TaskStatus
from llmsched_gym.envs.columns import Candidate, Executor, Job, System
from llmsched_gym.envs.episode import Episode, Tables
from llmsched_gym.envs.observation import write_beliefs, write_mask, write_tables
from llmsched_gym.envs.simulated_episode import legal_choice
from llmsched_gym.errors import EpisodeLost
from llmsched_gym.profiler.profiler import Profiler
from llmsched_gym.workloads.workload import Workload

_TASK_RUNNING: Final = int(TaskStatus.RUNNING)
_KV_USED: Final = int(Executor.KV_USED)
_DECODED: Final = int(Executor.DECODED_TOKENS)
_SLOTS: Final = int(Executor.SLOTS)

ENGINE_LOAD: Final = np.dtype(
    [
        ("iteration_ps", "f8"),  # a of the latency profile that the cluster names
        ("decode_ps", "f8"),  # b
        ("context_ps", "f8"),  # d
        ("kv_tokens", "f8"),  # capacity of the KV cache
        ("context_tokens", "f8"),  # prompt and generated tokens of the requests that it holds
        ("decoded_tokens", "f8"),  # generated ones
    ],
    align=True,
)
"""One row per executor; zeros for regular ones."""


class ServedEpisode(Episode):
    """A workload on real servers, from the first decision to the last completion. Time is the wall clock.

    What a simulator knows of its engines is estimated here: the KV cache in use from the tokens of the requests that
    an executor holds (shared prefixes count every time), the length of an iteration from the latency profile that the
    cluster names.

    Args:
        workload: Jobs to run.
        cluster: Executors; one LLM executor per server.
        placements: 1, or the number of executors where actions choose one.
        profiler: Profiles for the profiler's columns; None leaves them 0.
        soft_evidence: Whether running stages are evidence.
        fleet: The servers.
        options: How they are used.
        tools: Functions that run in place of timed waits, by stage.

    Raises:
        InputError: The cluster or a server cannot run some task, or a profile does not fit its application.
    """

    def __init__(
        self,
        workload: Workload,
        cluster: ClusterSpec,
        placements: int,
        profiler: Profiler | None,
        soft_evidence: bool,
        fleet: Fleet,
        options: ServedOptions,
        tools: Mapping[str, Tool],
    ) -> None:
        self.cluster = ServedCluster(workload, cluster, fleet, options, tools)
        super().__init__(self.cluster.state, workload, placements, profiler, soft_evidence)
        self._load = _engine_load(cluster)

    def start(self) -> None:
        """Let the clock run, and wait for the first decision."""
        # Compile before the clock runs.
        tables = Tables(
            np.zeros((1, len(Candidate)), np.float32),
            np.zeros((1, len(Job)), np.float32),
            np.zeros((len(self.state.executors), len(Executor)), np.float32),
            np.zeros(len(System), np.float32),
            np.zeros(self._placements + 1, np.int8),
        )
        self.observe(tables)
        self.cluster.start()

    def observe(self, tables: Tables) -> None:
        """Fill `tables` with the present observation."""
        tokens = self.beliefs.layout.tokens if self.beliefs else self.cluster.generated
        can_wait = self.done or self.cluster.can_wait
        _observe(self.state, self.cluster.generated, tokens, self._load, can_wait, self._placements, *tables)
        if self.beliefs is not None:
            self.beliefs.refresh(self.state)
            _write_beliefs(self.state, self._load, self.job_beliefs, self.stage_beliefs, *tables[:2])

    def step(self, action: int, tables: Tables) -> bool:
        """Carry out a decision, wait until the next is due and fill `tables` with what is seen then.

        Returns:
            Whether all jobs are finished.

        Raises:
            EpisodeLost: No server is left.
            RunError: A tool failed, or servers reject a request.
        """
        clock = self._clock
        clock["decisions"] += 1
        clock["hidden_candidates"] += max(int(clock["ready"]) - len(tables.candidates), 0)
        waits = action == len(tables.action_mask) - 1 and self.cluster.can_wait
        if not waits:
            row, executor = legal_choice(
                self.state, action, min(int(clock["ready"]), len(tables.candidates)), self._placements
            )
            stage = int(self.state.ready[row])
            if executor < 0:
                executor = least_loaded(self.state, int(self.state.stages["pool"][stage]))
            self.cluster.dispatch(stage, executor)
        try:
            self.cluster.advance(wait=waits)
        except EpisodeLost as lost:
            lost.partial = self._partial()
            raise
        self.observe(tables)
        return self.done

    def kv_share(self, executor: int) -> float:
        """Estimate the share of an LLM executor's KV cache that was in use when last observed."""
        load = self._load[executor]
        return min(float(load["context_tokens"] / load["kv_tokens"]), 1.0)

    def served(self) -> dict[str, Any]:
        """Return what real servers add to the result: see `ServedRecord.summary`."""
        return self.cluster.record.summary(self.cluster.workload.tasks)

    def result(self) -> dict[str, Any]:
        """Return the results of an episode that is over, with what real servers add, and the requests one by one."""
        return super().result() | {"served": self.served(), "requests": self.cluster.record.requests}

    def close(self) -> None:
        """Drop what is under way."""
        self.cluster.close()

    def _partial(self) -> dict[str, Any]:
        jobs = self.state.jobs
        finished = jobs["finish_ns"] != FAR
        jct_s = (jobs["finish_ns"][finished] - jobs["arrival_ns"][finished]) * 1e-9
        return {
            "jobs": len(jobs),
            "finished_jobs": np.flatnonzero(finished).tolist(),
            "jct_s": jct_s.tolist(),
            "time_s": self.now_ns * 1e-9,
            "served": self.served(),
        }


def _engine_load(cluster: ClusterSpec) -> NDArray[Any]:
    load = np.zeros(cluster.n_executors, ENGINE_LOAD)
    row = 0
    for group in cluster.executors:
        if group.kind == "llm":
            profile = load_profile(group.latency)
            here = load[row : row + group.count]
            here["iteration_ps"], here["decode_ps"] = profile.iteration_ps, profile.decode_ps
            here["context_ps"], here["kv_tokens"] = profile.context_ps, group.kv_tokens
        row += group.count
    return load


@kernel
def _observe(
    state: ClusterState,
    generated: NDArray[np.int32],
    tokens: NDArray[np.int32],
    load: Rows,
    can_wait: bool,
    placements: int,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
    executors: NDArray[np.float32],
    system: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> None:
    """Fill the observation but for the profiler's columns, and copy the running tasks' tokens to `tokens`."""
    write_tables(state, candidates, jobs, executors, system)
    write_mask(state, can_wait, placements, mask)
    for e in range(len(state.executors)):
        load[e].context_tokens = 0.0
        load[e].decoded_tokens = 0.0
    for task in range(len(state.tasks)):
        row = state.tasks[task]
        if row.status == _TASK_RUNNING and row.output_tokens > 0:
            tokens[task] = generated[task]
            load[row.executor].decoded_tokens += generated[task]
            load[row.executor].context_tokens += row.prompt_tokens + generated[task]
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            executors[e, _KV_USED] = min(load[e].context_tokens / load[e].kv_tokens, 1.0)
            executors[e, _DECODED] = load[e].decoded_tokens
        if state.executors[e].pools == 0:
            executors[e, _SLOTS] = 0.0  # it serves nothing until its server has recovered


@kernel
def _write_beliefs(
    state: ClusterState,
    load: Rows,
    job_beliefs: Rows,
    stage_beliefs: Rows,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
) -> None:
    """Fill the profiler's columns, with LLM time at the mean of the engines' present iterations."""
    total_ps, engines = 0.0, 0
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            running = max(state.executors[e].running, 1)
            total_ps += load[e].iteration_ps + load[e].decode_ps * running + load[e].context_ps * load[e].context_tokens
            engines += 1
    iteration_s = total_ps * 1e-12 / max(engines, 1)
    write_beliefs(state, job_beliefs, stage_beliefs, iteration_s, candidates, jobs)
