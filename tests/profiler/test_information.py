"""Entropies, mutual information and correlation against their definitions on enumerated joints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Floats, entropy_of, joint, random_masks, random_profile
from numpy.testing import assert_allclose

from llmsched_gym.profiler.bank import make_bank, make_workspace
from llmsched_gym.profiler.correlation import correlate
from llmsched_gym.profiler.inference import calibrate
from llmsched_gym.profiler.information import entropy, information, reduction, spread
from llmsched_gym.workloads.template import StageKind

SEEDS = st.integers(0, 2**32 - 1)
NO_LIMIT = 10**9


def marginal(table: Floats, *axes: int) -> Floats:
    return table.sum(axis=tuple(a for a in range(table.ndim) if a not in axes))


def test_a_spread_reaches_from_the_least_to_the_most_that_a_state_takes() -> None:
    """Whatever the order of the states: several short calls may take less than a long one."""
    bank = make_bank([random_profile(np.random.default_rng(0), 1, 5)])
    work = make_workspace(bank)
    assert bank.states[0] == 5
    bank.lows[0, :5] = [3.0, 1.0, 2.0, 4.0, 2.5]
    bank.highs[0, :5] = bank.lows[0, :5] + 1.0
    assert calibrate(bank, 0, np.array([0xFFFF], np.uint16), work)
    assert spread(bank, work, 0, 0.0) == 4.0


def contingency(pair: Floats) -> float:
    product = np.outer(pair.sum(axis=1), pair.sum(axis=0))
    return float((pair[product > 0] ** 2 / product[product > 0]).sum() - 1.0)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 8), st.sampled_from([0.0, 0.5]))
def test_entropy_and_information_equal_their_definitions(seed: int, variables: int, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, variables, 4, zeros=zeros)
    masks = random_masks(profile, rng)
    bank = make_bank([profile])
    work = make_workspace(bank)
    table = joint(profile, masks)
    table /= table.sum()
    assert calibrate(bank, 0, masks, work)
    for v in range(variables):
        own, others = entropy_of(marginal(table, v)), entropy_of(table.sum(axis=v))
        assert_allclose(entropy(bank, 0, v, work), own, atol=1e-10)
        assert_allclose(information(bank, 0, v, NO_LIMIT, work), own + others - entropy_of(table), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 1e-3, 0.05]))
def test_mean_square_contingency_equals_its_definition(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, 8, 4, in_degree=2, zeros=0.3)
    masks = random_masks(profile, rng)
    bank = make_bank([profile])
    work = make_workspace(bank)
    table = joint(profile, masks)
    table /= table.sum()
    assert calibrate(bank, 0, masks, work)
    for x in range(8):
        correlate(bank, 0, x, tolerance, work)
        for y in set(range(8)) - {x}:
            pair = marginal(table, x, y)
            expected = contingency(pair if x < y else pair.T)
            if expected > tolerance or work.correlation[y] > tolerance:
                assert_allclose(work.correlation[y], expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_information_is_never_negative_and_never_exceeds_the_entropy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, 10, 4, in_degree=2, zeros=0.2)
    bank = make_bank([profile])
    work = make_workspace(bank)
    assert calibrate(bank, 0, random_masks(profile, rng, 0.2), work)
    for v in range(10):
        for limit in (0, 1000):
            told, total, product = reduction(bank, 0, v, 0.05, 0.01, limit, work)
            assert 0.0 <= told <= entropy(bank, 0, v, work) + 1e-12
            assert total >= 0.0
            assert product >= 0.0


def test_sampling_stands_in_for_a_large_markov_blanket() -> None:
    rng = np.random.default_rng(1)
    profile = random_profile(rng, 9, 4, in_degree=2)
    bank = make_bank([profile])
    work = make_workspace(bank, 4096)
    assert calibrate(bank, 0, np.full(9, 0xFFFF, dtype=np.uint16), work)
    for v in range(9):
        assert information(bank, 0, v, 0, work) == pytest.approx(information(bank, 0, v, NO_LIMIT, work), abs=0.02)


def test_reduction_adds_up_and_multiplies_the_ranges_of_correlated_stages() -> None:
    profile = random_profile(np.random.default_rng(1), 7, 4)
    bank = make_bank([profile])
    work = make_workspace(bank)
    masks = np.full(7, 0xFFFF, dtype=np.uint16)
    table = joint(profile, masks)
    table /= table.sum()
    assert calibrate(bank, 0, masks, work)
    several = 0
    for x in range(7):
        told, total, product = reduction(bank, 0, x, 0.0, 0.001, NO_LIMIT, work)
        widths = []
        for y in set(range(7)) - {x}:
            pair = marginal(table, x, y)
            possible = np.flatnonzero(marginal(table, y) > 0)
            variable = profile.variables[y]
            width = variable.highs_s[possible[-1]] - variable.lows_s[possible[0]]
            if contingency(pair) > 0.001 and variable.kind is not StageKind.DYNAMIC and width > 0:
                widths.append(width)
        assert told == information(bank, 0, x, NO_LIMIT, work)
        assert total == pytest.approx(sum(widths))
        assert product == pytest.approx(np.prod(widths) if widths else 0.0)
        several += len(widths) > 1
    assert several


def test_a_finished_stage_tells_nothing_more() -> None:
    rng = np.random.default_rng(3)
    profile = random_profile(rng, 6, 4)
    bank = make_bank([profile])
    work = make_workspace(bank)
    masks = random_masks(profile, rng, 0.0)
    masks[2] = 1
    assert calibrate(bank, 0, masks, work)
    assert reduction(bank, 0, 2, 0.05, 0.01, NO_LIMIT, work) == (0.0, 0.0, 0.0)
    assert entropy(bank, 0, 2, work) == 0.0
