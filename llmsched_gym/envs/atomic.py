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


def _emit_fetch_add(_: Any, numbers: types.Array, row: types.Integer, value: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers_type = signature.args[0]
        array = context.make_array(numbers_type)(context, builder, arguments[0])
        place = [arguments[1], context.get_constant(types.intp, 0)]
        pointer = cgutils.get_item_pointer(context, builder, numbers_type, array, place)
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(numbers, types.int64, types.int64), emit


fetch_add: Any = intrinsic(_emit_fetch_add)
"""``fetch_add(numbers, row, value)`` returns ``numbers[row, 0]`` and adds `value`: no other thread comes between."""
