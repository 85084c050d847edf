"""Statistics against values worked out by hand and against their promised coverage."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from llmsched_gym.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    probability_of_improvement,
    ranks,
    reduction_pct,
    relative,
    stretch,
)


def average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis."""
    return values.mean(axis=-1)


def test_reduction_is_of_the_means_and_constant_ratio_has_no_width():
    baseline = np.array([10.0, 20.0, 40.0, 50.0])
    interval = reduction_pct(baseline, 0.75 * baseline)
    assert interval.as_list() == pytest.approx([25.0, 25.0, 25.0])


def test_pairing_removes_what_seeds_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(100, 30, size=12)
    better = shared - 1 + rng.normal(0, 0.2, size=12)
    assert reduction_pct(shared, better).excludes_zero
    assert not reduction_pct(shared, rng.permutation(better)).excludes_zero


def test_what_the_jobs_decide_cancels_relative_to_a_reference():
    rng = np.random.default_rng(2)
    jobs = np.exp(rng.normal(3.0, 1.0, size=20))
    fast, slow = 1.1 * jobs * rng.uniform(0.98, 1.02, 20), 1.2 * jobs * rng.uniform(0.98, 1.02, 20)
    near, far = relative(fast, jobs), relative(slow, jobs)
    assert near.high is not None
    assert far.low is not None
    assert near.mid == pytest.approx(1.1, rel=0.01)
    assert 1.09 < near.high < far.low < 1.2
    most, least = bootstrap(average, fast).high, bootstrap(average, slow).low
    assert most is not None
    assert least is not None
    assert least < most  # the means themselves cannot be told apart
    assert relative([2.0, 8.0], [1.0, 2.0]).mid == pytest.approx(np.sqrt(8.0))
    assert relative(jobs, jobs).as_list() == pytest.approx([1.0, 1.0, 1.0])


def test_reduction_does_not_depend_on_which_is_the_baseline():
    slow, fast = [20.0, 35.0, 180.0, 40.0, 22.0], [15.0, 20.0, 60.0, 25.0, 21.0]
    down, up = reduction_pct(slow, fast), reduction_pct(fast, slow)
    assert down.low is not None
    assert up.high is not None
    assert down.excludes_zero == up.excludes_zero
    assert 1 - down.low / 100 == pytest.approx(1 / (1 - up.high / 100))
    assert down.mid == pytest.approx(100 * (1 - 141 / 297))


def test_one_seed_gives_no_interval():
    interval = reduction_pct([10.0], [8.0])
    assert interval.low is None
    assert interval.mid == pytest.approx(20.0)
    assert interval.high is None
    assert not interval.excludes_zero


def test_repeated_measurements_are_one():
    assert reduction_pct([10.0] * 5, [8.0] * 5).as_list() == [None, pytest.approx(20.0), None]
    assert reduction_pct([10.0] * 5, [8.0, 8.0, 8.0, 8.0, 8.1]).low is not None


def test_intervals_are_reproducible():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert bootstrap(average, values) == bootstrap(average, values)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage_with_few_seeds_is_near_nominal(n: int):
    rng = np.random.default_rng(7)
    trials = 300
    hits = 0
    for _ in range(trials):
        interval = bootstrap(average, rng.normal(1.0, 1.0, size=n))
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 1.0 <= interval.high
    assert 0.91 <= hits / trials <= 0.985


@pytest.mark.parametrize("n", [2, 5, 31, 32, 200])
def test_stretch_makes_a_normal_bootstrap_a_student_interval(n: int):
    expected = np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975)
    assert stretch(n) == pytest.approx(expected, rel=2e-3)


def test_interquartile_mean_by_hand():
    assert interquartile_mean([1.0, 2.0, 3.0, 100.0]) == pytest.approx(2.5)
    assert interquartile_mean([5.0, 1.0, 3.0]) == pytest.approx(3.0)  # a quarter of three is none
    values = np.random.default_rng(3).normal(size=(4, 11))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=1))


def test_probability_of_improvement_by_hand():
    # pairs (1,2) (1,1) (3,2) (3,1): one better, one equal, two worse
    assert probability_of_improvement([1.0, 3.0], [2.0, 1.0]) == pytest.approx(1.5 / 4)


def test_ties_share_a_rank():
    rng = np.random.default_rng(5)
    base = rng.normal(50, 5, size=8)
    scores = {
        "slow": base * 2,
        "a": base,
        "b": base + rng.normal(0, 0.5, size=8),
        "same": base,
    }
    assert ranks({name: list(values) for name, values in scores.items()}) == {"slow": 4, "a": 1, "b": 1, "same": 1}
    assert ranks({"x": [1.0], "y": [2.0]}) == {"x": 1, "y": 1}


def test_samples_must_be_paired():
    with pytest.raises(ValueError, match="one length"):
        bootstrap(lambda a, b: a.mean(axis=-1) - b.mean(axis=-1), [1.0, 2.0], [1.0])
