"""The decorators of compiled functions, with an on-disk cache that cannot go stale.

Numba's own cache looks only at the file that holds a function, so a caller keeps running the old machine code of a
callee that was edited or upgraded in another file. Here the cache folder carries the digest of all files of this
package that hold compiled functions, or are imported by such files: any change of any of them starts a fresh folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config as _numba_config

config: Any = _numba_config
"""Numba sets the attributes of this module at run time, from the environment."""

_PACKAGE = Path(__file__).parent
_DECORATOR = re.compile(rb"^@(allocating_|inlined_|threaded_)?kernel", re.MULTILINE)
_IMPORT = re.compile(r"^ *from (llmsched_gym[.\w]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)

F = TypeVar("F", bound=Callable[..., Any])


def _compiled_sources() -> dict[str, bytes]:
    """Contents of the modules that hold compiled functions, and of all that these import from this package."""
    texts = {
        ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts): path.read_bytes()
        for path in _PACKAGE.rglob("*.py")
    }
    found: dict[str, bytes] = {}
    pending = [name for name, text in texts.items() if _DECORATOR.search(text)]
    while pending:
        name = pending.pop()
        if name in texts and name not in found:
            found[name] = texts[name]
            for module, names in _IMPORT.findall(texts[name].decode()):
                pending.append(module)
                pending.extend(f"{module}.{part}" for part in re.findall(r"\w+", names))
    return found


def _sources_digest() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, text in sorted(_compiled_sources().items()):
        digest.update(name.encode())
        digest.update(text)
    return digest.hexdigest()


def cache_dir() -> Path:
    """Folder of the compiled code of exactly these sources.

    It lies under ``LLMSCHED_GYM_CACHE``, else ``XDG_CACHE_HOME``, else ``~/.cache``.
    """
    root = os.environ.get("LLMSCHED_GYM_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "llmsched_gym" / f"numba-{_sources_digest()}"


_CACHE_DIR = str(cache_dir())


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
    way of every decision that took a third of the time. It is meant for functions with one or two callers. It cannot be
    called from Python.
    """
    return _compile(function, _nrt=False, inline="always")


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
    previous = config.CACHE_DIR
    config.CACHE_DIR = _CACHE_DIR
    try:
        return cast(F, cast(Any, numba).njit(cache=True, no_cfunc_wrapper=True, **options)(function))
    finally:
        config.CACHE_DIR = previous
