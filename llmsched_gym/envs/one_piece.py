"""Arrays that lie in one piece of memory.

Large arrays one by one go back to the system when they are dropped, and are cleared by it when they come again. Small
ones lie on pages of their own, and many episodes then touch more pages than a processor keeps track of (its TLB); NumPy
asks for huge pages only where an allocation is large.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CACHE_LINE: Final = 64


class OnePiece:
    """Where arrays of given shapes and types lie in one piece of memory, each from the start of a cache line.

    Args:
        kinds: Shape and type of each.
    """

    def __init__(self, kinds: Iterable[tuple[tuple[int, ...], DTypeLike]]) -> None:
        self._places: list[tuple[tuple[int, ...], np.dtype[Any], int]] = []
        self._all: list[NDArray[Any] | None] = []  # arrays without elements are made once: there is nothing to share
        self._bytes = 0
        for shape, dtype in kinds:
            dtype, size = np.dtype(dtype), prod(shape)
            self._all.append(None if size else np.zeros(shape, dtype))
            if size:
                self._places.append((shape, dtype, self._bytes))
                self._bytes += -(-size * dtype.itemsize // _CACHE_LINE) * _CACHE_LINE

    def zeros(self) -> list[NDArray[Any]]:
        """Return new arrays, filled with zeros."""
        memory = np.zeros(self._bytes, np.uint8)
        made = iter([np.ndarray(shape, dtype, memory, start) for shape, dtype, start in self._places])
        return [next(made) if array is None else array for array in self._all]
