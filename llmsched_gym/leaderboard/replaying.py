"""Actions carried out again on the simulator: no observation is made, no belief held, no policy asked.

What an environment does between two decisions beside showing them changes nothing of the cluster, so that the same
actions give the same episode in one compiled loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import bind, kernel
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.loop import Simulation
from llmsched_gym.cluster.lifecycle import is_over
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.envs.actions import count_decision, dispatch_of
from llmsched_gym.envs.outcome import digest, outcome
from llmsched_gym.envs.tables import Window
from llmsched_gym.evaluation.metrics import episode_metrics
from llmsched_gym.leaderboard.limits import CHECKPOINT
from llmsched_gym.workloads.workload import Workload

_NO_TIMES: Final = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Shape:
    """What actions are read by.

    Attributes:
        rows: Rows of ``candidates``.
        placements: 1, or the number of executors where actions choose one.
    """

    rows: int
    placements: int

    @classmethod
    def of(cls, workload: Workload, cluster: ClusterSpec, placement: str) -> Shape:
        """Return the shape that the evaluation gives a policy on these jobs."""
        return cls(Window.around(workload).candidates, cluster.n_executors if placement == "agent" else 1)

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.rows * self.placements + 1


@dataclass(frozen=True)
class Replayed:
    """What came of actions.

    Attributes:
        decisions: How many were carried out.
        over: Whether all jobs are finished.
        checkpoints: After every 256 decisions, while the episode was not over.
        digest: Of the finished episode; empty if it is not over.
        metrics: As an `Episode` has them; empty if it is not over.
    """

    decisions: int
    over: bool
    checkpoints: tuple[str, ...]
    digest: str
    metrics: Mapping[str, float | None]


def replay(workload: Workload, cluster: ClusterSpec, actions: NDArray[np.int64], shape: Shape) -> Replayed:
    """Carry out actions, until they or the jobs are at an end.

    Args:
        workload: The jobs.
        cluster: What they run on.
        actions: int64 (n,). Those out of range are illegal.
        shape: What they are read by.

    Raises:
        RuntimeError: The simulator's clock is at its end.
    """
    state, simulation = loop.start(workload, cluster)
    run = bind(carry_out, state, simulation, np.ascontiguousarray(actions), others=(0, 0, shape.rows, shape.placements))
    checkpoints: list[str] = []
    done = run(0, 0, shape.rows, shape.placements)
    while not is_over(state) and done < len(actions):
        done = run(done, min(done + CHECKPOINT, len(actions)), shape.rows, shape.placements)
        if not is_over(state) and done % CHECKPOINT == 0:
            checkpoints.append(checkpoint(state))
    if not is_over(state):
        return Replayed(done, False, tuple(checkpoints), "", {})
    result = outcome(state)
    return Replayed(done, True, tuple(checkpoints), result["digest"], schedule_metrics(result, workload))


@kernel
def carry_out(
    state: ClusterState,
    simulation: Simulation,
    actions: NDArray[np.int64],
    first: int,
    end: int,
    rows: int,
    placements: int,
) -> int:
    """Carry out the actions from `first` to before `end`, or until all jobs are finished, as `step_episodes` does.

    Args:
        state: The cluster.
        simulation: The simulator.
        actions: All actions.
        first: Position; without any (`end` is 0) time only moves to the first decision.
        end: Position.
        rows: Rows of ``candidates``.
        placements: 1, or the number of executors where the action chooses one.

    Returns:
        The position of the first that was not carried out.
    """
    if end == 0:
        loop.advance(state, simulation, False)
    for position in range(first, end):
        if is_over(state):
            return position
        count_decision(state, rows)
        action = actions[position]
        waits = action == rows * placements and loop.next_event_ns(state, simulation) != FAR
        if not waits:
            stage, executor = dispatch_of(state, action, rows, placements)
            loop.dispatch(state, simulation, stage, executor)
        loop.advance(state, simulation, waits)
    return end


def checkpoint(state: ClusterState) -> str:
    """Return a short digest of how far an episode is: the clock, and what was dispatched and has finished when."""
    clock = state.clock[0]
    content = hashlib.blake2b(digest_size=8)
    content.update(digest(state).encode())
    for name in ("now_ns", "area_ns", "decisions", "illegal_actions"):
        content.update(int(clock[name]).to_bytes(8, "little"))
    return content.hexdigest()


def schedule_metrics(result: Mapping[str, Any], workload: Workload) -> dict[str, float | None]:
    """Return the metrics of an episode that depend on its schedule alone.

    Args:
        result: What `outcome` returned.
        workload: The jobs.
    """
    names = [template.name for template in workload.templates]
    found = episode_metrics(result, names, _NO_TIMES)
    return {
        name: None if value is None else float(value)
        for name, value in found.items()
        if not name.startswith("decision_us_") and name != "episode_digest"
    }
