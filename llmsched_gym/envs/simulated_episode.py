"""One episode on the simulator: a decision in, the next observation out, in a single compiled call."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import direct, inlined_kernel, kernel
from llmsched_gym.backends import simulator
from llmsched_gym.backends.engine import present_decodes
from llmsched_gym.backends.engine_state import Engines
from llmsched_gym.backends.simulator import Simulation
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.lifecycle import least_loaded
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState, Rows
from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.episode import Episode, Tables
from llmsched_gym.envs.memory import EpisodeMemory, room_for
from llmsched_gym.envs.observation import write_beliefs, write_mask, write_tables
from llmsched_gym.envs.parked import Parked, load
from llmsched_gym.profiler.beliefs import BeliefRows, any_stale, refresh
from llmsched_gym.profiler.features import Inference
from llmsched_gym.profiler.layout import Layout
from llmsched_gym.profiler.profiler import Profiler
from llmsched_gym.workloads.workload import Workload

_FAR = int(FAR)
_KV_USED = int(Executor.KV_USED)
_DECODED = int(Executor.DECODED_TOKENS)


class Believed(NamedTuple):
    """All that beliefs are written from, and to: arguments of `refresh`.

    Attributes:
        state: The cluster.
        simulation: The simulator.
        inference: The profiles.
        layout: How jobs map to them.
        soft: Whether running stages are evidence.
        rows: What is believed.
    """

    state: ClusterState
    simulation: Simulation
    inference: Inference
    layout: Layout
    soft: bool
    rows: BeliefRows


NO_TOKENS: Final = np.zeros(0, np.int32)
"""Where the tokens of tasks are written to if nobody reads them."""

_TABLE: Final = np.zeros((1, 1), np.float32)
_EXAMPLE: Final = Tables(_TABLE, _TABLE, _TABLE, np.zeros(1, np.float32), np.zeros(1, np.int8))
"""Tables of the types that all have."""

_COMPILED: Final = ("_decide", "_believed", "_believe")
"""Attributes of an episode that hold compiled code, or addresses for it: looked up when they are first needed."""


class SimulatedEpisode(Episode):
    """A workload on a simulated cluster, from the first decision to the last completion.

    Args:
        workload: Jobs to run.
        cluster: Executors to run them on.
        placements: 1, or the number of executors where actions choose one.
        profiler: Profiles for the profiler's columns; None leaves them 0.
        soft_evidence: Whether running stages are evidence.

    Raises:
        InputError: The cluster cannot run some task, or a profile does not fit its application.
    """

    def __init__(
        self,
        workload: Workload,
        cluster: ClusterSpec,
        placements: int,
        profiler: Profiler | None = None,
        soft_evidence: bool = True,
    ) -> None:
        state, simulation = simulator.start(workload, cluster)
        super().__init__(state, workload, placements, profiler, soft_evidence)
        self.simulation: Simulation = simulation

    @cached_property
    def _decide(self) -> Any:
        """Machine code of `decide` for the arrays of this episode."""
        return direct(decide, self.state, self.simulation, *self._written, 0, 0, *_EXAMPLE)

    @property
    def _written(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]:
        """What is written down of jobs, stages and tasks for the profiler; without one, nothing."""
        tokens = self.beliefs.layout.tokens if self.beliefs else NO_TOKENS
        return self.job_beliefs, self.stage_beliefs, tokens

    @cached_property
    def _believed(self) -> Parked:
        """More than a hundred arrays: to hand them over at each step would cost about as much as the step."""
        assert self.beliefs is not None
        return Parked([Believed(self.state, self.simulation, *self.beliefs.arguments)])

    @cached_property
    def _believe(self) -> Any:
        """Machine code of `believe` for them."""
        return direct(believe, self._believed, *_EXAMPLE[:2])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out compiled code, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name not in _COMPILED}

    def observe(self, tables: Tables) -> None:
        """Fill `tables` with the present observation."""
        if look(self.state, self.simulation, *self._written, self._placements, *tables):
            self._believe(self._believed, *tables[:2])

    def step(self, action: int, tables: Tables) -> bool:
        """Carry out a decision, move to the next one and fill `tables` with what is seen then.

        Returns:
            Whether all jobs are finished.
        """
        if self._decide(self.state, self.simulation, *self._written, action, self._placements, *tables):
            self._believe(self._believed, *tables[:2])
        return self.done

    def move(self, memory: EpisodeMemory, row: int) -> None:
        """Move all arrays that belong to this episode alone to its place in some memory."""
        kept = [*self.state, *self.simulation.engines, *self.simulation[1:]]
        if self.beliefs is not None:
            kept += self.beliefs.arrays()
        place = memory.place(row, sum(map(room_for, kept)))
        self.state = ClusterState(*map(place, self.state))
        engines, *others = self.simulation
        self.simulation = Simulation(Engines(*map(place, engines)), *map(place, others))
        if self.beliefs is not None:
            self.beliefs.move(place)
            self.job_beliefs, self.stage_beliefs = self.beliefs.jobs, self.beliefs.stages
        for name in _COMPILED:
            vars(self).pop(name, None)

    def kv_share(self, executor: int) -> float:
        """Return the share of an LLM executor's KV blocks in use."""
        return simulator.kv_share(self.state, self.simulation, executor)


