"""The evidence cache against a dict."""

from __future__ import annotations

import numpy as np

from llmsched_gym.profiler.cache import claim, find, make_cache


def test_it_finds_what_was_stored_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    cache, expected = make_cache(3, 1, 1 << 10), {}
    for number in range(600):
        app, words = int(rng.integers(2)), rng.integers(0, 9, 3).astype(np.uint32)
        known = expected.get((app, words.tobytes()))
        slot = find(cache, app, words)
        assert (slot >= 0) == (known is not None)
        if known is not None:
            assert cache.values[slot, 0] == known
        else:
            cache.values[claim(cache, app, words), 0] = number
            expected[app, words.tobytes()] = number
    assert cache.counts.tolist() == [len(expected), 600 - len(expected), len(expected)]


def test_a_full_table_starts_anew() -> None:
    cache = make_cache(1, 1, 8)
    keys = np.arange(1, 8, dtype=np.uint32).reshape(-1, 1)
    for key in keys[:6]:
        claim(cache, 0, key)
    assert all(find(cache, 0, key) >= 0 for key in keys[:6])
    claim(cache, 0, keys[6])
    assert find(cache, 0, keys[6]) >= 0
    assert all(find(cache, 0, key) < 0 for key in keys[:6])
