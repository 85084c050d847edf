"""Features by (application, relevant evidence), so that evidence that recurs is not inferred again.

A hash table with linear probing in fixed arrays. When three quarters are full it forgets everything and starts anew:
results never depend on what it holds, and jobs that arrive later show the early stages' evidence again at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel


class EvidenceCache(NamedTuple):
    """A hash table.

    Attributes:
        apps: int32 (slots,) Application; -1 marks a free slot.
        keys: uint32 (slots, variables) Evidence, one word per variable.
        values: float64 (slots, width) What was stored.
        counts: int64 (3,) Used slots, hits, misses.
    """

    apps: NDArray[np.int32]
    keys: NDArray[np.uint32]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def __reduce__(self) -> tuple[Callable[..., EvidenceCache], tuple[int, int, int]]:
        """Pickle and copy an empty table of the same size: 36 MB that no result depends on stay where they are."""
        return make_cache, (self.keys.shape[1], self.values.shape[1], len(self.apps))


def make_cache(variables: int, width: int, slots: int = 1 << 15) -> EvidenceCache:
    """Allocate an empty cache.

    Args:
        variables: Variables of the largest application.
        width: Numbers stored per evidence.
        slots: A power of two.
    """
    return EvidenceCache(
        apps=np.full(slots, -1, dtype=np.int32),
        keys=np.zeros((slots, variables), dtype=np.uint32),
        values=np.zeros((slots, width)),
        counts=np.zeros(3, dtype=np.int64),
    )


@kernel
def find(cache: EvidenceCache, app: int, words: NDArray[np.uint32]) -> int:
    """Return the slot of this evidence; -1 if it is not there. Its numbers are ``cache.values[slot]``."""
    slot = _probe(cache, app, words)
    found = cache.apps[slot] >= 0
    cache.counts[1 if found else 2] += 1
    return slot if found else -1


@kernel
def claim(cache: EvidenceCache, app: int, words: NDArray[np.uint32]) -> int:
    """Return the slot of this evidence, made if need be, for the caller to fill ``cache.values[slot]``."""
    if 4 * cache.counts[0] >= 3 * len(cache.apps):
        cache.apps[:] = -1
        cache.counts[0] = 0
    slot = _probe(cache, app, words)
    if cache.apps[slot] < 0:
        cache.apps[slot] = app
        for v in range(len(words)):
            cache.keys[slot, v] = words[v]
        cache.counts[0] += 1
    return slot


@kernel
def _probe(cache: EvidenceCache, app: int, words: NDArray[np.uint32]) -> int:
    """Return the slot that holds the evidence, or the free one where it would go."""
    last = len(cache.apps) - 1
    slot = _hash(app, words) & last
    while cache.apps[slot] >= 0 and not _same(cache, slot, app, words):
        slot = (slot + 1) & last
    return slot


@kernel
def _hash(app: int, words: NDArray[np.uint32]) -> int:
    """Multiply and add in 64 bits: the upper half depends on every bit of the words."""
    value = np.uint64(app + 1)
    for word in words:
        value = (value ^ np.uint64(word)) * np.uint64(0x9E3779B97F4A7C15)
    return int(value >> np.uint64(32))


@kernel
def _same(cache: EvidenceCache, slot: int, app: int, words: NDArray[np.uint32]) -> bool:
    same = cache.apps[slot] == app
    for v in range(len(words)):
        same = same and cache.keys[slot, v] == words[v]
    return same
