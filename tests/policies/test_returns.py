"""Returns against brute-force integrals, and baselines by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.policies.returns import Curve, advantages, return_curve

Floats = NDArray[np.float64]


def curve(times_s: list[float], jobs: list[float], horizon_s: float, average: float, fading_s: float) -> Curve:
    """Return the curve of a rollout with so many jobs in the system from each time on."""
    costs = [0.0, *np.cumsum(np.diff(times_s) * jobs).tolist()]
    return return_curve(times_s, costs, horizon_s, average, fading_s)


def integral(times: Floats, jobs: Floats, start: float, fading_s: float) -> float:
    """Return the fading cost from a time on, by summing small steps."""
    grid = np.linspace(start, times[-1], 200_001)
    middle = (grid[1:] + grid[:-1]) / 2
    rate = jobs[np.searchsorted(times, middle) - 1]
    return float((rate * np.exp(-(middle - start) / fading_s)).sum() * (grid[1] - grid[0]))


def test_returns_are_fading_costs_up_to_the_horizon() -> None:
    found = curve([0.0, 2.0, 5.0, 9.0], [1.0, 4.0, 2.0], 7.0, average=0.5, fading_s=3.0)
    assert found.times_s.tolist() == [0.0, 2.0, 5.0, 7.0]
    jobs = np.array([1.0, 4.0, 2.0]) - 0.5
    for time, value in zip(found.times_s, found.returns, strict=True):
        assert value == pytest.approx(-integral(found.times_s, jobs, time, 3.0), abs=1e-4)


@pytest.mark.parametrize("average", [0.0, 2.5])
def test_the_baseline_is_the_mean_at_the_same_time_and_the_average_cancels(average: float) -> None:
    times = [0.0, 2.0, 4.0, 6.0]
    fast = curve(times, [3.0, 1.0, 1.0], 6.0, average, 1e9)
    slow = curve(times, [3.0, 3.0, 2.0], 6.0, average, 1e9)
    gains = advantages([fast, slow], [[0.0, 2.0], [0.0, 2.0, 4.0]])
    np.testing.assert_allclose(gains[0], [3.0, 3.0], rtol=1e-6)  # returns of -10 and -16, so a mean of -13
    np.testing.assert_allclose(gains[1], [-3.0, -3.0, -1.0], rtol=1e-6)
