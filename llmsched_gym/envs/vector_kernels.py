"""Compiled steps of many episodes, by any number of threads at once.

Each thread takes the next episode that no other has taken, until none is left. What becomes of an episode does not
depend on the thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel, threaded_kernel
from llmsched_gym.backends.simulator import Simulation
from llmsched_gym.cluster.state import ClusterState, Rows
from llmsched_gym.envs.columns import System
from llmsched_gym.envs.observation import write_graph, write_truth
from llmsched_gym.envs.parked import load
from llmsched_gym.envs.simulated_episode import Tables, carry_out, observe, show_beliefs, write_tokens
from llmsched_gym.profiler.beliefs import any_stale, update
from llmsched_gym.profiler.evidence import Layout
from llmsched_gym.profiler.integers import wide

_CANDIDATES: Final = int(System.CANDIDATES)
_JOB_ROWS: Final = int(System.JOB_ROWS)
_NODES: Final = int(System.NODES)
_EDGES: Final = int(System.EDGES)

PROGRESS: Final = np.dtype(
    [
        ("now_ns", "i8"),
        ("area_ns", "i8"),  # jobs in the system, integrated over time
        ("illegal_actions", "i8"),
        ("n_jobs", "i8"),
        ("over", "?"),  # all jobs are finished
    ],
    align=True,
)
"""One row per episode: what rewards and infos are made of."""


class Seen(NamedTuple):
    """Where an episode's observation goes: its rows of the batch. Arrays that are not asked for have length 0.

    Attributes:
        tables: The default observation.
        nodes: float32 (M, len(Node)).
        edges: int32 (L, 2).
        truth: float32 (N, len(Truth)).
    """

    tables: Tables
    nodes: NDArray[np.float32]
    edges: NDArray[np.int32]
    truth: NDArray[np.float32]


class Episode(NamedTuple):
    """The arrays of an episode without a profiler.

    Attributes:
        state: The cluster.
        simulation: The simulator.
        job_beliefs: No rows.
        stage_beliefs: No rows.
        seen: Its observation.
    """

    state: ClusterState
    simulation: Simulation
    job_beliefs: Rows
    stage_beliefs: Rows
    seen: Seen


class BelievingEpisode(NamedTuple):
    """The arrays of an episode with a profiler.

    Attributes:
        state: The cluster.
        simulation: The simulator.
        job_beliefs: `BELIEF` rows.
        stage_beliefs: `STAGE_BELIEF` rows.
        seen: Its observation.
        believed: Arguments of `refresh` after the profiles.
    """

    state: ClusterState
    simulation: Simulation
    job_beliefs: Rows
    stage_beliefs: Rows
    seen: Seen
    believed: tuple[Layout, bool, Rows, Rows, Rows]


def _emit_take(_: Any, counter: types.Array) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, context.get_constant(types.int64, 1), "seq_cst")

    return types.int64(counter), emit


_take: Any = intrinsic(_emit_take)
"""``_take(counter)`` returns ``counter[0]`` and adds 1, in one step that no other thread can come between."""


@threaded_kernel
def step_episodes(
    episodes: Any,
    actions: NDArray[np.int64],
    skipped: NDArray[np.bool_],
    placements: int,
    progress: Rows,
    counter: NDArray[np.int64],
) -> None:
    """Carry out one decision in each episode, and write what is seen then.

    Args:
        episodes: Parked `Episode` rows.
        actions: One per episode.
        skipped: Episodes to leave alone.
        placements: 1, or the number of executors where actions choose one.
        progress: `PROGRESS` rows; written.
        counter: int64 (1,), shared by the threads of a step: the next episode. The caller sets it to 0.
    """
    while True:
        row = _take(counter)
        if row >= len(actions):
            return
        if not skipped[row]:
            episode = load(episodes, row)
            _decide(episode, wide(actions[row]), placements)
            _finish(episode.state, episode.stage_beliefs, episode.seen, progress[row])


@threaded_kernel
def step_believing_episodes(
    episodes: Any,
    inferences: Any,
    thread: int,
    actions: NDArray[np.int64],
    skipped: NDArray[np.bool_],
    placements: int,
    progress: Rows,
    counter: NDArray[np.int64],
) -> None:
    """Do as `step_episodes` does, and keep beliefs up to date.

    Args:
        episodes: Parked `BelievingEpisode` rows.
        inferences: Parked `Inference` rows, one per thread.
        thread: Which of them this thread uses.
        actions: One per episode.
        skipped: Episodes to leave alone.
        placements: 1, or the number of executors where actions choose one.
        progress: `PROGRESS` rows; written.
        counter: int64 (1,), as of `step_episodes`.
    """
    inference = load(inferences, thread)
    while True:
        row = _take(counter)
        if row >= len(actions):
            return
        if not skipped[row]:
            episode = load(episodes, row)
            state, simulation = episode.state, episode.simulation
            layout, soft, jobs, stages, counts = episode.believed
            _decide(episode, wide(actions[row]), placements)
            if any_stale(state, jobs):
                write_tokens(state, simulation, layout.tokens)
                update(state, inference, layout, soft, jobs, stages, counts)
            tables = episode.seen.tables
            show_beliefs(state, simulation, jobs, stages, tables.candidates, tables.jobs)
            _finish(state, stages, episode.seen, progress[row])


@inlined_kernel
def _decide(episode: Any, action: int, placements: int) -> None:
    """Carry out a decision, and fill all of the tables but the profiler's columns."""
    _clear(episode.seen)
    state, simulation, tables = episode.state, episode.simulation, episode.seen.tables
    candidates, mask = tables.candidates, tables.action_mask
    carry_out(state, simulation, action, placements, candidates, mask)
    observe(state, simulation, placements, candidates, tables.jobs, tables.executors, tables.system, mask)


@inlined_kernel
def _clear(seen: Seen) -> None:
    """Zero the rows that hold something: how many, the last observation says itself."""
    tables = seen.tables
    _zero(tables.candidates, int(tables.system[_CANDIDATES]))
    _zero(tables.jobs, int(tables.system[_JOB_ROWS]))
    _zero(seen.nodes, int(tables.system[_NODES]))
    _zero(seen.edges, int(tables.system[_EDGES]))
    _zero(seen.truth, min(int(tables.system[_CANDIDATES]), len(seen.truth)))
    tables.action_mask[:] = 0


@kernel
def _zero(table: Rows, rows: int) -> None:
    for row in range(rows):
        table[row, :] = 0


@inlined_kernel
def _finish(state: ClusterState, stage_beliefs: Rows, seen: Seen, progress: Rows) -> None:
    """Write the parts of the observation that are not always asked for, and the progress."""
    if len(seen.nodes) > 0:
        write_graph(state, stage_beliefs, seen.nodes, seen.edges, seen.tables.system)
    if len(seen.truth) > 0:
        write_truth(state, seen.truth)
    clock = state.clock[0]
    progress.now_ns = clock.now_ns
    progress.area_ns = clock.area_ns
    progress.illegal_actions = clock.illegal_actions
    progress.over = clock.done == len(state.jobs)
