"""Kernels that must not allocate cannot; calls of machine code are made once per combination of types."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from numba.core.errors import NumbaError

from llmsched_gym._jit import allocating_kernel, bind, kernel


@kernel
def _double(values: np.ndarray) -> int:
    """Double integers in place; returns how many."""
    for i in range(len(values)):
        values[i] *= 2
    return len(values)


@kernel
def _refused(n: int) -> int:
    return len(np.zeros(n))


@allocating_kernel
def _squares(n: int) -> np.ndarray:
    result = np.zeros(n, np.int64)
    for i in range(n):
        result[i] = i * i
    return result


def test_kernels_work_on_the_arrays_of_their_caller() -> None:
    values = np.arange(5)
    before = sys.getrefcount(values)
    for _ in range(100):
        assert _double(values) == 5
        values //= 2
    assert values.tolist() == [0, 1, 2, 3, 4]
    assert sys.getrefcount(values) == before


def test_a_kernel_that_makes_arrays_is_refused_and_an_allocating_one_is_not() -> None:
    with pytest.raises(NumbaError, match="zeros"):
        _refused(3)
    assert _squares(4).tolist() == [0, 1, 4, 9]


def test_kernels_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(_double)) is _double
    assert len(pickle.dumps(_double)) < 100


@kernel
def total(pair: tuple[np.ndarray, np.ndarray], scale: int) -> float:
    return (pair[0].sum() + pair[1].sum()) * scale


def test_bound_kernels_keep_their_arrays_and_are_compiled_once_per_combination_of_types() -> None:
    floats, integers = np.arange(3.0), np.arange(4)
    call = bind(total, (floats, integers), others=(1,))
    del floats
    assert call(2) == 18.0
    signatures = list(total.signatures)  # pyright: ignore[reportFunctionMemberAccess]: a dispatcher
    assert bind(total, (integers * 1.5, integers), others=(7,))(2) == 30.0
    assert total.signatures == signatures  # pyright: ignore[reportFunctionMemberAccess]: a dispatcher
    assert bind(total, (integers, integers), others=(1,))(3) == 36
    assert len(total.signatures) == len(signatures) + 1  # pyright: ignore[reportFunctionMemberAccess]: a dispatcher
