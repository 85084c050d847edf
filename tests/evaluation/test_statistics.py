"""Statistics against values worked out by hand and against their promised coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmsched_gym.evaluation.statistics import (
    LEVEL,
    chance_of_no_difference,
    geometric_mean,
    holm,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    ranks,
    reduction_pct,
    relative,
)
from llmsched_gym.evaluation.student import outside, two_sided_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 30, 199])
def test_student_agrees_with_a_library(freedom: int):
    for t in (0.0, 0.3, 1.0, 2.5, 7.0):
        assert outside(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9, abs=1e-14)
    for level in (0.5, 0.05, 0.001):
        assert two_sided_quantile(level, freedom) == pytest.approx(stats.t.isf(level / 2, freedom), rel=1e-9)


def test_reduction_is_the_geometric_mean_and_constant_ratio_has_no_width():
    baseline = np.array([10.0, 20.0, 40.0, 50.0])
    assert reduction_pct(baseline, 0.75 * baseline).as_list() == pytest.approx([25.0, 25.0, 25.0])
    assert reduction_pct([10.0, 100.0], [5.0, 80.0]).mid == pytest.approx(100 * (1 - np.sqrt(0.5 * 0.8)))


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
    most, least = mean_interval(fast).high, mean_interval(slow).low
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


def test_one_seed_gives_no_interval():
    interval = reduction_pct([10.0], [8.0])
    assert interval.low is None
    assert interval.mid == pytest.approx(20.0)
    assert interval.high is None
    assert not interval.excludes_zero


def test_repeated_measurements_are_one():
    assert reduction_pct([10.0] * 5, [8.0] * 5).as_list() == [None, pytest.approx(20.0), None]
    assert reduction_pct([10.0] * 5, [8.0, 8.0, 8.0, 8.0, 8.1]).low is not None


def test_intervals_are_reproducible_and_never_narrower_than_students():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    found = mean_interval(values)
    assert found == mean_interval(values)
    assert found.high is not None
    plain = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert found.high >= plain[1]
    assert found.high - found.mid == pytest.approx(found.mid - (found.low or 0.0))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 20])
@pytest.mark.parametrize("skewed", [False, True])
def test_coverage_is_near_nominal(n: int, skewed: bool):
    """Skewed: now and then a seed whose ratio is far from the others', as where a queue runs away."""
    rng = np.random.default_rng(7)
    trials, hits = 1000, 0
    for _ in range(trials):
        values = rng.gamma(2.0, 1.0, size=n) if skewed else rng.normal(2.0, 1.0, size=n)
        interval = mean_interval(values)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 2.0 <= interval.high
    assert 0.93 - 0.02 * (n < 10) <= hits / trials <= 0.99


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 1.0])
def test_chance_and_interval_say_the_same(shift: float):
    rng = np.random.default_rng(9)
    for _ in range(40):
        values = rng.gamma(3.0, 1.0, size=10) - 3.0 + shift
        assert (chance_of_no_difference(values) < LEVEL) == mean_interval(values).excludes_zero


def test_chance_where_values_do_not_differ():
    assert chance_of_no_difference([0.0, 0.0, 0.0]) == 1.0
    assert chance_of_no_difference([0.1, 0.1, 0.1]) < 1e-9
    assert chance_of_no_difference([0.1]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # 0.03 > 0.05 / 2: neither it nor what follows
    assert holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert holm([0.02, 0.02, 0.02]) == [False, False, False]
    assert holm([]) == []


def test_interquartile_mean_by_hand():
    assert interquartile_mean([1.0, 2.0, 3.0, 100.0]) == pytest.approx(2.5)
    assert interquartile_mean([5.0, 1.0, 3.0]) == pytest.approx(3.0)  # a quarter of three is none
    values = np.random.default_rng(3).normal(size=(4, 11))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=1))


def test_probability_of_improvement_by_hand():
    # pairs (1,2) (1,1) (3,2) (3,1): one better, one equal, two worse
    assert probability_of_improvement([1.0, 3.0], [2.0, 1.0]) == pytest.approx(1.5 / 4)


def test_geometric_mean_by_hand():
    assert geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)


def test_ties_share_a_rank():
    rng = np.random.default_rng(5)
    base = rng.normal(50, 5, size=12)
    scores = {
        "slow": base * 2,
        "slower": base * 2.1 * rng.uniform(0.99, 1.01, size=12),
        "a": base,
        "b": base + rng.normal(0, 0.5, size=12),
        "same": base,
    }
    found = ranks({name: list(values) for name, values in scores.items()})
    assert found == {"a": 1, "b": 1, "same": 1, "slow": 4, "slower": 5}
    assert ranks({"x": [1.0], "y": [2.0]}) == {"x": 1, "y": 1}
    assert ranks({"x": [1.0, 1.0], "y": [2.0, 2.0]}) == {"x": 1, "y": 1}  # one pair that was repeated


def test_more_rivals_take_more_to_tell_apart():
    rng = np.random.default_rng(11)
    best = np.exp(rng.normal(0.0, 0.3, size=12))
    near = best * np.exp(rng.normal(0.05, 0.06, size=12))
    alone = ranks({"best": list(best), "near": list(near)})
    crowd = {f"rival {i}": list(best * np.exp(rng.normal(0.03, 0.1, size=12))) for i in range(20)}
    crowded = ranks({"best": list(best), "near": list(near), **crowd})
    assert (alone["near"], crowded["near"]) == (2, 1)


def test_samples_must_be_paired():
    with pytest.raises(ValueError, match="one length"):
        relative([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not empty"):
        mean_interval([])
