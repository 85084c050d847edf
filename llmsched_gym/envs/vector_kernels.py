"""Compiled steps of many episodes, by any number of threads at once.

Each thread has a share of the episodes, which it steps from front to back and, in the next step, from back to front:
so it meets episodes that are still in its processor's cache. When it is through it takes what is left of the other
shares. What becomes of an episode does not depend on the thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, threaded_kernel
from llmsched_gym.backends.simulator import Simulation
from llmsched_gym.cluster.state import ClusterState, Rows
from llmsched_gym.envs.atomic import fetch, fetch_add
from llmsched_gym.envs.columns import System
from llmsched_gym.envs.observation import write_graph, write_truth
from llmsched_gym.envs.parked import load
from llmsched_gym.envs.reward import reward
from llmsched_gym.envs.simulated_episode import carry_out, observe, show_beliefs
from llmsched_gym.envs.team import Rounds, enter, leave
from llmsched_gym.profiler.beliefs import BeliefRows, refresh
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.layout import Layout

_CANDIDATES: Final = int(System.CANDIDATES)
_JOB_ROWS: Final = int(System.JOB_ROWS)
_NODES: Final = int(System.NODES)
_EDGES: Final = int(System.EDGES)
_HIDDEN: Final = int(System.HIDDEN_CANDIDATES)

_reward = inlined_kernel(reward)


class Progress(NamedTuple):
    """Rewards, infos and what they are made of: one number per episode.

    Attributes:
        rewards: float64. Of the last decision.
        time_s: float64. The time.
        hidden_candidates: int64. Ready stages beyond the observation window.
        illegal_actions: int64.
        over: bool. All jobs are finished.
        now_ns: int64. The time.
        area_ns: int64. Jobs in the system, integrated over time.
    """

    rewards: NDArray[np.float64]
    time_s: NDArray[np.float64]
    hidden_candidates: NDArray[np.int64]
    illegal_actions: NDArray[np.int64]
    over: NDArray[np.bool_]
    now_ns: NDArray[np.int64]
    area_ns: NDArray[np.int64]


def new_progress(episodes: int) -> Progress:
    """Return zeros."""
    return Progress(
        rewards=np.zeros(episodes),
        time_s=np.zeros(episodes),
        hidden_candidates=np.zeros(episodes, np.int64),
        illegal_actions=np.zeros(episodes, np.int64),
        over=np.zeros(episodes, np.bool_),
        now_ns=np.zeros(episodes, np.int64),
        area_ns=np.zeros(episodes, np.int64),
    )


class Seen(NamedTuple):
    """The observations of all episodes, one row each. Parts that are not asked for have no rows of their own.

    Attributes:
        candidates: float32 (episodes, N, len(Candidate)).
        jobs: float32 (episodes, J, len(Job)).
        executors: float32 (episodes, E, len(Executor)).
        system: float32 (episodes, len(System)).
        action_mask: int8 (episodes, actions).
        nodes: float32 (episodes, M, len(Node)).
        edges: int32 (episodes, L, 2).
        truth: float32 (episodes, N, len(Truth)).
    """

    candidates: NDArray[np.float32]
    jobs: NDArray[np.float32]
    executors: NDArray[np.float32]
    system: NDArray[np.float32]
    action_mask: NDArray[np.int8]
    nodes: NDArray[np.float32]
    edges: NDArray[np.int32]
    truth: NDArray[np.float32]


class EpisodeArrays(NamedTuple):
    """The arrays of an episode without a profiler.

    Attributes:
        state: The cluster.
        simulation: The simulator.
        stage_beliefs: No rows.
        tokens: No rows.
    """

    state: ClusterState
    simulation: Simulation
    stage_beliefs: Rows
    tokens: NDArray[np.int32]


class BelievingEpisodeArrays(NamedTuple):
    """The arrays of an episode with a profiler.

    Attributes:
        state: The cluster.
        simulation: The simulator.
        believed: Arguments of `refresh` after the profiles.
    """

    state: ClusterState
    simulation: Simulation
    believed: tuple[Layout, bool, BeliefRows]


class Step(NamedTuple):
    """What the threads do in one round.

    Attributes:
        episodes: Parked `BelievingEpisodeArrays` rows, or, without a profiler, `EpisodeArrays` rows.
        inferences: Parked `Inference` rows, one per thread; without a profiler, 0.
        seen: The observations; written.
        fresh: Whether they hold anything. If not, they hold the last ones.
        actions: One per episode; numbers out of range are illegal actions.
        begun: Episodes that have just begun: there is no decision yet, they are only looked at.
        skipped: Episodes to leave alone.
        placements: 1, or the number of executors where actions choose one.
        reward: Position in `REWARDS`.
        progress: Written.
        taken: `counters`, one per thread: how many episodes of its share have been taken.
    """

    episodes: Any
    inferences: Any
    seen: Seen
    fresh: bool
    actions: NDArray[np.int64]
    begun: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    placements: int
    reward: int
    progress: Progress
    taken: NDArray[np.int64]


@inlined_kernel
def _enter(thread: int, steps: Any, rounds: Rounds) -> bool:
    """Begin a round, or take part in it; arguments as of `step_episodes`, result as of `enter`."""
    if thread == 0:  # nobody takes anything between two rounds
        step = load(steps, 0)
        for share in range(len(step.taken)):
            step.taken[share, 0] = 0
    return enter(rounds, thread)


@inlined_kernel
def _next(step: Step, round_: int, thread: int, helped: int) -> tuple[int, int]:
    """Take an episode for a thread that has finished its own share and those of `helped - 1` others, or none.

    Args:
        step: What to do.
        round_: Number of the round: shares are stepped from front to back, and from back to front in every other one.
        thread: The thread.
        helped: How many shares it knows to be finished.

    Returns:
        (episode, or -1 if none is left; how many shares are finished now).
    """
    threads, episodes = len(step.taken), len(step.actions)
    while helped < threads:
        share = (thread + helped) % threads
        first, end = share * episodes // threads, (share + 1) * episodes // threads
        k = fetch_add(step.taken, share, 1)
        if k < end - first:
            return (end - 1 - k if round_ & 1 else first + k), helped
        helped += 1
    return -1, helped


@threaded_kernel
def step_episodes(thread: int, steps: Any, rounds: Rounds) -> bool:
    """Carry out one decision in each episode, and write what is seen then, in every round (`Team.run`).

    Args:
        thread: The number of this thread.
        steps: A parked `Step`, read in every round.
        rounds: Of the team.

    Returns:
        What `leave` does.
    """
    going, over = _enter(thread, steps, rounds), True
    while going:
        step, round_ = load(steps, 0), fetch(rounds.begun, 0)
        row, helped = _next(step, round_, thread, 0)
        while row >= 0:
            if not step.skipped[row]:
                episode = load(step.episodes, row)
                _decide(episode.state, episode.simulation, episode.tokens, step, row)
                _finish(episode.state, episode.stage_beliefs, step, row)
            row, helped = _next(step, round_, thread, helped)
        over = leave(rounds, thread)
        going = thread > 0 and enter(rounds, thread)
    return over


@threaded_kernel
def step_believing_episodes(thread: int, steps: Any, rounds: Rounds) -> bool:
    """Do as `step_episodes` does, and keep beliefs up to date."""
    going, over = _enter(thread, steps, rounds), True
    while going:
        step, round_ = load(steps, 0), fetch(rounds.begun, 0)
        inference = load(step.inferences, thread)
        row, helped = _next(step, round_, thread, 0)
        while row >= 0:
            if not step.skipped[row]:
                episode = load(step.episodes, row)
                state, simulation = episode.state, episode.simulation
                layout, soft, rows = episode.believed
                _decide(state, simulation, layout.tokens, step, row)
                refresh(state, inference, layout, soft, rows)
                show_beliefs(state, simulation, rows.jobs, rows.stages, step.seen.candidates[row], step.seen.jobs[row])
                _finish(state, rows.stages, step, row)
            row, helped = _next(step, round_, thread, helped)
        over = leave(rounds, thread)
        going = thread > 0 and enter(rounds, thread)
    return over


@inlined_kernel
def _decide(
    state: ClusterState,
    simulation: Simulation,
    tokens: NDArray[np.int32],
    step: Step,
    row: int,
) -> None:
    """Carry out a decision, if there is one, and fill all of the tables but the profiler's columns."""
    seen, placements = step.seen, step.placements
    _clear(seen, row, step.fresh)
    candidates, jobs, mask = seen.candidates[row], seen.jobs[row], seen.action_mask[row]
    if not step.begun[row]:
        carry_out(state, simulation, wide(step.actions[row]), placements, candidates, mask)
    observe(state, simulation, tokens, placements, candidates, jobs, seen.executors[row], seen.system[row], mask)


