"""One episode on real servers, with the interface of `SimulatedEpisode`: a decision in, the next observation out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator.extents import blocks_for
from llmsched_gym.backends.simulator.loop import engine_config
from llmsched_gym.backends.vllm.fleet import Fleet
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.served_cluster import ServedCluster
from llmsched_gym.backends.vllm.tools import Tool
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState, Rows, TaskStatus
from llmsched_gym.envs.actions import count_decision, dispatch_of, write_mask
from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.episode import Episode
from llmsched_gym.envs.observing import show_beliefs, show_cluster, show_graph, show_truth
from llmsched_gym.envs.simulated_episode import beliefs_of
from llmsched_gym.envs.stacked import tables_at
from llmsched_gym.envs.tables import Tables
from llmsched_gym.envs.transition import Due, Rules, Turn, write_results
from llmsched_gym.errors import EpisodeLost
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.beliefs import refresh
from llmsched_gym.profiler.features import Inference
from llmsched_gym.profiler.profiler import Profiler, no_profiler
from llmsched_gym.workloads.workload import Workload

ENGINE_LOAD: Final = np.dtype(
    [
        ("latency_ps", "i8", (5,)),  # coefficients of the latency profile that the cluster names
        ("total_blocks", "i8"),  # KV blocks that it has
        ("block_size", "i8"),  # tokens per KV block
        ("prefix_caching", "i8"),  # 0 or 1
        ("used_blocks", "i8"),  # KV blocks of the requests that it holds
        ("context_tokens", "i8"),  # prompt and generated tokens of these
        ("decoded_tokens", "i8"),  # generated ones
    ],
    align=True,
)
"""One row per executor; zeros for regular ones."""


class ServedEpisode(Episode):
    """A workload on real servers, from the first decision to the last completion. Time is the wall clock.

    What a simulator knows of its engines is worked out here: the KV blocks in use from the requests that an executor
    holds and the tokens that have come (blocks that requests share count once; of a request that a server keeps waiting
    they count too, since servers do not say which these are), the length of an iteration from the latency profile that
    the cluster names.

    Args:
        workload: Jobs to run.
        cluster: Executors; one LLM executor per server.
        rules: What holds for its steps.
        profiler: Profiles for the profiler's columns; None leaves them 0.
        servers: The servers, how they are used, and the functions that run in place of timed waits, by stage.

    Raises:
        InputError: The cluster or a server cannot run some task, or a profile does not fit its application.
    """

    def __init__(
        self,
        workload: Workload,
        cluster: ClusterSpec,
        rules: Rules,
        profiler: Profiler | None,
        servers: tuple[Fleet, ServedOptions, Mapping[str, Tool]],
    ) -> None:
        super().__init__()
        self.cluster = ServedCluster(workload, cluster, *servers)
        self._rules = rules
        self._beliefs = beliefs_of(workload, profiler)
        self._inference = (profiler or no_profiler()).inference
        self._load = engine_load(cluster)
        self._shared = np.zeros((cluster.n_executors, workload.contents.total), np.int32)

    @property
    def state(self) -> ClusterState:
        """The cluster."""
        return self.cluster.state

    @property
    def beliefs(self) -> Beliefs:
        """What is believed of the jobs; without rows where there is no profiler."""
        return self._beliefs

    def start(self, tables: Tables) -> None:
        """Let the clock run, and wait for the first decision; `tables` are for nothing but to compile with."""
        self.look(tables)  # compile before the clock runs
        self.cluster.start()

    def look(self, tables: Tables) -> None:
        """Fill `tables` with the present observation."""
        self.turn.due[0] = Due.LOOK
        self._look(tables)

    def _look(self, tables: Tables) -> None:
        can_wait = self.done or self.cluster.can_wait
        sources = _Sources(self.state, self.cluster.generated, self._load, self._shared, self._beliefs, self._inference)
        _look(sources, self._rules, can_wait, self.turn, tables)

    def step(self, action: int, tables: Tables) -> None:
        """Carry out a decision, wait until the next is due and fill `tables` with what is seen then.

        Raises:
            EpisodeLost: No server is left.
            RunError: A tool failed, or servers reject a request.
        """
        rows, last = tables.candidates.shape[1], tables.action_mask.shape[1] - 1
        count_decision(self.state, rows)
        waits = action == last and self.cluster.can_wait
        if not waits:
            stage, executor = dispatch_of(self.state, action, rows, self._rules.placements)
            self.cluster.dispatch(stage, executor)
        try:
            self.cluster.advance(wait=waits)
        except EpisodeLost as lost:
            lost.partial = self._partial()
            raise
        self.turn.due[0] = Due.DECIDE
        self._look(tables)

    def kv_share(self, executor: int) -> float:
        """Return the share of an LLM executor's KV blocks that was in use when last observed."""
        load = self._load[executor]
        return min(float(load["used_blocks"] / load["total_blocks"]), 1.0)

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


