"""Compiled code is known by what it was made from, in whatever files that is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba.core.errors import NumbaWarning
from programs import COUNT, run

from llmsched_gym._code.identity import Unknown, code_identity, types_identity
from llmsched_gym._jit import kernel

OUTER = """
import math
import numpy as np
from llmsched_gym._jit import kernel
import inner
from inner import add, FAR, Pair, Colour, TABLE, plain

@kernel
def outer(x):
    pair = Pair(add(x), inner.twice(x))
    return pair.first + pair.second + FAR + Colour.RED + TABLE[0] + math.floor(2.5) + int(np.sqrt(4.0))

@kernel
def through(x):
    return outer(x)

@kernel
def of_nothing(x):
    return x
"""

INNER = """
from enum import IntEnum
from typing import NamedTuple
import numpy as np
from llmsched_gym._jit import inlined_kernel, kernel

FAR = 7
UNUSED = 1
TABLE = (1, 2)

class Colour(IntEnum):
    RED = 1
    BLUE = 2

class Pair(NamedTuple):
    first: int
    second: int

@kernel
def add(x):
    '''Add.'''
    return x + 1

@kernel
def twice(x):
    return 2 * x

@kernel
def apart(x):
    return x - 1

def plain(x):
    return x
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Give a function that imports the two modules above, each with something in it replaced."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(before: str = "", after: str = "") -> ModuleType:
        for name, text in (("inner", INNER), ("outer", OUTER)):
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(text.replace(before, after) if before else text)
        assert before in INNER + OUTER
        importlib.invalidate_caches()
        sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
        try:
            return importlib.import_module("outer")
        finally:
            sys.dont_write_bytecode = kept

    yield imported
    for name in ("inner", "outer"):
        sys.modules.pop(name, None)


def identities(module: ModuleType) -> dict[str, str]:
    return {name: code_identity(getattr(module, name).py_func) for name in ("outer", "through", "of_nothing")}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return x + 1", "return x + 2"),
        ("return 2 * x", "return 3 * x"),
        ("FAR = 7", "FAR = 8"),
        ("RED = 1", "RED = 3"),
        ("BLUE = 2", "BLUE = 3"),
        ("first: int\n    second: int", "second: int\n    first: int"),
        ("TABLE = (1, 2)", "TABLE = (3, 2)"),
        ("TABLE = (1, 2)", "TABLE = np.array([1, 2])"),
        ("FAR = 7", "FAR = 7.0"),
        ("@kernel\ndef add", "@inlined_kernel\ndef add"),
        ("math.floor(2.5)", "math.ceil(2.5)"),
    ],
)
def test_what_a_function_depends_on_is_in_its_identity(load: Any, before: str, after: str) -> None:
    as_it_was, edited = identities(load()), identities(load(before, after))
    assert edited["outer"] != as_it_was["outer"]
    assert edited["through"] != as_it_was["through"]
    assert edited["of_nothing"] == as_it_was["of_nothing"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return x - 1", "return x - 2"),  # of a function that nobody calls
        ("UNUSED = 1", "UNUSED = 2"),
        ("'''Add.'''", "'''Add one.'''"),
        ("@kernel\ndef add", "# a comment\n@kernel\ndef add"),
        ("def plain(x):\n    return x", "def plain(x):\n    return -x"),  # imported, and not used
        ("def add(x):", "def add(x: int) -> int:"),
    ],
)
def test_nothing_else_is(load: Any, before: str, after: str) -> None:
    assert identities(load(before, after)) == identities(load())


def test_what_cannot_be_told_has_none_and_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = object()

    @kernel
    def refers(x: int) -> bool:
        return x is odd

    with pytest.raises(Unknown, match="a value of type object"):
        code_identity(refers.py_func)  # pyright: ignore[reportFunctionMemberAccess]
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path))
    compiled: Any = refers
    with pytest.warns(NumbaWarning, match="refers is not kept: it depends on a value of type object"):
        assert compiled._name((numba.int64,)) is None


class First(NamedTuple):
    a: int
    b: int


class Second(NamedTuple):
    b: int
    a: int


class Size(IntEnum):
    SMALL = 1


def test_types_of_arguments_are_told_apart() -> None:
    records = np.zeros(2, [("a", "i8"), ("b", "f4")])
    other = np.zeros(2, [("a", "i8"), ("b", "f8")])
    read_only = np.zeros(2)
    read_only.flags.writeable = False
    values = [1, 1.5, True, None, np.zeros(2), read_only, np.zeros((2, 2))[:, 0], records, other, records[0], other[0]]
    values += [First(1, 2), Second(1, 2), (1, 2), (1, 2.0), ((1, 2), 3), (1, (2, 3)), Size.SMALL, np.float32(1)]
    seen = {types_identity((numba.typeof(value),)) for value in values}
    assert len(seen) == len(values)
    assert types_identity((numba.typeof(First(1, 2)),)) == types_identity((numba.typeof(First(3, 4)),))
    with pytest.raises(Unknown, match="an argument of type reflected list"):
        types_identity((numba.typeof([1]),))


def test_an_edit_reaches_callers_in_other_files_and_nobody_else(tmp_path: Path) -> None:
    """As a user meets it, with code on disk: what comes out is always of the sources as they are."""
    code = f"from outer import through, of_nothing\nprint(through(10), of_nothing(3)){COUNT}"
    (tmp_path / "outer.py").write_text(OUTER)
    results = []
    for before, after in (("", ""), ("return x - 1", "return x - 2"), ("return x + 1", "return x + 2"), ("", "")):
        (tmp_path / "inner.py").write_text(INNER.replace(before, after) if before else INNER)
        done = run(tmp_path, code, PYTHONDONTWRITEBYTECODE="1")
        assert done.returncode == 0, done.stderr
        results.append([int(word) for word in done.stdout.split()])
    first, same, edited, back = results
    assert first == [44, 3, 5]
    assert same == [44, 3, 0]
    assert edited == [45, 3, 3]  # through, outer and add; neither of_nothing nor twice
    assert back == [44, 3, 0]
