"""What a compiled function is made from, told from the function itself and everything that it refers to.

Numba's own cache looks at the file that holds a function, so a caller keeps running the old machine code of a callee
that was edited or upgraded in another file, and an edit of a comment costs a compilation. Here code is known by what it
was compiled from: its own instructions, the values of the globals in them, and the same of every function that it
calls, in whatever file that is. What cannot be told apart for certain has no identity, and is not kept.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final, cast

import numpy as np
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

_OURS: Final = __name__.partition(".")[0]
_INSTALLED: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    site.getusersitepackages(),
)
_PLAIN: Final = (bool, int, float, complex, str, bytes, np.generic, np.dtype, slice, type(None), type(Ellipsis))
_PLAIN_TYPES: Final = (types.Number, types.Boolean, types.NoneType, types.Array, types.Record, types.Literal)
_Intrinsic: Final = type(intrinsic(lambda context: None))


class Unknown(Exception):
    """Something that compiled code depends on cannot be told from others of its kind; says what."""


@cache
def code_identity(function: FunctionType) -> str:
    """Return a digest of everything in a function, and in all that it calls, that its compiled form depends on.

    It is taken once, so it should be asked for when the function is compiled: Numba, too, takes the values of globals
    as they are then.

    Raises:
        Unknown: It refers to something of which that cannot be told.
    """
    digest = hashlib.blake2b(digest_size=16)
    for piece in _Pieces().of_function(function):
        digest.update(piece.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def types_identity(arguments: tuple[types.Type, ...]) -> str:
    """Return what tells types of arguments apart, in this and every other process.

    Raises:
        Unknown: There is a type of which that cannot be told.
    """
    return "\0".join(_Pieces().of_types(arguments))


class _Pieces:
    """Walks through what code depends on. What it has met already it only names: functions may call each other."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}

    def of_function(self, function: FunctionType) -> Iterator[str]:
        if id(function) in self._met:
            yield f"again {self._met[id(function)]}"
            return
        self._met[id(function)] = len(self._met)
        yield f"function {function.__qualname__}"
        yield from self.of_value(function.__defaults__)
        yield from self.of_value(None if function.__kwdefaults__ is None else tuple(function.__kwdefaults__.items()))
        for cell in function.__closure__ or ():
            yield from self.of_value(cell.cell_contents)
        yield from self.of_code(function.__code__, function.__globals__, function.__doc__)

    def of_code(self, code: CodeType, names: dict[str, Any], doc: str | None = None) -> Iterator[str]:
        yield f"code {code.co_code.hex()} {code.co_exceptiontable.hex()} {code.co_argcount} {code.co_flags}"
        yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
        for position, constant in enumerate(code.co_consts):
            if isinstance(constant, CodeType):
                yield from self.of_code(constant, names)
            elif position or constant != doc:  # a docstring comes first, and is not compiled
                yield from self.of_value(constant)
        for name in code.co_names:
            if name in names:
                yield f"global {name}"
                try:
                    yield from self.of_value(names[name], code.co_names)
                except Unknown:  # unless it is a field that has the name of a global
                    if name in _globals_of(code):
                        raise

    def of_value(self, value: Any, attributes: tuple[str, ...] = ()) -> Iterator[str]:
        """Yield what tells a value from others.

        Args:
            value: A global, a constant, a default.
            attributes: What may be asked of it, if it is a module.
        """
        if isinstance(value, Dispatcher):
            yield f"compiled {sorted(value.targetoptions.items())!r}"
            yield from self.of_function(value.py_func)
        elif isinstance(value, _PLAIN):
            yield f"{type(value).__name__} {value!r}"
        elif isinstance(value, tuple | frozenset | range):
            parts = sorted(value, key=repr) if isinstance(value, frozenset) else value
            yield f"{type(value).__name__} {len(value)}"
            yield from self.of_fields(type(value))
            for part in parts:
                yield from self.of_value(part)
        elif isinstance(value, np.ndarray):
            yield f"array {value.dtype!r} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
        elif isinstance(value, ModuleType):
            yield from self.of_module(value, attributes)
        elif isinstance(value, type):
            yield from self.of_class(value)
        elif isinstance(value, Enum):
            yield f"member {value.name}"
            yield from self.of_class(type(value))
        elif isinstance(value, _Intrinsic):
            yield "intrinsic"
            yield from self.of_function(cast(Any, value)._defn)
        elif isinstance(value, FunctionType) and not _is_installed(value.__module__):
            yield from self.of_function(value)
        elif isinstance(value, FunctionType | BuiltinFunctionType | np.ufunc):
            yield _installed(getattr(value, "__module__", None) or "numpy", value.__name__)
        else:
            raise Unknown(f"a value of type {type(value).__name__}")

    def of_module(self, module: ModuleType, attributes: tuple[str, ...]) -> Iterator[str]:
        if _is_installed(module.__name__):
            yield _installed(module.__name__, "")
            return
        for name in attributes:
            if hasattr(module, name):
                yield f"attribute {name}"
                yield from self.of_value(getattr(module, name), attributes)

    def of_class(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__module__}.{kind.__qualname__}"
        if issubclass(kind, Enum):
            for name, member in kind.__members__.items():
                yield name
                yield from self.of_value(member.value)
        elif hasattr(kind, "_fields"):
            yield from self.of_fields(kind)
        elif not _is_installed(kind.__module__):
            raise Unknown(f"the class {kind.__qualname__}")
        else:
            yield _installed(kind.__module__, kind.__qualname__)

    def of_fields(self, kind: type) -> Iterator[str]:
        if hasattr(kind, "_fields"):
            yield f"fields {kind.__qualname__} {cast(Any, kind)._fields}"

    def of_types(self, kinds: tuple[types.Type, ...]) -> Iterator[str]:
        for kind in kinds:
            if isinstance(kind, types.Dispatcher):
                yield from self.of_value(kind.dispatcher)
            elif isinstance(kind, types.BaseTuple):
                yield f"{type(kind).__name__} {len(kind)}"
                yield from self.of_fields(getattr(kind, "instance_class", tuple))
                yield from self.of_types(tuple(cast(Any, kind)))
            elif isinstance(kind, types.EnumMember | types.EnumClass):
                yield type(kind).__name__
                yield from self.of_class(cast(Any, kind).instance_class)
            elif isinstance(kind, types.Omitted):
                yield "omitted"
                yield from self.of_value(kind.value)
            elif isinstance(kind, _PLAIN_TYPES):
                yield str(kind)
            elif isinstance(kind, types.Optional):
                yield "optional"
                yield from self.of_types((kind.type,))
            elif not _is_installed(type(kind).__module__):  # how it is laid out, its own module tells
                yield f"{kind} {Path(inspect.getfile(type(kind))).read_bytes()!r}"
            else:
                raise Unknown(f"an argument of type {kind}")


@cache
def _globals_of(code: CodeType) -> frozenset[str]:
    return frozenset(step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))


def _installed(module: str, name: str) -> str:
    """Name something that others ship, with the version of what holds it."""
    top = sys.modules.get(module.partition(".")[0])
    return f"{module}.{name} {getattr(top, '__version__', '')}"


@cache
def _is_installed(module: str) -> bool:
    """Tell whether a module belongs to Python or to what others ship, which changes only with its version."""
    top = module.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return top != _OURS and file is not None and file.startswith(_INSTALLED)
