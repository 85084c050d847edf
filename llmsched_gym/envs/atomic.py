"""Numbers that several threads add to at once, in compiled code."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_LINE: Final = 8
"""Numbers of 8 bytes in a cache line."""


def counters(count: int) -> NDArray[np.int64]:
    """Return that many zeros in the first column: each row has a cache line of its own."""
    return np.zeros((count, _LINE), np.int64)


def _pointer(context: Any, builder: Any, numbers_type: types.Array, numbers: Any, row: Any) -> Any:
    """Emit the pointer to the number in a row."""
    array = context.make_array(numbers_type)(context, builder, numbers)
    return cgutils.get_item_pointer(context, builder, numbers_type, array, [row, context.get_constant(types.intp, 0)])


def _emit_fetch_add(_: Any, numbers: types.Array, row: types.Integer, value: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(numbers, types.int64, types.int64), emit


def _emit_exchange(_: Any, numbers: types.Array, row: types.Integer, value: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("xchg", pointer, arguments[2], "seq_cst")

    return types.int64(numbers, types.int64, types.int64), emit


def _emit_fetch(_: Any, numbers: types.Array, row: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(numbers, types.int64), emit


fetch_add: Any = intrinsic(_emit_fetch_add)
"""``fetch_add(numbers, row, value)`` returns ``numbers[row, 0]`` and adds `value`: no other thread comes between."""

exchange: Any = intrinsic(_emit_exchange)
"""``exchange(numbers, row, value)`` returns ``numbers[row, 0]`` and sets it to `value`, likewise."""

fetch: Any = intrinsic(_emit_fetch)
"""``fetch(numbers, row)`` returns ``numbers[row, 0]`` as it is now, however often it is read in a loop."""