@inlined_kernel
def _clear(seen: Seen, row: int, fresh: bool) -> None:
    """Zero all, or the rows that hold something: how many, the last observation says itself."""
    system = seen.system[row]
    candidates, jobs = int(system[_CANDIDATES]), int(system[_JOB_ROWS])
    nodes, edges = int(system[_NODES]), int(system[_EDGES])
    if fresh:
        system[:] = 0
        seen.executors[row, :, :] = 0
        candidates, jobs = seen.candidates.shape[1], seen.jobs.shape[1]
        nodes, edges = seen.nodes.shape[1], seen.edges.shape[1]
    seen.candidates[row, :candidates] = 0
    seen.jobs[row, :jobs] = 0
    seen.nodes[row, :nodes] = 0
    seen.edges[row, :edges] = 0
    seen.truth[row, :candidates] = 0
    seen.action_mask[row, :] = 0


@inlined_kernel
def _finish(state: ClusterState, stage_beliefs: Rows, step: Step, row: int) -> None:
    """Write the parts of the observation that are not always asked for, and the progress."""
    seen, progress = step.seen, step.progress
    if seen.nodes.shape[1] > 0:
        write_graph(state, stage_beliefs, seen.nodes[row], seen.edges[row], seen.system[row])
    if seen.truth.shape[1] > 0:
        write_truth(state, seen.truth[row])
    clock = state.clock[0]
    decided, done = not step.begun[row], clock.done == len(state.jobs)
    passed_ns = clock.now_ns - progress.now_ns[row] if decided else 0
    waited_ns = clock.area_ns - progress.area_ns[row] if decided else 0
    progress.rewards[row] = _reward(step.reward, passed_ns, waited_ns, clock.area_ns, done, len(state.jobs))
    progress.time_s[row] = clock.now_ns * 1e-9
    progress.hidden_candidates[row] = int(seen.system[row, _HIDDEN])
    progress.illegal_actions[row] = clock.illegal_actions
    progress.over[row] = done
    progress.now_ns[row] = clock.now_ns
    progress.area_ns[row] = clock.area_ns
