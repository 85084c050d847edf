"""What a decision is worth: by name, for one environment or an array of them."""

from __future__ import annotations

from typing import Any, Final

REWARDS: Final = ("jct", "makespan", "terminal_jct")
"""Names of the reward functions."""


def reward(name: str, passed_ns: Any, waited_ns: Any, area_ns: Any, done: Any, n_jobs: Any) -> Any:
    """Return the reward of a decision; all arguments but the name are numbers, or arrays of one shape.

    Args:
        name: "jct": minus the integral of the number of jobs in the system since the last decision, over the number of
            jobs; "terminal_jct": the same since the beginning, at the end; "makespan": minus the seconds that passed.
        passed_ns: Time since the last decision.
        waited_ns: Jobs in the system, integrated since the last decision.
        area_ns: The same since the beginning.
        done: Whether all jobs are finished.
        n_jobs: Jobs of the episode.
    """
    if name == "makespan":
        return passed_ns * -1e-9
    if name == "terminal_jct":
        return area_ns * -1e-9 / n_jobs * done
    return waited_ns * -1e-9 / n_jobs
