"""Inference on the networks that ship: against pgmpy's variable elimination, and what must hold of information."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pgmpy_network, random_masks
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from llmsched_gym.profiler.bank import ProfileBank, Workspace, make_workspace
from llmsched_gym.profiler.features import ENUMERATED
from llmsched_gym.profiler.inference import calibrate
from llmsched_gym.profiler.information import entropy, information
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.profiler import shipped_profiler
from llmsched_gym.profiler.store import list_profiles

SEEDS = st.integers(0, 2**32 - 1)
EVERYTHING = 0xFFFF


@cache
def shipped(application: str) -> tuple[Profile, ProfileBank, int, Workspace]:
    """A shipped profile, the bank of all, its index there, and a workspace."""
    profiler = shipped_profiler()
    bank = profiler.inference.bank
    return profiler.profiles[application], bank, list(profiler.profiles).index(application), make_workspace(bank)


@cache
def elimination(application: str) -> Any:
    """The same network in pgmpy."""
    inference = pytest.importorskip("pgmpy.inference")
    return inference.VariableElimination(pgmpy_network(shipped(application)[0]))


def posteriors(application: str, masks: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Ours, of all variables: (variables, MAX_STATES)."""
    _, bank, app, work = shipped(application)
    assert calibrate(bank, app, masks, work)
    return work.marginals[bank.first_variable[app] : bank.first_variable[app + 1]].copy()


@pytest.mark.parametrize("application", list_profiles())
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, known=st.sampled_from([0.05, 0.2, 0.4]))
def test_posteriors_under_hard_and_soft_evidence_equal_pgmpy(application: str, seed: int, known: float) -> None:
    """Finished stages are pgmpy's evidence, states excluded by running ones its virtual evidence."""
    cpd = pytest.importorskip("pgmpy.factors.discrete").TabularCPD
    profile = shipped(application)[0]
    rng = np.random.default_rng(seed)
    masks = random_masks(profile, rng, known)
    own = posteriors(application, masks)
    states = profile.states.tolist()
    hard: dict[str, int] = {}
    soft: list[Any] = []
    for v, (mask, count) in enumerate(zip(masks.tolist(), states, strict=True)):
        allowed = [mask >> state & 1 for state in range(count)]
        if sum(allowed) == 1:
            hard[f"v{v}"] = allowed.index(1)
        elif sum(allowed) < count:
            soft.append(cpd(f"v{v}", count, [[float(one)] for one in allowed]))
    open_ones = [v for v in range(len(states)) if f"v{v}" not in hard]
    for v in rng.permutation(open_ones)[:2].tolist():
        answer = elimination(application).query([f"v{v}"], hard, soft, show_progress=False)
        assert_allclose(own[v, : states[v]], answer.values, atol=1e-9)


@pytest.mark.parametrize("application", list_profiles())
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_evidence_may_come_in_any_order(application: str, seed: int) -> None:
    profile = shipped(application)[0]
    rng = np.random.default_rng(seed)
    final = random_masks(profile, rng)
    results = set()
    for _ in range(3):
        masks = np.full(len(final), EVERYTHING, np.uint16)
        for v in rng.permutation(len(final)):
            masks[v] = final[v]
            posteriors(application, masks)
        results.add(posteriors(application, masks).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("application", list_profiles())
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_information_is_neither_negative_nor_more_than_entropy(application: str, seed: int) -> None:
    profile, bank, app, work = shipped(application)
    assert calibrate(bank, app, random_masks(profile, np.random.default_rng(seed), 0.2), work)
    for v in range(len(profile.variables)):
        told = information(bank, app, v, ENUMERATED, work)
        assert 0.0 <= told <= entropy(bank, app, v, work)
