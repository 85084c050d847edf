"""Compiled functions, made so that LLVM works on each of them once per entry from Python, not once per caller.

Numba optimises every function together with all that it calls, emits machine code for the whole, and wraps it for
callers in Python and in C. Where small functions call each other ten deep, nearly all of that is thrown away. Here a
function has two forms. What other compiled functions call is a `_Part`: LLVM's intermediate code of its own, neither
optimised as a whole nor emitted. What Python calls is a `Kernel`: its own code and all its parts, linked, optimised and
emitted together. Both are kept on disk (`store`), under what they were made from (`identity`).

This builds on inner parts of Numba; the range of versions in pyproject.toml is the one that the tests have seen.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from numba.core import config as _numba_config
from numba.core import event, serialize, sigutils, types
from numba.core.bytecode import FunctionIdentity
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler  # pyright: ignore[reportAttributeAccessIssue]
from numba.core.errors import NumbaWarning
from numba.core.registry import CPUDispatcher

from llmsched_gym._code import ahead, interrupts, store
from llmsched_gym._code.identity import Unknown, code_identity, types_identity
from llmsched_gym._code.libraries import Bitcode, Instructions
from llmsched_gym._code.progress import progress

config: Any = _numba_config
"""Numba sets the attributes of this module at run time, from the environment."""

_LEVEL: Final = 1
"""LLVM's optimisation level, unless NUMBA_OPT names one: 3 compiles half as long again, and the code is no faster."""

_SETTINGS: Final = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LLVM_REFPRUNE_PASS")
"""Settings of Numba's that its code depends on."""

_OURS: Final = f"{__name__.partition('.')[0]}."

# Numba numbers the functions of a process, and the number is all that tells apart two functions of one name, such as
# those that it makes for each kind of `sort`. Code of several processes is linked here: each counts from elsewhere.
FunctionIdentity._unique_ids = itertools.count(int.from_bytes(os.urandom(6)) << 20)


