"""What counts as a number, wherever one is given: in a file, as an argument, as an action or as a seed."""

from __future__ import annotations

import math

import numpy as np


def whole_number(value: object) -> int | None:
    """Return a whole number as a Python one: an int or NumPy integer, also as an array without dimensions.

    Everything else gives None: True and False, numbers that could have a fraction (3.0), and text are no whole numbers.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | np.integer) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu"
    ):
        return int(value)
    return None


def real_number(value: object) -> float | None:
    """Return a finite number as a float: a `whole_number`, or a float of Python or NumPy; None for everything else."""
    whole = whole_number(value)
    if whole is None and not isinstance(value, float | np.floating):
        return None
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
