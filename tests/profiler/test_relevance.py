"""Evidence that is left out of the cache's keys: nothing that is believed depends on it."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_profile
from numpy.typing import NDArray

from llmsched_gym.profiler.ancestral import draw_states
from llmsched_gym.profiler.cache import make_cache
from llmsched_gym.profiler.features import JOB_NUMBERS, LEVEL, VARIABLE_NUMBERS, Inference, infer, look_up
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.profiler import make_profiler
from llmsched_gym.profiler.relevance import write_relevant
from llmsched_gym.profiler.store import list_profiles, load_profile


def evidence(profile: Profile, rng: np.random.Generator, jobs: int, wrong: float) -> NDArray[np.uint16]:
    """Draw keys of jobs with their first variables known, others free or partly excluded; some states are wrong."""
    states = draw_states(profile, jobs, rng)
    any_states = rng.integers(0, profile.states, states.shape)
    states = np.where(rng.random(states.shape) < wrong, any_states, states)
    n = states.shape[1]
    known = np.arange(n) < rng.integers(1, n + 1, (jobs, 1))
    partly = (1 << states) | rng.integers(0, 1 << 16, states.shape)
    open_masks = np.where(rng.random(states.shape) < 0.3, partly, 0xFFFF) & ((1 << profile.states) - 1)
    calls = np.where(rng.random(states.shape) < 0.1, 3, 1)
    return np.hstack([np.where(known, 1 << states, open_masks), np.where(known, 0, calls)]).astype(np.uint16)


def features(inference: Inference, key: NDArray[np.uint16]) -> NDArray[np.float64]:
    """What is shown of a job with this evidence: its own numbers, and those of unfinished variables."""
    slot = look_up(inference, 0, key)
    if slot < 0:
        slot = infer(inference, 0, key)
    values, n = inference.cache.values[slot], len(key) // 2
    variables = values[JOB_NUMBERS : JOB_NUMBERS + n * VARIABLE_NUMBERS].reshape(n, VARIABLE_NUMBERS)
    return np.concatenate([values[:JOB_NUMBERS], variables[key[n:] > 0].ravel()])


def compare(profile: Profile, keys: NDArray[np.uint16]) -> tuple[int, set[int]]:
    """Compare a cache that all keys share with one for each; return how many slots it took, and the levels."""
    shared = make_profiler([profile]).inference
    levels = set()
    for key in keys:
        alone = shared._replace(cache=make_cache(shared.cache.keys.shape[1], shared.cache.values.shape[1], 4))
        expected = features(alone, key)
        levels.add(int(expected[LEVEL]))
        assert np.array_equal(features(shared, key), expected, equal_nan=True)
    return int(shared.cache.counts[0]), levels


@pytest.mark.parametrize("application", list_profiles())
def test_jobs_that_differ_only_in_what_is_left_out_have_the_same_posterior(application: str) -> None:
    profile = load_profile(application)
    keys = evidence(profile, np.random.default_rng(0), 200, 0.0)
    slots, levels = compare(profile, keys)
    assert slots < len(np.unique(keys, axis=0))
    assert levels == {0}


def test_evidence_that_cannot_be_is_not_mixed_up_with_evidence_that_can() -> None:
    levels: set[int] = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        profile = random_profile(rng, variables=7, most_states=3, in_degree=2, zeros=0.3)
        levels |= compare(profile, evidence(profile, rng, 150, 0.05))[1]
    assert levels >= {0, 2, 3}


def test_it_leaves_out_what_lies_behind_known_stages() -> None:
    profile = load_profile("code_generation")
    bank, n = make_profiler([profile]).inference.bank, len(profile.variables)
    states = draw_states(profile, 1, np.random.default_rng(0))[0]
    known = np.arange(n) < 12
    key = np.concatenate([np.where(known, 1 << states, (1 << profile.states) - 1), ~known]).astype(np.uint16)
    words = np.zeros(n, np.uint32)
    assert write_relevant(bank, 0, key, words)
    assert not words[:9].any()
    assert words[12:].all()
