"""Observations that are returned to callers, and written to again once these have forgotten them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_KEPT: Final = 4
"""Most observations to remember. A learner usually holds the last one or two."""

_OURS: Final = 3
"""References to an array that nobody else holds: of its dictionary, of the loop over that, of the call that counts."""


class ReturnedArrays:
    """Dictionaries of arrays of the same names and shapes.

    To allocate and clear observations anew in every step takes time. Here an array whose only reference is ours is used
    again: views, tensors and infos that share its memory hold a reference too.

    Args:
        example: Shapes and types.
    """

    def __init__(self, example: Mapping[str, NDArray[Any]]) -> None:
        self._example = example
        self._kept: list[dict[str, NDArray[Any]]] = []

    def take(self) -> tuple[dict[str, NDArray[Any]], bool]:
        """Return arrays to fill, which nobody else holds, and whether they hold an earlier observation."""
        for arrays in self._kept:
            for array in arrays.values():
                if sys.getrefcount(array) != _OURS:
                    break
            else:
                return arrays, True
        arrays = {name: np.empty_like(array) for name, array in self._example.items()}
        if len(self._kept) < _KEPT:
            self._kept.append(arrays)
        return arrays, False
