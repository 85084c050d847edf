"""Compiled inference against enumeration and against pgmpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import joint, pgmpy_network, random_masks, random_profile, variable
from numpy.testing import assert_allclose

from llmsched_gym.profiler.bank import make_bank, make_workspace
from llmsched_gym.profiler.inference import calibrate, condition
from llmsched_gym.profiler.profile import Profile

SEEDS = st.integers(0, 2**32 - 1)


def close_to_enumeration(profile: Profile, masks: np.ndarray) -> None:
    bank = make_bank([profile])
    work = make_workspace(bank, 2)
    table = joint(profile, masks)
    evidence = table.sum()
    assert calibrate(bank, 0, masks, work) == (evidence > 0)
    if evidence == 0:
        return
    assert_allclose(work.log_evidence[0], np.log(evidence), rtol=1e-9, atol=1e-9)
    for v in range(table.ndim):
        expected = table.sum(axis=tuple(a for a in range(table.ndim) if a != v)) / evidence
        assert_allclose(work.marginals[v, : len(expected)], expected, atol=1e-12)
        assert not work.marginals[v, len(expected) :].any()


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 8), st.sampled_from([0.0, 0.3, 0.6]))
def test_marginals_and_log_evidence_equal_enumeration(seed: int, variables: int, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, variables, 4, zeros=zeros)
    close_to_enumeration(profile, random_masks(profile, rng))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_evidence_of_any_kind_equals_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, 6, 4, zeros=0.4)
    close_to_enumeration(profile, rng.integers(0, 16, 6).astype(np.uint16))


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_posteriors_equal_pgmpy(seed: int) -> None:
    inference = pytest.importorskip("pgmpy.inference")

    rng = np.random.default_rng(seed)
    profile = random_profile(rng, 12, 5)
    masks = random_masks(profile, rng)
    whole = (masks & (masks - 1)) != 0
    masks[whole] = 0xFFFF  # pgmpy's evidence is one state per variable
    evidence = {f"v{v}": int(mask).bit_length() - 1 for v, mask in enumerate(masks) if mask != 0xFFFF}
    bank = make_bank([profile])
    work = make_workspace(bank, 2)
    assert calibrate(bank, 0, masks, work)
    elimination = inference.VariableElimination(pgmpy_network(profile))
    for v in range(12):
        if f"v{v}" not in evidence:
            query = elimination.query([f"v{v}"], evidence=evidence, show_progress=False)
            assert_allclose(work.marginals[v, : profile.states[v]], query.values, atol=1e-9)


def test_finished_stages_in_any_order_give_the_same_posterior() -> None:
    rng = np.random.default_rng(5)
    profile = random_profile(rng, 10, 5)
    final = random_masks(profile, rng)
    bank = make_bank([profile])
    results = []
    for _ in range(4):
        work, masks = make_workspace(bank, 2), np.full(10, 0xFFFF, dtype=np.uint16)
        for v in rng.permutation(10):
            masks[v] = final[v]
            assert calibrate(bank, 0, masks, work)
        results.append((work.marginals.tobytes(), work.log_evidence.tobytes()))
    assert len(set(results)) == 1


def test_applications_of_one_bank_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(6)
    profiles = [random_profile(rng, n, 4) for n in (3, 9, 6)]
    bank = make_bank(profiles)
    work = make_workspace(bank, 2)
    for app in (2, 0, 1, 2):
        masks = random_masks(profiles[app], rng)
        alone = make_bank([profiles[app]])
        apart = make_workspace(alone, 2)
        assert calibrate(bank, app, masks, work)
        assert calibrate(alone, 0, masks, apart)
        rows = slice(bank.first_variable[app], bank.first_variable[app + 1])
        assert (work.marginals[rows] == apart.marginals).all()


def test_impossible_evidence_is_given_up_in_steps() -> None:
    rng = np.random.default_rng(7)
    profile = random_profile(rng, 3, 4)
    stage = next(v for seed in range(99) if (v := variable("stage", 0, 4, np.random.default_rng(seed))).absent)
    table = np.zeros((4, 4))
    table[0, 0] = table[1, 1] = 1.0  # the second is there if and only if the first is
    table[2:, 1] = 1.0
    profile = Profile("pair", ("a", "b"), (stage, stage), ((), (0,)), (np.full(4, 0.25), table), profile.latency)
    bank = make_bank([profile])
    work = make_workspace(bank, 2)

    def level(*masks: int) -> int:
        return condition(bank, 0, np.array(masks, dtype=np.uint16), work)

    assert level(0b0010, 0b0011) == 0
    assert level(0b0010, 0b1100) == 1  # the running second stage has outlasted the only bin it has
    assert work.marginals[1].tolist()[:4] == [0.0, 1.0, 0.0, 0.0]
    assert level(0b0010, 0b0100) == 2  # finished in a bin never seen: only its presence counts
    assert work.marginals[0].tolist()[:4] == pytest.approx([0.0, 1 / 3, 1 / 3, 1 / 3])
    assert level(0b0010, 0b0001) == 3
    assert work.marginals[0].tolist()[:4] == pytest.approx([0.25] * 4)
