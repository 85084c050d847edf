"""Whether what environments return is the same, to the last bit and type."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_same(one: Any, other: Any) -> None:
    """Compare what both environments return, whatever it is made of."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other