class _PartPipeline(Compiler):
    """Numba's compiler, with code that is only linked."""

    def compile_extra(self, func: Callable[..., Any]) -> CompileResult:
        """Compile a function."""
        self.state.library = Bitcode(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


class _KernelPipeline(Compiler):
    """Numba's compiler, with code that is only run."""

    def compile_extra(self, func: Callable[..., Any]) -> CompileResult:
        """Compile a function."""
        self.state.library = Instructions(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _PartCompiler(_FunctionCompiler):
    """Leaves out all that only callers from outside need."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = True
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True
        return flags


class Compiled(CPUDispatcher):
    """A function, compiled once per combination of types of its arguments, and kept on disk."""

    targetctx: Any
    _compiler: Any
    _library: type[Bitcode] | type[Instructions]

    def compile(self, sig: Any) -> Any:
        """Return the form for a signature: made before, or loaded, or made now."""
        arguments, _ = sigutils.normalize_signature(sig)
        found = self.overloads.get(tuple(arguments))
        if found is None:
            with interrupts.held_back(), global_compiler_lock, _level():
                found = self.overloads.get(tuple(arguments))
                if found is None:
                    found = self._obtain(tuple(arguments))
                    self.add_overload(found)
                    interrupts.let_through()
        return found.entry_point

    def _obtain(self, arguments: tuple[types.Type, ...]) -> CompileResult:
        name = self._name(arguments)
        if name is None:
            with _compiling():
                return self._make(arguments)
        found = self._load(name)
        if found is None:
            with _compiling() as outermost:
                if outermost and self.__module__.startswith(_OURS):
                    ahead.get_help(name)
                with store.claim(name, waiting=_say_so):
                    found = self._load(name)
                    if found is None:
                        found = self._make(arguments)
                        self._keep(name, found)
        return found

    def _name(self, arguments: tuple[types.Type, ...]) -> str | None:
        """Return the name that tells a form from all others, of whatever version; None where there is none."""
        function = self.py_func
        try:
            code, kinds = code_identity(function), types_identity(arguments)
        except Unknown as unknown:
            text = f"the code of {function.__module__}.{function.__qualname__} is not kept: it depends on {unknown}"
            warnings.warn_explicit(text, NumbaWarning, function.__code__.co_filename, function.__code__.co_firstlineno)
            return None
        settings = sorted(self.targetoptions.items()), [(name, getattr(config, name, None)) for name in _SETTINGS]
        parts = (code, kinds, settings, self.targetctx.codegen().magic_tuple())
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
        function_name = function.__qualname__.replace("<", "").replace(">", "")
        return f"{function.__module__}/{function_name}-{digest}{self._library.SUFFIX}"

    def _load(self, name: str) -> CompileResult | None:
        """Return a form that was kept, if it was."""
        self.targetctx.refresh()
        body = store.find(name)
        if body is None:
            return None
        try:
            packed, descriptor, environment, signature, annotation, reload_init, environments = pickle.loads(body)
            library = self._library.unpacked(self.targetctx.codegen(), *packed)
        except Exception:  # whatever reading what another process wrote may end with
            store.discard(name)
            return None
        for initialize in reload_init:
            initialize()
        return self._ready(
            CompileResult(
                typing_context=self.typingctx,
                target_context=self.targetctx,
                entry_point=None,
                typing_error=None,
                type_annotation=annotation,
                signature=signature,
                objectmode=False,
                lifted=(),
                fndesc=descriptor,
                library=library,
                call_helper=None,
                environment=environment,
                metadata=None,
                reload_init=reload_init,
                referenced_envs=environments,
            )
        )

    def _make(self, arguments: tuple[types.Type, ...]) -> CompileResult:
        data = {"dispatcher": self, "args": arguments, "return_type": None}
        with self._compiling_counter, event.trigger_event("numba:compile", data=data):
            made = self._compiler.compile(arguments, None)
        progress.functions += 1
        _say_so()
        return self._ready(made._replace(referenced_envs=tuple(made._find_referenced_environments())))

    def _keep(self, name: str, made: CompileResult) -> None:
        if made.library.has_dynamic_globals:  # addresses of this process
            return
        descriptor = made.fndesc
        descriptor.typemap = descriptor.calltypes = None  # as Numba does: large, and of no use any more
        rest = made.environment, made.signature, str(made.type_annotation), made.reload_init, made.referenced_envs
        try:
            body = serialize.dumps((made.library.packed(), descriptor, *rest))
        except (pickle.PicklingError, AttributeError, TypeError):  # types of arguments that only this process knows
            return
        store.keep(name, body)

    def _ready(self, made: CompileResult) -> CompileResult:
        """Return a form as its callers need it."""
        raise NotImplementedError


class _Part(Compiled):
    """A compiled function as other compiled functions call it."""

    _library = Bitcode

    def __init__(self, kernel: Kernel, options: dict[str, Any]) -> None:
        super().__init__(kernel.py_func, targetoptions=options, pipeline_class=_PartPipeline)
        self._compiler = _PartCompiler(kernel.py_func, self.targetdescr, options, {}, _PartPipeline)
        self._kernel = kernel

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name."""
        return getattr, (self._kernel, "part")

    def add_overload(self, cres: CompileResult) -> None:
        """Keep a form; nothing of it can be called from Python."""
        self.overloads[tuple(cres.signature.args)] = cres

    def _ready(self, made: CompileResult) -> CompileResult:
        made = made._replace(entry_point=object())  # what callers know it by
        self.targetctx.insert_user_function(made.entry_point, made.fndesc, [made.library])
        return made


class Kernel(Compiled):
    """A compiled function as Python calls it.

    Attributes:
        part: The same as compiled functions call it.

    Args:
        function: What to compile.
        options: Numba's options.
    """

    _library = Instructions

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        options = {"nopython": True, "boundscheck": None, "no_cfunc_wrapper": True, **options}
        super().__init__(function, targetoptions=options, pipeline_class=_KernelPipeline)
        self.part = _Part(self, options)
        # In compiled code the name of this object stands for its part.
        self.typingctx._remove_global(self)
        self.typingctx.insert_global(self, self.part._numba_type_)

    @property
    def _numba_type_(self) -> types.Dispatcher:
        return self.part._numba_type_

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        with interrupts.held_back():  # it looks for extensions of Numba's first
            return cast(Any, super())._compile_for_args(*args, **kws)

    def __reduce__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pickle by name, as functions are."""
        return self.py_func.__qualname__

    def _ready(self, made: CompileResult) -> CompileResult:
        entry_point = made.entry_point or self.targetctx.get_executable(made.library, made.fndesc, made.environment)
        for environment in made.referenced_envs:
            made.library.codegen.set_env(environment.env_name, environment)
        return made._replace(entry_point=entry_point)


@contextmanager
def _compiling() -> Iterator[bool]:
    """Count the time that is spent with compiling; tells whether it is not for a function that is being compiled."""
    outermost = not progress.running
    if outermost:
        progress.begin()
    try:
        yield outermost
    finally:
        if outermost:
            progress.end()


def _say_so() -> None:
    progress.show(store.folder_in_use())


@contextmanager
def _level() -> Iterator[None]:
    """Have LLVM optimise at our level, for as long as something of ours is compiled."""
    before = config.OPT
    if "NUMBA_OPT" not in os.environ:
        config.OPT = type(before)(_LEVEL)
    try:
        yield
    finally:
        config.OPT = before
