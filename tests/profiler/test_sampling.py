"""The remaining time: its mean is exact, its interval is the posterior's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import joint, random_masks, random_profile
from numpy.testing import assert_allclose

from llmsched_gym.profiler.bank import make_bank, make_workspace
from llmsched_gym.profiler.inference import calibrate
from llmsched_gym.profiler.profile import SLICES
from llmsched_gym.profiler.sampling import draw, remaining
from llmsched_gym.workloads.template import StageKind

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_mean_equals_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, 7, 4, zeros=0.3)
    masks = random_masks(profile, rng)
    bank = make_bank([profile])
    work = make_workspace(bank, 16)
    assert calibrate(bank, 0, masks, work)
    table = joint(profile, masks)
    table /= table.sum()
    unfinished = (rng.random(7) < 0.7).astype(np.uint16)
    expected = {StageKind.LLM: 0.0, StageKind.REGULAR: 0.0}
    for v in np.flatnonzero(unfinished):
        states = table.sum(axis=tuple(a for a in range(7) if a != v))
        expected[profile.variables[v].kind] += float(states @ profile.variables[v].means_s)
    llm, regular, low, high = remaining(bank, 0, unfinished, np.zeros(7), 0.9, work)
    assert_allclose([llm, regular], [expected[StageKind.LLM], expected[StageKind.REGULAR]], atol=1e-9)
    assert 0.0 <= low <= high


def test_samples_follow_the_posterior() -> None:
    rng = np.random.default_rng(3)
    profile = random_profile(rng, 6, 4, zeros=0.2)
    masks = random_masks(profile, rng, 0.1)
    bank = make_bank([profile])
    work = make_workspace(bank, 20_000)
    assert calibrate(bank, 0, masks, work)
    draw(bank, 0, work)
    table = joint(profile, masks)
    states = np.array([work.allowed[v, work.samples[v]] for v in range(6)])
    counts = np.zeros_like(table)
    np.add.at(counts, tuple(states), 1 / 20_000)
    assert counts[table == 0].sum() == 0
    assert_allclose(counts, table / table.sum(), atol=0.01)


def test_interval_covers_what_it_claims() -> None:
    rng = np.random.default_rng(4)
    profile = random_profile(rng, 8, 4)
    bank = make_bank([profile])
    work, reference = make_workspace(bank, 1024), make_workspace(bank, 20_000)
    masks, everything = np.full(8, 0xFFFF, dtype=np.uint16), np.ones(8, dtype=np.uint16)
    assert calibrate(bank, 0, masks, work)
    assert calibrate(bank, 0, masks, reference)
    remaining(bank, 0, everything, np.zeros(8), 0.9, reference)
    for interval in (0.5, 0.8, 0.9):
        _, _, low, high = remaining(bank, 0, everything, np.zeros(8), interval, work)
        covered = np.mean((reference.sums >= low) & (reference.sums <= high))
        assert covered == pytest.approx(interval, abs=0.04)


def test_mean_of_the_samples_is_the_exact_mean() -> None:
    rng = np.random.default_rng(5)
    profile = random_profile(rng, 8, 4)
    bank = make_bank([profile])
    work = make_workspace(bank, 20_000)
    elapsed = rng.random(8) * 2.0
    assert calibrate(bank, 0, np.full(8, 0xFFFF, dtype=np.uint16), work)
    for had in (np.zeros(8), elapsed):
        llm, regular, _, _ = remaining(bank, 0, np.ones(8, dtype=np.uint16), had, 0.9, work)
        assert work.sums.mean() == pytest.approx(llm + regular, rel=0.005)


def test_time_that_a_stage_has_had_counts() -> None:
    rng = np.random.default_rng(6)
    profile = random_profile(rng, 1, 1)
    bank = make_bank([profile])
    work = make_workspace(bank, 64)
    assert calibrate(bank, 0, np.ones(1, dtype=np.uint16), work)
    stage, one = profile.variables[0], np.ones(1, dtype=np.uint16)
    before = sum(remaining(bank, 0, one, np.zeros(1), 0.9, work)[:2])
    assert before == pytest.approx(stage.means_s[0])
    early = sum(remaining(bank, 0, one, stage.lows_s / 2, 0.9, work)[:2])
    assert early == pytest.approx(stage.means_s[0] - stage.lows_s[0] / 2)
    assert remaining(bank, 0, one, stage.highs_s + 1.0, 0.9, work) == (0.0, 0.0, 0.0, 0.0)
    assert remaining(bank, 0, 0 * one, np.zeros(1), 0.9, work) == (0.0, 0.0, 0.0, 0.0)


def test_calls_that_a_plan_holds_several_times_are_independent() -> None:
    """Their mean is that many times a call's, and their variance too."""
    rng = np.random.default_rng(8)
    profile = random_profile(rng, 1, 1)
    calls = np.sort(rng.exponential(5.0, SLICES))
    bank = make_bank([replace(profile, variables=(replace(profile.variables[0], calls_s=calls),))])
    work = make_workspace(bank, 4096)
    assert calibrate(bank, 0, np.ones(1, dtype=np.uint16), work)
    one = np.zeros(1)
    remaining(bank, 0, np.array([2], dtype=np.uint16), one, 0.9, work)
    mean, variance = work.sums.mean(), work.sums.var()
    assert mean == pytest.approx(calls.mean(), rel=0.02)
    for number in (2, 5):
        left = remaining(bank, 0, np.array([1 + number], dtype=np.uint16), one, 0.9, work)
        assert sum(left[:2]) == pytest.approx(number * calls.mean())
        assert work.sums.mean() == pytest.approx(number * mean, rel=0.001)
        assert work.sums.var() == pytest.approx(number * variance, rel=0.1)


def test_equal_evidence_gives_equal_intervals() -> None:
    rng = np.random.default_rng(7)
    profile = random_profile(rng, 8, 5)
    bank = make_bank([profile])
    masks = random_masks(profile, rng)
    results = set()
    work = make_workspace(bank, 128)
    for other in range(3):
        assert calibrate(bank, 0, random_masks(profile, np.random.default_rng(other)), work)
        assert calibrate(bank, 0, masks, work)
        results.add(remaining(bank, 0, np.ones(8, dtype=np.uint16), np.zeros(8), 0.9, work))
    assert len(results) == 1
