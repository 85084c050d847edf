"""The decorators of compiled functions. How they are compiled, and where their code is kept, is in `_code`.

All that `_code` gains is time before the first step. It rests on inner parts of Numba, so it can be left out: with
`PLAIN_VARIABLE` Numba's own ``njit`` compiles, in every process anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

PLAIN_VARIABLE: Final = "LLMSCHED_GYM_PLAIN_NUMBA"
"""If it is set, Numba compiles as it does everywhere else, and no code is kept."""


def kernel(function: F) -> F:
    """Compile `function` in nopython mode, cached on disk, to work on arrays that its caller keeps alive.

    Numba would count references to every array that a function or a field access passes on. Those counters are atomic
    and cost time (benchmarks/README.md), so they are off here: a kernel cannot make or return arrays, nor copy one
    slice to another (Numba then refuses to compile it: "NRT required but not enabled"). For that there
    is `allocating_kernel`.
    """
    return _compile(function, _nrt=False)


def allocating_kernel(function: F) -> F:
    """Compile `function` as `kernel` does; it may make and return arrays."""
    return _compile(function)


def inlined_kernel(function: F) -> F:
    """Compile `function` as `kernel` does; its code goes into every kernel that calls it.

    A call hands over each array as seven numbers, and the state of an episode is made of dozens: in deep calls on the
    way of every decision that took a third of the time. It is meant for functions with one or two callers.
    """
    return _compile(function, _nrt=False, forceinline=True)


def bind(function: Callable[..., Any], *arguments: Any, others: tuple[Any, ...]) -> Callable[..., Any]:
    """Fix the first arguments of a kernel.

    On every call of a kernel Numba finds out the types of its arguments, which costs 0.1 µs per array in a tuple: for
    the state of an episode more than many a kernel then takes. Here that is done once, and the arrays are kept alive.

    Args:
        function: A kernel.
        arguments: Its first arguments.
        others: Examples of its other arguments.

    Returns:
        A function of the other arguments. Their types are not looked at again: they must be those of `others`. It
        cannot be pickled.
    """
    everything = (*arguments, *others)
    key = (function, *_kinds(everything))
    if key not in _compiled:
        _compiled[key] = cast(Any, function).compile(tuple(map(numba.typeof, everything)))
    return partial(_compiled[key], *arguments)


_compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}


def _kinds(values: tuple[Any, ...]) -> Iterator[Any]:
    """Yield all that the types of arguments depend on: `numba.typeof` itself takes 30 µs per record array."""
    for value in values:
        yield type(value)
        if isinstance(value, tuple):
            yield from _kinds(value)
        elif isinstance(value, np.ndarray):
            yield value.dtype
            yield value.ndim
            yield value.flags.num  # contiguous, aligned, writeable


def threaded_kernel(function: F) -> F:
    """Compile `function` as `kernel` does; other threads run meanwhile, so what it writes must be its own."""
    return _compile(function, _nrt=False, nogil=True)


def _compile(function: F, **options: Any) -> F:
    if cast(Any, config).DISABLE_JIT:
        return function
    if os.environ.get(PLAIN_VARIABLE):
        return cast(F, numba.njit(**options)(function))
    from llmsched_gym._code.dispatch import (
        Kernel,  # not before: with the switch nothing of Numba's inner parts is touched
    )

    return cast(F, Kernel(function, options))
