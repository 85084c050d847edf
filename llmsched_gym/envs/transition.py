"""A step: a decision is carried out, time passes until the next one is due, and what is seen then is written down.

One kernel for one environment and for many: the arrays of episodes, of tables and of results have a leading axis.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel, threaded_kernel
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.cluster.lifecycle import is_over
from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.envs.actions import count_decision, dispatch_of, write_mask
from llmsched_gym.envs.columns import Executor, System
from llmsched_gym.envs.observing import show_beliefs, show_cluster, show_graph, show_truth
from llmsched_gym.envs.observing_placements import show_ahead, show_placements
from llmsched_gym.envs.reward import reward
from llmsched_gym.envs.stacked import EpisodeArrays, episode_at, tables_at
from llmsched_gym.envs.tables import Tables
from llmsched_gym.profiler.beliefs import refresh
from llmsched_gym.profiler.features import Inference

_reward = inlined_kernel(reward)


class Due(IntEnum):
    """What to do in an episode."""

    LOOK = 0
    """Only write down what is seen: it has just begun."""
    DECIDE = 1


class Rules(NamedTuple):
    """What holds for all steps of an environment.

    Attributes:
        placements: 1, or the number of executors where actions choose one.
        reward: Position in `REWARDS`.
        soft: Whether running stages are evidence.
        reuse: Whether tables hold an earlier observation, not zeros.
    """

    placements: int
    reward: int
    soft: bool
    reuse: bool


class World(NamedTuple):
    """Episodes, and what they are stepped by.

    Attributes:
        episodes: A stack.
        inference: The profiles; not for two threads at once.
        rules: For all of them.
    """

    episodes: EpisodeArrays
    inference: Inference
    rules: Rules


class Turn(NamedTuple):
    """What to do in each episode, and what came of it.

    Attributes:
        due: int8. `Due`.
        actions: int64; numbers out of range are illegal actions.
        rewards: float64; written. Of the last decision.
        time_s: float64; written. The time.
        hidden_candidates: int64; written. Ready stages beyond the observation window.
        illegal_actions: int64; written.
        over: bool; written. All jobs are finished.
        now_ns: int64; written. The time.
        area_ns: int64; written. Jobs in the system, integrated over time.
    """

    due: NDArray[np.int8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    time_s: NDArray[np.float64]
    hidden_candidates: NDArray[np.int64]
    illegal_actions: NDArray[np.int64]
    over: NDArray[np.bool_]
    now_ns: NDArray[np.int64]
    area_ns: NDArray[np.int64]


def new_turn(episodes: int) -> Turn:
    """Return zeros for so many episodes."""
    integers = (np.zeros(episodes, np.int64) for _ in range(5))
    actions, hidden, illegal, now_ns, area_ns = integers
    rewards, time_s = np.zeros(episodes), np.zeros(episodes)
    due, over = np.zeros(episodes, np.int8), np.zeros(episodes, np.bool_)
    return Turn(due, actions, rewards, time_s, hidden, illegal, over, now_ns, area_ns)


@kernel
def step_episodes(world: World, turn: Turn, tables: Tables, first: int, end: int) -> None:
    """Do what is due in the episodes from `first` to before `end`.

    Args:
        world: Episodes and rules.
        turn: What to do, and results.
        tables: With a leading axis; zeros, or, if the rules say so, an earlier observation.
        first: Row.
        end: Row.
    """
    for row in range(first, end):
        _step_episode(world, turn, tables_at(tables, row), row)


@threaded_kernel
def step_share(world: World, turn: Turn, tables: Tables, first: int, end: int) -> None:
    """Do as `step_episodes` does, while other threads step other episodes, with other scratch, of the same stack."""
    step_episodes(world, turn, tables, first, end)


@inlined_kernel
def _step_episode(world: World, turn: Turn, tables: Tables, row: int) -> None:
    """Carry out a decision if one is due, let time pass to the next, fill the tables, and write down the results."""
    episode, rules = episode_at(world.episodes, row), world.rules
    state, simulation = episode.cluster, episode.simulation
    waits = False
    if turn.due[row] == Due.DECIDE:
        waits = _decide(state, simulation, turn.actions[row], rules.placements, tables)
    loop.advance(state, simulation, waits)
    if rules.reuse:
        _clear(tables)
    show_cluster(state, tables)
    can_wait = is_over(state) or loop.next_event_ns(state, simulation) != FAR
    write_mask(state, can_wait, rules.placements, tables.action_mask)
    _show_engines(state, simulation, episode.beliefs.layout.tokens, tables)
    if len(episode.beliefs.jobs) > 0:
        refresh(state, world.inference, episode.beliefs, rules.soft)
        show_beliefs(state, episode.beliefs, loop.mean_iteration_s(state, simulation), tables)
    if len(tables.nodes) > 0:
        show_graph(state, episode.beliefs.stages, tables)
    if len(tables.ahead) > 0:
        show_ahead(state, tables)
    if len(tables.placements) > 0:
        show_placements(state, simulation, tables)
    if len(tables.truth) > 0:
        show_truth(state, tables.truth)
    write_results(state, rules, turn, tables, row)


@inlined_kernel
def _decide(state: ClusterState, simulation: Simulation, action: int, placements: int, tables: Tables) -> bool:
    """Carry out a decision; tells whether it is to wait."""
    rows = len(tables.candidates)
    count_decision(state, rows)
    waits = action == len(tables.action_mask) - 1 and loop.next_event_ns(state, simulation) != FAR
    if not waits:
        stage, executor = dispatch_of(state, action, rows, placements)
        loop.dispatch(state, simulation, stage, executor)
    return waits


@inlined_kernel
def _clear(tables: Tables) -> None:
    """Zero the rows that hold something; how many these are, the last observation says itself."""
    system = tables.system
    tables.candidates[: int(system[System.CANDIDATES])] = 0
    tables.jobs[: int(system[System.JOB_ROWS])] = 0
    tables.nodes[: int(system[System.NODES])] = 0
    tables.edges[: int(system[System.EDGES])] = 0
    tables.truth[: int(system[System.CANDIDATES])] = 0
    tables.placements[: int(system[System.CANDIDATES])] = 0
    tables.models[:] = 0
    tables.ahead[: int(system[System.NODES])] = 0
    tables.action_mask[:] = 0
    system[:] = 0


@inlined_kernel
def _show_engines(state: ClusterState, simulation: Simulation, tokens: NDArray[np.int32], tables: Tables) -> None:
    """Fill the columns of ``executors`` that engines know, and the tokens of running tasks where they are asked for."""
    for e in range(len(state.executors)):
        if state.executors[e].engine >= 0:
            tables.executors[e, Executor.KV_USED] = loop.kv_share(state, simulation, e)
            tables.executors[e, Executor.DECODED_TOKENS] = loop.count_tokens(state, simulation, e, tokens)
        else:  # arrays that are used again may hold what an earlier episode had here
            tables.executors[e, Executor.KV_USED] = 0.0
            tables.executors[e, Executor.DECODED_TOKENS] = 0.0


@inlined_kernel
def write_results(state: ClusterState, rules: Rules, turn: Turn, tables: Tables, row: int) -> None:
    """Write down the reward and what infos tell."""
    clock, n_jobs = state.clock[0], state.clock[0].jobs
    decided, over = turn.due[row] == Due.DECIDE, is_over(state)
    passed_ns = clock.now_ns - turn.now_ns[row] if decided else 0
    waited_ns = clock.area_ns - turn.area_ns[row] if decided else 0
    turn.rewards[row] = _reward(rules.reward, passed_ns, waited_ns, clock.area_ns, over, n_jobs)
    turn.time_s[row] = clock.now_ns * 1e-9
    turn.hidden_candidates[row] = int(tables.system[System.HIDDEN_CANDIDATES])
    turn.illegal_actions[row] = clock.illegal_actions
    turn.over[row] = over
    turn.now_ns[row] = clock.now_ns
    turn.area_ns[row] = clock.area_ns
