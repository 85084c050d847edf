"""A clairvoyant schedule played in one compiled loop, many times over: what a search tries.

A schedule is an order of jobs: of what can be dispatched, the stage goes first whose job has the least true remaining
work, times a factor of the job; all factors 1 is ``oracle_srtf``. Tools may weigh more and be kept free as in
`llmsched_gym.policies.scarce_tools`, by what tasks truly take. On a cluster whose executors of a kind are alike, where
a task runs is no choice that matters much: the least loaded one takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import bind, kernel
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.cluster.lifecycle import is_over, least_loaded
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

STEP: Final = 0.25
"""Factors are powers of two, in steps of this exponent."""


class Schedule(NamedTuple):
    """What a rollout plays.

    Attributes:
        steps: int64 (J,) Job ``j`` counts ``2 ** (steps[j] / 4)`` times its remaining work.
        tool_weight: What a second on tools counts.
        reserve_s: Longest task, in seconds per tool executor, that may take the last free one; 0 keeps none free.
    """

    steps: NDArray[np.int64]
    tool_weight: float = 1.0
    reserve_s: float = 0.0


class Rollouts:
    """One workload on one cluster, played again and again.

    Args:
        workload: The jobs.
        cluster: What they run on.

    Raises:
        InputError: The cluster cannot run some task.
    """

    def __init__(self, workload: Workload, cluster: ClusterSpec) -> None:
        state, simulation = loop.start(workload, cluster)
        # As bytes: NumPy copies rows of records field by field, which took longer than playing small instances.
        self._arrays = [array.reshape(-1).view(np.uint8) for array in _arrays((state, simulation)) if array.size]
        self._fresh = [array.copy() for array in self._arrays]
        self._factors = np.ones(workload.n_jobs)
        self._play = bind(_play, state, simulation, self._factors, others=(1.0, 0.0))

    def mean_jct_s(self, schedule: Schedule) -> float:
        """Return the mean job completion time of a schedule, in seconds."""
        for array, fresh in zip(self._arrays, self._fresh, strict=True):
            np.copyto(array, fresh)
        self._factors[:] = np.exp2(STEP * schedule.steps)
        area_ns = self._play(float(schedule.tool_weight), float(schedule.reserve_s))
        return area_ns / len(self._factors) / 1e9


def _arrays(value: Any) -> Iterator[NDArray[Any]]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _arrays(each)


@kernel
def _play(
    state: ClusterState, simulation: Simulation, factors: NDArray[np.float64], tool_weight: float, reserve_s: float
) -> int:
    """Play a schedule to its end; return the jobs in the system, integrated over time, in nanoseconds."""
    tools = 0
    for e in range(len(state.executors)):
        if state.executors[e].kind == StageKind.REGULAR:
            tools += 1
    loop.advance(state, simulation, False)
    while not is_over(state):
        can_wait = loop.next_event_ns(state, simulation) != FAR
        chosen = -1
        least = np.float32(np.inf)
        for i in range(state.clock[0].ready):
            stage = state.stages[state.ready[i]]
            free = state.pools[stage.pool].free
            if free == 0:
                continue
            if can_wait and reserve_s > 0.0 and stage.kind == StageKind.REGULAR and free == 1 and tools > 1:
                tasks = stage.n_tasks - stage.done_tasks
                if stage.true_work_ns > reserve_s * 1e9 * tools * tasks:
                    continue
            job = state.jobs[stage.job]
            work_s = np.float32(job.true_remaining_ns * 1e-9)  # as accurate as what a policy is told
            tool_s = np.float32(job.true_tool_ns * 1e-9)
            key = np.float32((work_s + np.float32((tool_weight - 1.0) * tool_s)) * factors[stage.job])
            if key < least or chosen < 0:
                chosen, least = state.ready[i], key
        if chosen < 0:
            loop.advance(state, simulation, True)
            continue
        loop.dispatch(state, simulation, chosen, least_loaded(state, state.stages[chosen].pool))
        loop.advance(state, simulation, False)
    return state.clock[0].area_ns
