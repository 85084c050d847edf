"""Jobs told apart from one decision to the next, by what the observation shows of them.

Rows of ``jobs`` move up as jobs finish. A job is known again by its application and its time of arrival; of several
that share both, one that is over may be taken for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job, System
from llmsched_gym.policies.base import Observation

T = TypeVar("T")

_SAME_S: Final = 0.02
"""Arrivals that are closer may be one: an arrival is the time less the age, and both are rounded."""


class Followed(NamedTuple, Generic[T]):
    """The jobs that were seen last, by arrival.

    Attributes:
        app: float32 (J,) Their applications.
        arrival_s: float32 (J,) When they came.
        done: float32 (J,) How many of their stages were over.
        kept: What is remembered of each.
    """

    app: NDArray[np.float32]
    arrival_s: NDArray[np.float32]
    done: NDArray[np.float32]
    kept: list[T]


def nobody() -> Followed[Any]:
    """Return what is known before the first decision."""
    none = np.empty(0, np.float32)
    return Followed(none, none, none, [])


def follow(before: Followed[T], obs: Observation, begin: Callable[[int], T]) -> Followed[T]:
    """Return the jobs that are present; those that were there keep what is remembered of them.

    Jobs stand in order of arrival, so that the ones that are left have kept their order, and new ones come last.

    Args:
        before: What the last call returned.
        obs: The observation.
        begin: Gives what to remember of the new job in a row of ``jobs``; called in order of arrival.
    """
    jobs = obs["jobs"][: int(obs["system"][System.JOB_ROWS])]
    app, done = jobs[:, Job.APP].copy(), jobs[:, Job.STAGES_DONE].copy()
    arrival_s = obs["system"][System.TIME_S] - jobs[:, Job.AGE_S]
    if len(app) == len(before.app):
        same = (app == before.app) & (np.abs(arrival_s - before.arrival_s) < _SAME_S) & (done >= before.done)
        if same.all():
            return Followed(app, arrival_s, done, before.kept)
    then = list(zip(before.app.tolist(), before.arrival_s.tolist(), before.done.tolist(), strict=True))
    kept: list[T] = []
    first = 0
    for row, (its_app, came_s, its_done) in enumerate(
        zip(app.tolist(), arrival_s.tolist(), done.tolist(), strict=True)
    ):
        while first < len(then) and then[first][1] <= came_s - _SAME_S:
            first += 1  # over
        at, found = first, -1
        while found < 0 and at < len(then) and then[at][1] < came_s + _SAME_S:
            if then[at][0] == its_app and then[at][2] <= its_done:
                found, first = at, at + 1
            at += 1
        kept.append(before.kept[found] if found >= 0 else begin(row))
    return Followed(app, arrival_s, done, kept)
