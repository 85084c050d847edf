"""Many episodes as the arrays of one with a leading axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.backends.simulator.state import Engines
from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.one_piece import OnePiece
from llmsched_gym.envs.tables import Tables
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.layout import Layout

_SPARE: Final = 1.25
"""Room in a stack, relative to the largest episode so far: others have more stages and tasks."""


class EpisodeArrays(NamedTuple):
    """All that a simulated episode consists of; in a stack, of many episodes, each array with a leading axis.

    Attributes:
        cluster: What is where.
        simulation: The simulator.
        beliefs: What is believed of the jobs; without rows where there is no profiler.
    """

    cluster: ClusterState
    simulation: Simulation
    beliefs: Beliefs


def map_arrays(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to the arrays of named tuples, and of those within them, that have the same fields."""
    first = trees[0]
    if not isinstance(first, tuple):
        return function(*trees)
    kind: Any = type(first)
    return kind(*(map_arrays(function, *parts) for parts in zip(*trees, strict=True)))


class Stack:
    """Places for episodes on clusters of one shape.

    Args:
        places: How many.

    Attributes:
        arrays: The episodes in one, each array as long as the longest needs it. What lies beyond an episode's own rows
            means nothing. None before the first episode.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self.arrays: EpisodeArrays | None = None

    def put(self, place: int, episode: EpisodeArrays) -> EpisodeArrays:
        """Copy an episode to a place; what was there is lost.

        Returns:
            The episode as it lies there: views. Once the stack had to grow, `arrays` are others, and so must views be
            (`at`).
        """
        if self.arrays is None:
            self.arrays = self._allocate(episode, [own.shape for own in _arrays(episode)])
        elif not _fits(episode, self.arrays):
            smaller = self.arrays
            self.arrays = self._allocate(episode, map(_shape_with_room, _arrays(smaller), _arrays(episode)))
            map_arrays(_copy_into_larger, smaller, self.arrays)
        copies = self.at(place, episode)
        map_arrays(np.copyto, copies, episode)
        return copies

    def at(self, place: int, like: EpisodeArrays) -> EpisodeArrays:
        """Return the episode at a place, cut to the lengths of `like`: views."""
        return map_arrays(lambda stacked, own: stacked[(place, *map(slice, own.shape))], self.arrays, like)

    def _allocate(self, like: EpisodeArrays, shapes: Iterable[tuple[int, ...]]) -> EpisodeArrays:
        """Return zeros of so many places, each of these shapes; types are those of `like`."""
        kinds = [((self._places, *shape), own.dtype) for shape, own in zip(shapes, _arrays(like), strict=True)]
        arrays = iter(OnePiece(kinds).zeros())
        return map_arrays(lambda _: next(arrays), like)


def _arrays(tree: Any) -> list[NDArray[Any]]:
    """Return the arrays of a named tuple, and of those within it, in the order in which `map_arrays` goes."""
    return [array for part in tree for array in _arrays(part)] if isinstance(tree, tuple) else [tree]


def _shape_with_room(stacked: NDArray[Any], own: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape in a stack of arrays into which an episode's fits as well.

    Only arrays that were too small get spare room: kernels go by the length of those that depend on the cluster.
    """
    pairs = zip(own.shape, stacked.shape[1:], strict=True)
    return tuple(int(length * _SPARE) if length > room else room for length, room in pairs)


def _copy_into_larger(smaller: NDArray[Any], larger: NDArray[Any]) -> None:
    larger[tuple(map(slice, smaller.shape))] = smaller


def _fits(own: Any, stacked: Any) -> bool:
    """Tell whether arrays fit into those of a stack."""
    if isinstance(own, tuple):
        return all(map(_fits, own, stacked))
    return all(length <= room for length, room in zip(own.shape, stacked.shape[1:], strict=True))


def stack_of_one(episode: EpisodeArrays) -> EpisodeArrays:
    """Return an episode as a stack with one place, which shares its memory."""
    return map_arrays(lambda own: own[None], episode)


@inlined_kernel
def episode_at(stack: EpisodeArrays, place: int) -> EpisodeArrays:
    """Return an episode of a stack."""
    return EpisodeArrays(
        _cluster_at(stack.cluster, place), _simulation_at(stack.simulation, place), _beliefs_at(stack.beliefs, place)
    )


@inlined_kernel
def _cluster_at(stack: ClusterState, place: int) -> ClusterState:
    return ClusterState(
        stack.clock[place],
        stack.jobs[place],
        stack.stages[place],
        stack.tasks[place],
        stack.executors[place],
        stack.hosts[place],
        stack.host_of[place],
        stack.inputs[place],
        stack.links[place],
        stack.kv_links[place],
        stack.pools[place],
        stack.first_node[place],
        stack.means[place],
        stack.children[place],
        stack.reveals[place],
        stack.active[place],
        stack.ready[place],
        stack.scratch[place],
    )


@inlined_kernel
def _simulation_at(stack: Simulation, place: int) -> Simulation:
    return Simulation(
        Engines(
            stack.engines.rows[place],
            stack.engines.running[place],
            stack.engines.waiting[place],
            stack.engines.contents[place],
            stack.engines.extents[place],
        ),
        stack.heap[place],
        stack.moving[place],
        stack.unplanned[place],
        stack.finished[place],
    )


@inlined_kernel
def _beliefs_at(stack: Beliefs, place: int) -> Beliefs:
    layout = stack.layout
    return Beliefs(
        Layout(
            layout.apps[place],
            layout.first_node[place],
            layout.variable[place],
            layout.plan[place],
            layout.latency_ps[place],
            layout.llm_share[place],
            layout.work_ns[place],
            layout.tokens[place],
        ),
        stack.jobs[place],
        stack.stages[place],
        stack.evidence[place],
        stack.listed[place],
        stack.counts[place],
    )


@inlined_kernel
def tables_at(tables: Tables, place: int) -> Tables:
    """Return the tables of an episode of a stack."""
    return Tables(
        tables.candidates[place],
        tables.jobs[place],
        tables.executors[place],
        tables.system[place],
        tables.action_mask[place],
        tables.nodes[place],
        tables.edges[place],
        tables.truth[place],
        tables.placements[place],
        tables.models[place],
        tables.ahead[place],
    )
