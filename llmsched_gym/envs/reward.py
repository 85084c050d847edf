"""What a decision is worth: one function, interpreted for one environment and compiled for many."""

from __future__ import annotations

from typing import Final

REWARDS: Final = ("jct", "makespan", "terminal_jct")
"""Names of the reward functions."""


def reward(which: int, passed_ns: int, waited_ns: int, area_ns: int, done: bool, n_jobs: int) -> float:
    """Return the reward of a decision.

    Args:
        which: Position in `REWARDS`. jct: minus the integral of the number of jobs in the system since the last
            decision, over the number of jobs; terminal_jct: the same since the beginning, at the end; makespan: minus
            the seconds that passed.
        passed_ns: Time since the last decision.
        waited_ns: Jobs in the system, integrated since the last decision.
        area_ns: The same since the beginning.
        done: Whether all jobs are finished.
        n_jobs: Jobs of the episode.
    """
    if which == 1:
        return passed_ns * -1e-9
    if which == 2:
        return area_ns * -1e-9 / n_jobs * done
    return waited_ns * -1e-9 / n_jobs
