"""The decorators of compiled functions. How they are compiled, and where their code is kept, is in `_code`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numba
import numpy as np

from llmsched_gym._code.dispatch import Kernel, config

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` in nopython mode, cached on disk, to work on arrays that its caller keeps alive.

    Numba would count references to every array that a function or a field access passes on. Those counters are atomic
    and made up nine tenths of the simulator's time, so they are off here: a kernel cannot make or return arrays,
    nor copy one slice to another (Numba then refuses to compile it: "NRT required but not enabled"). For that there
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


def direct(function: F, *examples: Any) -> F:
    """Return a kernel's machine code for arguments of the same types as `examples`.

    On every call of a kernel Numba finds out the types of its arguments, which costs 0.1 µs per array in a tuple: for
    the state of an episode more than many a kernel then takes. Here nothing is looked at any more, or checked:
    arguments of other types are misread. A caller keeps the result only for as long as its arrays stay of one type, and
    not where it may be pickled.
    """
    key = (function, *_kinds(examples))
    if key not in _direct:
        _direct[key] = cast(Any, function).compile(tuple(numba.typeof(example) for example in examples))
    return _direct[key]


_direct: dict[tuple[Any, ...], Any] = {}


def type_of(value: Any) -> Any:
    """Return the type of a value in compiled code, as `numba.typeof` does, for tuples of arrays much sooner."""
    key = tuple(_kinds((value,)))
    if key not in _types:
        _types[key] = numba.typeof(value)
    return _types[key]


_types: dict[tuple[Any, ...], Any] = {}


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
        elif hasattr(value, "_numba_type_"):
            yield value._numba_type_


def threaded_kernel(function: F) -> F:
    """Compile `function` as `kernel` does; other threads run meanwhile, so what it writes must be its own."""
    return _compile(function, _nrt=False, nogil=True)


def _compile(function: F, **options: Any) -> F:
    return function if config.DISABLE_JIT else cast(F, Kernel(function, options))
