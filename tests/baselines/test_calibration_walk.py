"""Walking through held-out jobs: what is predicted, and when."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from calibration import NOMINAL, Look, calibrate, held_out, looks

from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.cluster.latency import load_profile


@pytest.fixture(scope="module")
def walked() -> list[Look]:
    """Jobs of code generation."""
    return list(looks(held_out("code_generation", 30, 0)))


def test_first_look_sees_the_whole_job(walked: list[Look]) -> None:
    """Before anything ran, the truth is the job's whole work, and everybody expects the same."""
    workload = held_out("code_generation", 30, 0)
    work = task_work_ns(workload.tasks, load_profile("llama-2-7b-h100"))
    there = workload.stages["present"][workload.tasks["stage"]] == 1
    jobs = workload.stages["job"][workload.tasks["stage"]]
    totals = np.bincount(jobs[there], work[there], workload.n_jobs) * 1e-9
    first = [look for look in walked if look.finished == 0 and look.soft is None]
    np.testing.assert_allclose([look.truth_s for look in first], totals, rtol=1e-9)
    assert len({round(look.posterior_s, 9) for look in first}) == 1


def test_truth_falls_and_is_never_negative(walked: list[Look]) -> None:
    """Between two looks of a job only work passes."""
    for before, after in pairwise(walked):
        if after.finished > before.finished or after.soft is not None:
            assert after.truth_s <= before.truth_s + 1e-9
    assert min(look.truth_s for look in walked) > 0.0


def test_wider_intervals_cover_no_less(walked: list[Look]) -> None:
    """Intervals of one posterior are nested."""
    for look in walked:
        if look.soft is None:
            assert len(look.covered) == len(NOMINAL)
            assert list(look.covered) == sorted(look.covered)


def test_a_debugged_round_tells_about_the_next() -> None:
    """After the first failed round the profile of code generation beats the historical mean; rows add up."""
    rows = calibrate(60)
    mine = [row for row in rows if row["application"] == "code_generation" and row["kind"] == "between stages"]
    assert sum(row["looks"] for row in mine if row["finished"] == 0) == 60
    late = [row for row in mine if row["finished"] >= 3]
    errors = [sum(row[f"{name}_square_s2"] * row["looks"] for row in late) for name in ("posterior", "history")]
    assert errors[0] < errors[1]
    assert all(0 <= row["covered_0.9"] <= row["looks"] for row in mine)
