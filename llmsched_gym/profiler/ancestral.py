"""Draws jobs from a profile, parents before children, and sums them up: what the network believes before evidence."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.profile import Profile

DRAWN_JOBS: Final = 20_000
"""Jobs behind the numbers that are shown of a profile; shares of jobs are right to about 0.003."""


def draw_states(profile: Profile, jobs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw states of all variables, int64 (jobs, variables)."""
    states = np.zeros((jobs, len(profile.variables)), dtype=np.int64)
    for column, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        rows = np.cumsum(table, axis=-1)[tuple(states[:, parent] for parent in parents)]
        # A row may sum to a little less than 1 after rounding: then its last state takes the rest.
        states[:, column] = (rng.random((jobs, 1)) >= np.atleast_2d(rows)[:, :-1]).sum(axis=1)
    return states


def shown_states(profile: Profile) -> NDArray[np.int64]:
    """Draw the `DRAWN_JOBS` jobs behind what is shown of a profile; always the same."""
    return draw_states(profile, DRAWN_JOBS, np.random.default_rng(0))


def mutual_information(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the mutual information of two columns of states, in nats, as their joint frequencies have it."""
    joint = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(joint, (one, other), 1.0 / len(one))
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / expected[seen])))


def correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlations of columns, (columns, columns); 0 where one is constant."""
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred * centred).sum(axis=0))
    unit = centred / np.where(length > 0, length, 1.0)
    return unit.T @ unit
