"""Returns of rollouts that share their jobs, and the baseline that takes the luck of the arrivals out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = Sequence[float] | Floats


class Curve(NamedTuple):
    """The return from each moment of a rollout on; linear in between.

    Attributes:
        times_s: float64 (k,). Moments, ascending.
        returns: float64 (k,). Return from each on.
    """

    times_s: Floats
    returns: Floats

    def at(self, times_s: Numbers) -> Floats:
        """Return the return from any moments on."""
        return np.asarray(np.interp(times_s, self.times_s, self.returns))


def return_curve(times_s: Numbers, costs: Numbers, horizon_s: float, average: float, fading_s: float) -> Curve:
    """Return minus the cost to come, relative to its average, fading with time, up to a horizon.

    Args:
        times_s: (k,) Moments, ascending, at which the cost is known.
        costs: (k,) Cost so far: the number of jobs in the system, integrated over time.
        horizon_s: What comes later does not count.
        average: Average number of jobs in the system: rewards are differential.
        fading_s: Time after which a cost counts by a factor e less.
    """
    times = np.minimum(np.asarray(times_s, np.float64), horizon_s)
    rate = np.diff(np.interp(times, times_s, costs)) / np.maximum(np.diff(times), 1e-12) - average
    faded = np.exp(-(times - times[0]) / fading_s)
    pieces = rate * fading_s * (faded[:-1] - faded[1:])
    to_come = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
    return Curve(times, -to_come / faded)


def advantages(curves: Sequence[Curve], moments_s: Sequence[Numbers]) -> list[Floats]:
    """Return how much better each rollout went from each of its choices on than all of them did from that time on.

    Args:
        curves: Of rollouts that share their jobs and horizon.
        moments_s: Times of each rollout's choices.
    """
    return [
        curve.at(moments) - np.mean([other.at(moments) for other in curves], axis=0)
        for curve, moments in zip(curves, moments_s, strict=True)
    ]
