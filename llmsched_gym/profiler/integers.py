"""Integers of one width in compiled code.

A compiled function is compiled again for every combination of its arguments' types, and with it all functions that it
calls. What is read from an int32 array has another type than a counter, and 0 has a type of its own: where a function
gets both, they are brought to the same type first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from llmsched_gym._jit import kernel


@kernel
def wide(value: Any) -> int:
    """Return an integer in 64 bits, whose type does not depend on its value."""
    return int(np.int64(value))


def _emit_lowest_bit(_: Any, value: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.int64(types.int64), emit


lowest_bit: Any = intrinsic(_emit_lowest_bit)
"""``lowest_bit(mask)``: the number of the lowest bit that is set in 64 bits; 64 if there is none."""
