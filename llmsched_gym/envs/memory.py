"""Memory for the arrays of many episodes that are stepped in turn, laid out so that processors find them quickly.

Every step of a vector environment reads a little of each of its episodes, from some hundred places. In the usual pages
of 4 KiB these are more addresses than a processor remembers the translations of, and looking one up takes as long as
reading from memory. Here episodes lie in a few huge pages, where the system has them, and arrays begin at cache lines.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LINE: Final = 64
_SLAB: Final = 1 << 26
"""Bytes that are asked for at once. The system hands them out when they are first written to."""

_SPARE: Final = 1.25
"""Room for an episode, relative to the first one in its place: others have more tasks."""


class EpisodeMemory:
    """Places for episodes, one per sub-environment."""

    def __init__(self) -> None:
        self._slab = np.zeros(0, np.uint8)
        self._places: dict[int, NDArray[np.uint8]] = {}

    def place(self, row: int, size: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Make room for an episode; what was in its place before is lost.

        Args:
            row: Of the episode.
            size: Bytes of its arrays, as `room_for` counts them.

        Returns:
            A function that copies an array there and returns the copy.
        """
        if len(self._places.get(row, ())) < size:
            self._places[row] = self._cut(int(size * _SPARE))
        place, used = self._places[row], 0

        def keep(array: NDArray[Any]) -> NDArray[Any]:
            nonlocal used
            copy = place[used : used + array.nbytes]
            copy[:] = array.reshape(-1).view(np.uint8)  # bytes: records would be copied field by field
            used += room_for(array)
            return copy.view(array.dtype).reshape(array.shape)

        return keep

    def _cut(self, size: int) -> NDArray[np.uint8]:
        """Take a piece off the slab."""
        # An odd number of lines: if pieces were whole pages apart, equal places in them would compete for the same few
        # places in the cache.
        size = (-(-size // _LINE) | 1) * _LINE
        if len(self._slab) < size:
            self._slab = _huge_pages(max(size, _SLAB))
        piece, self._slab = self._slab[:size], self._slab[size:]
        return piece


def room_for(array: NDArray[Any]) -> int:
    """Return the bytes that an array takes up, to the end of its last cache line."""
    return -(-array.nbytes // _LINE) * _LINE


def _huge_pages(size: int) -> NDArray[np.uint8]:
    """Ask for memory in huge pages, where the system has such."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, np.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # pages that are shared stay small
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
