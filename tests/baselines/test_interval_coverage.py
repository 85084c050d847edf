"""Coverage of intervals is measured on frozen seeds: what is taken for the truth, and that misses are counted."""

from __future__ import annotations

import interval_coverage
import numpy as np
import pytest
from interval_coverage import FROZEN, METRICS, coverage, false_ranks, measure, settings

from llmsched_gym.evaluation.statistics import Interval


def test_settings_are_large_and_pair_policies_with_one_reference() -> None:
    found = list(settings(FROZEN))
    assert len(found) >= 8
    for one in found:
        for policies in one.ratios.values():
            assert all(len(ratio) >= 20 and (ratio > 0).all() and np.ptp(ratio) > 0 for ratio in policies.values())
    assert {file for one in found for file in one.name.split(":")[:1]} >= {"decima.csv", "fate_hetero8.csv"}


def test_what_misses_the_truth_counts_as_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    ratio = np.exp(rng.normal(0.1, 0.2, size=40))
    assert coverage(ratio, 10, 200, rng) > 0.9
    monkeypatch.setattr(interval_coverage, "relative", lambda *_: Interval(1.0, 1.0, 1.0001))
    assert coverage(ratio, 10, 200, rng) == 0.0


def test_equal_policies_seldom_differ_in_rank() -> None:
    rng = np.random.default_rng(2)
    ratios = {f"policy {i}": np.exp(rng.normal(0.1 * i, 0.2, size=30)) for i in range(4)}
    assert false_ranks(ratios, 10, 100, rng) < 0.2


def test_rows_are_of_every_size_and_metric() -> None:
    rows = measure(FROZEN, [10], 4, 20)
    assert [(row["seeds"], row["metric"]) for row in rows] == [(10, metric) for metric in METRICS]
    assert all(80.0 <= row["coverage_pct"] <= 100.0 and row["pairs"] == 4 for row in rows)
