"""Metrics of an episode against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.evaluation.metrics import episode_metrics, jain_index, mean


def test_jain_index_by_hand():
    assert jain_index([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain_index([4.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain_index([1.0, 3.0]) == pytest.approx(16 / 20)


def test_mean_is_correctly_rounded():
    assert mean([1e16, 1.0, -1e16]) == pytest.approx(1 / 3)


def test_row_of_a_small_episode():
    result = {
        "jct_s": np.array([1.0, 3.0, 8.0]),
        "slowdown": np.array([1.0, 3.0, 3.5]),
        "wait_s": np.array([0.0, 0.5, 1.0]),
        "app": np.array([0, 0, 2]),
        "makespan_s": 9.0,
        "longest_wait_s": 2.5,
        "llm_utilisation": 0.5,
        "regular_utilisation": 0.25,
        "prefix_hit_rate": 0.1,
        "preemptions": 1,
        "loads": 2,
        "load_s": 3.5,
        "moved_bytes": 7,
        "recomputed_tokens": 11,
        "skew": 1.5,
        "gpu_s": 12.5,
        "decisions": 4,
        "illegal_actions": 0,
        "hidden_candidates": 0,
        "digest": "ab",
    }
    row = episode_metrics(result, ["a", "b", "c"], np.array([1000, 2000, 3000, 100_000]))
    assert row["mean_jct_s"] == pytest.approx(4.0)
    assert row["p50_jct_s"] == pytest.approx(3.0)
    assert row["mean_jct_s_a"] == pytest.approx(2.0)
    assert row["mean_jct_s_b"] is None
    assert row["mean_jct_s_c"] == pytest.approx(8.0)
    assert row["mean_wait_s"] == pytest.approx(0.5)
    assert (row["loads"], row["load_s"], row["skew"]) == (2, 3.5, 1.5)
    assert (row["moved_bytes"], row["recomputed_tokens"]) == (7, 11)
    assert row["decision_us_p50"] == pytest.approx(2.5)
    assert row["jain_fairness"] == pytest.approx(7.5**2 / (3 * (1 + 9 + 3.5**2)))
    assert row["longest_wait_s"] == 2.5
    assert row["deadline_attainment"] == pytest.approx(2 / 3)  # three times its own path is just in time
    assert row["goodput_per_h"] == pytest.approx(2 * 3600 / 9)
    assert row["gpu_s"] == 12.5
    assert row["episode_digest"] == "ab"
