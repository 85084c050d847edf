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
        self._bytes = 0
        for shape, dtype in kinds:
            dtype = np.dtype(dtype)
            self._places.append((shape, dtype, self._bytes))
            self._bytes += -(-prod(shape) * dtype.itemsize // _CACHE_LINE) * _CACHE_LINE

    def zeros(self) -> list[NDArray[Any]]:
        """Return new arrays, filled with zeros."""
        memory = np.zeros(self._bytes, np.uint8)
        return [np.ndarray(shape, dtype, memory, start) for shape, dtype, start in self._places]
