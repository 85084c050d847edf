"""Verdicts follow from numbers, and from nothing else."""

from __future__ import annotations

import pytest
from claims import Claim, above, below, count

from llmsched_gym.evaluation.statistics import Interval


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (Interval(15.0, 20.0, 25.0), "same size"),
        (Interval(6.0, 8.0, 9.0), "same order"),
        (Interval(0.5, 1.0, 1.5), "same sign"),
        (Interval(-1.0, 20.0, 41.0), "no difference"),
        (Interval(None, 20.0, None), "no difference"),
        (Interval(-4.0, -3.0, -2.0), "opposite sign"),
        (Interval(70.0, 80.0, 90.0), "same sign"),
    ],
)
def test_verdict(ours: Interval, verdict: str) -> None:
    """Sign by the interval, size by the estimate."""
    assert Claim("", (18.0, 18.0), ours).verdict == verdict


def test_below_and_above_are_paired_by_seed() -> None:
    """Rows may come in any order; a policy with twice the time is 100 % above and 50 % below."""
    times = {0: 10.0, 1: 14.0, 2: 30.0}
    rows = [{"policy": "slow", "seed": seed, "mean_jct_s": 2 * time} for seed, time in times.items()]
    rows += [{"policy": "fast", "seed": seed, "mean_jct_s": time} for seed, time in reversed(times.items())]
    assert below(rows, "fast", "slow").as_list() == pytest.approx([50.0, 50.0, 50.0])
    assert above(rows, "slow", "fast").as_list() == pytest.approx([100.0, 100.0, 100.0])


def test_count_lists_verdicts_best_first() -> None:
    """Verdicts that nothing got are left out."""
    none, size = Interval(-1.0, 0.0, 1.0), Interval(17.0, 18.0, 19.0)
    found = count(Claim("", (18.0, 18.0), ours) for ours in (none, size, none))
    assert list(found.items()) == [("same size", 1), ("no difference", 2)]