def engine_load(cluster: ClusterSpec) -> NDArray[Any]:
    """Return `ENGINE_LOAD` rows of executors that hold nothing."""
    load = np.zeros(cluster.n_executors, ENGINE_LOAD)
    row = 0
    for group in cluster.executors:
        if group.kind == "llm":
            config = engine_config(group, group.hosts(cluster.models)[0])
            here = load[row : row + group.count]
            here["latency_ps"] = config.profile.coefficients_ps
            here["total_blocks"], here["block_size"] = config.kv_blocks, config.block_size
            here["prefix_caching"] = config.prefix_caching
        row += group.count
    return load


class _Sources(NamedTuple):
    """What a look is taken at.

    Attributes:
        state: The cluster.
        generated: int32 (tasks,). Tokens that running tasks have generated.
        load: `ENGINE_LOAD` rows; written.
        shared: int32 (executors, contents); written.
        beliefs: Of the jobs; brought up to date.
        inference: The profiles.
    """

    state: ClusterState
    generated: NDArray[np.int32]
    load: Rows
    shared: NDArray[np.int32]
    beliefs: Beliefs
    inference: Inference


@kernel
def _look(sources: _Sources, rules: Rules, can_wait: bool, turn: Turn, stacked: Tables) -> None:
    """Fill the observation, and write down the results."""
    state, load, beliefs = sources.state, sources.load, sources.beliefs
    tables = tables_at(stacked, 0)
    show_cluster(state, tables)
    write_mask(state, can_wait, rules.placements, tables.action_mask)
    measure_load(state, sources.generated, load, sources.shared, beliefs.layout.tokens)
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            tables.executors[e, Executor.KV_USED] = min(load[e].used_blocks / load[e].total_blocks, 1.0)
            tables.executors[e, Executor.DECODED_TOKENS] = load[e].decoded_tokens
        if state.executors[e].pools == 0:
            tables.executors[e, Executor.SLOTS] = 0.0  # it serves nothing until its server has recovered
    if len(beliefs.jobs) > 0:
        refresh(state, sources.inference, beliefs, rules.soft)
        show_beliefs(state, beliefs, _mean_iteration_s(state, load), tables)
    if len(tables.nodes) > 0:
        show_graph(state, beliefs.stages, tables)
    if len(tables.truth) > 0:
        show_truth(state, tables.truth)
    write_results(state, rules, turn, tables, 0)


@kernel
def measure_load(
    state: ClusterState, generated: NDArray[np.int32], load: Rows, shared: NDArray[np.int32], tokens: NDArray[np.int32]
) -> None:
    """Sum up what executors hold.

    Args:
        state: The cluster.
        generated: int32 (tasks,). Tokens that running tasks have generated.
        load: `ENGINE_LOAD` rows; written.
        shared: int32 (executors, contents); written: blocks of each content that some request holds.
        tokens: int32 (tasks,), or without rows; receives the tokens of running tasks.
    """
    shared[:] = 0
    for e in range(len(state.executors)):
        load[e].used_blocks = load[e].context_tokens = load[e].decoded_tokens = 0
    for task in range(len(state.tasks)):
        row = state.tasks[task]
        if row.status == TaskStatus.RUNNING and row.output_tokens > 0:
            here = load[row.executor]
            context = row.prompt_tokens + generated[task]
            if len(tokens) > 0:
                tokens[task] = generated[task]
            here.decoded_tokens += generated[task]
            here.context_tokens += context
            blocks = blocks_for(context, here.block_size)
            if here.prefix_caching != 0:
                held = shared[row.executor]
                findable = row.prompt_tokens - 1  # the last token of a prompt is computed whatever the cache holds
                of_app = min(row.app_prefix_tokens, findable) // here.block_size if row.app_prefix >= 0 else 0
                of_chain = min(row.own_from, findable) // here.block_size - of_app if row.chain >= 0 else 0
                blocks += _share(held, row.app_prefix, of_app) + _share(held, row.chain, of_chain)
            here.used_blocks += blocks


@kernel
def _share(shared: NDArray[np.int32], content: int, blocks: int) -> int:
    """Note that a request holds so many blocks of a content; returns minus those that others hold already."""
    if blocks <= 0:
        return 0
    held = min(shared[content], blocks)
    shared[content] = max(shared[content], blocks)
    return -held


@kernel
def _mean_iteration_s(state: ClusterState, load: Rows) -> float:
    """Return the mean length of the engines' present iterations, in seconds."""
    total_ps, engines = 0.0, 0
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            running = max(state.executors[e].running, 1)
            total_ps += iteration_ps(load[e].latency_ps, running, 0, load[e].context_tokens, 0)
            engines += 1
    return total_ps * 1e-12 / max(engines, 1)
