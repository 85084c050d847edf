"""Integers of one width in compiled code.

A compiled function is compiled again for every combination of its arguments' types, and with it all functions that it
calls. What is read from an int32 array has another type than a counter, and 0 has a type of its own: where a function
gets both, they are brought to the same type first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmsched_gym._jit import kernel


@kernel
def wide(value: Any) -> int:
    """Return an integer in 64 bits, whose type does not depend on its value."""
    return int(np.int64(value))