@kernel
def decide(
    state: ClusterState,
    simulation: Simulation,
    job_beliefs: Rows,
    stage_beliefs: Rows,
    tokens: NDArray[np.int32],
    action: int,
    placements: int,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
    executors: NDArray[np.float32],
    system: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> bool:
    """Carry out a decision and fill the next observation; returns what `look` does."""
    carry_out(state, simulation, action, placements, candidates, mask)
    return look(
        state, simulation, job_beliefs, stage_beliefs, tokens, placements, candidates, jobs, executors, system, mask
    )


@inlined_kernel
def carry_out(
    state: ClusterState,
    simulation: Simulation,
    action: int,
    placements: int,
    candidates: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> None:
    """Carry out a decision and let time pass until the next one is due."""
    clock = state.clock[0]
    clock.decisions += 1
    clock.hidden_candidates += max(clock.ready - len(candidates), 0)
    last = len(mask) - 1
    if action == last and simulator.next_event_ns(state, simulation) != _FAR:
        simulator.wait(state, simulation)
    else:
        row, executor = legal_choice(state, action, min(clock.ready, len(candidates)), placements)
        stage = state.ready[row]
        if executor < 0:
            executor = least_loaded(state, state.stages[stage].pool)
        simulator.dispatch(state, simulation, stage, executor)
    simulator.advance(state, simulation)


@kernel
def legal_choice(state: ClusterState, action: int, rows: int, placements: int) -> tuple[int, int]:
    """Return (ready row, executor or -1) of an action; an illegal one counts and becomes the oldest dispatch."""
    row = action // placements
    if 0 <= row < rows:
        pool = state.stages[state.ready[row]].pool
        if placements == 1:
            if state.pools[pool].free > 0:
                return row, -1
        else:
            chosen = state.executors[action % placements]
            if (chosen.pools >> pool) & 1 and chosen.running < chosen.slots:
                return row, action % placements
    state.clock[0].illegal_actions += 1
    for oldest in range(state.clock[0].ready):
        if state.pools[state.stages[state.ready[oldest]].pool].free > 0:
            return oldest, -1
    raise RuntimeError("no dispatch is possible: the episode is over")


@kernel
def look(
    state: ClusterState,
    simulation: Simulation,
    job_beliefs: Rows,
    stage_beliefs: Rows,
    tokens: NDArray[np.int32],
    placements: int,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
    executors: NDArray[np.float32],
    system: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> bool:
    """Fill the observation; tells whether beliefs must be inferred before the profiler's columns can be filled."""
    observe(state, simulation, tokens, placements, candidates, jobs, executors, system, mask)
    if any_stale(state, job_beliefs):
        return True
    show_beliefs(state, simulation, job_beliefs, stage_beliefs, candidates, jobs)
    return False


@inlined_kernel
def observe(
    state: ClusterState,
    simulation: Simulation,
    tokens: NDArray[np.int32],
    placements: int,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
    executors: NDArray[np.float32],
    system: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> None:
    """Fill all of the observation but the profiler's columns, and `tokens`, which these follow from."""
    write_tables(state, candidates, jobs, executors, system)
    done = state.clock[0].done == len(state.jobs)
    can_wait = done or simulator.next_event_ns(state, simulation) != _FAR
    write_mask(state, can_wait, placements, mask)
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            executors[e, _KV_USED] = simulator.kv_share(state, simulation, e)
            executors[e, _DECODED] = simulator.count_tokens(state, simulation, e, tokens)


@inlined_kernel
def show_beliefs(
    state: ClusterState,
    simulation: Simulation,
    job_beliefs: Rows,
    stage_beliefs: Rows,
    candidates: NDArray[np.float32],
    jobs: NDArray[np.float32],
) -> None:
    """Fill the profiler's columns, with LLM time at the mean of the engines' present iterations.

    An idle engine counts as one that decodes a single sequence without context.
    """
    if len(job_beliefs) == 0:
        return
    total_ps = 0
    for e in range(len(simulation.engines.rows)):
        row = simulation.engines.rows[e]
        n_decode, context = present_decodes(row)
        total_ps += iteration_ps(row.latency_ps, max(n_decode, 1), 0, context, 0)
    iteration_s = total_ps * 1e-12 / max(len(simulation.engines.rows), 1)
    write_beliefs(state, job_beliefs, stage_beliefs, iteration_s, candidates, jobs)


@kernel
def believe(episode: Any, candidates: NDArray[np.float32], jobs: NDArray[np.float32]) -> None:
    """Infer anew what has changed in parked `Believed`, and fill the profiler's columns."""
    believed = load(episode, 0)
    state, simulation, inference, layout, soft, rows = believed
    refresh(state, inference, layout, soft, rows)
    show_beliefs(state, simulation, rows.jobs, rows.stages, candidates, jobs)
