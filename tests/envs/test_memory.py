"""Places for episodes: arrays keep their content, type and shape, and do not overlap."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.envs.memory import EpisodeMemory, room_for


def arrays(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    record = np.zeros(size, np.dtype([("a", "i8"), ("b", "i4")], align=True))
    record["a"], record["b"] = rng.integers(1000, size=size), rng.integers(1000, size=size)
    return [record, rng.random((size, 3)), rng.integers(100, size=5).astype(np.int32), np.zeros(0, np.int8)]


def test_copies_equal_what_was_copied() -> None:
    memory, rng = EpisodeMemory(), np.random.default_rng(0)
    originals = [arrays(rng, size) for size in (3, 100, 1, 50)]
    kept = []
    for row, given in enumerate(originals):
        place = memory.place(row, sum(map(room_for, given)))
        kept.append([place(array) for array in given])
    for given, copies in zip(originals, kept, strict=True):
        for array, copy in zip(given, copies, strict=True):
            assert copy.dtype == array.dtype
            assert copy.flags.c_contiguous
            assert copy.flags.aligned
            assert copy.flags.writeable
            assert copy.ctypes.data % 64 == 0 or not copy.size
            np.testing.assert_array_equal(copy, array)
    flat = [copy for copies in kept for copy in copies]
    for i, one in enumerate(flat):
        assert not any(np.shares_memory(one, other) for other in flat[i + 1 :])


@pytest.mark.parametrize(("second", "same"), [(100, True), (124, True), (200, False)])
def test_a_place_is_used_again_while_it_is_large_enough(second: int, same: bool) -> None:
    memory = EpisodeMemory()
    first = memory.place(0, 6400)(np.zeros(6400, np.uint8))
    other = memory.place(1, 64)(np.ones(64, np.uint8))
    again = memory.place(0, second * 64)(np.ones(second * 64, np.uint8))
    assert np.shares_memory(first, again) == same
    assert again.all()
    assert not np.shares_memory(other, again)


def test_an_episode_may_be_larger_than_what_is_asked_for_at_once() -> None:
    size = (1 << 26) + 1
    array = np.ones(size, np.uint8)
    copy = EpisodeMemory().place(0, room_for(array))(array)
    assert copy.all()
    assert len(copy) == size
