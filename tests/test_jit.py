"""Compiled code is cached by the digest of all sources, and kernels that must not allocate cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

import llmsched_gym
from llmsched_gym._jit import allocating_kernel, bind, cache_dir, kernel

PACKAGE = Path(llmsched_gym.__file__).parent
PROGRAM = """
from llmsched_gym import _jit
from llmsched_gym.pair import outer
print(outer(1), _jit.cache_dir())
"""
OUTER = """
from llmsched_gym._jit import kernel
from llmsched_gym.inner import inner

@kernel
def outer(x):
    return inner(x)
"""
INNER = """
from llmsched_gym._jit import kernel

@kernel
def inner(x):
    return x + {}
"""


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


def test_the_cache_goes_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("LLMSCHED_GYM_CACHE", raising=False)
    assert cache_dir().parent == tmp_path / "xdg" / "llmsched_gym"
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path / "own"))
    assert cache_dir().parent == tmp_path / "own" / "llmsched_gym"


def test_a_change_of_one_file_reaches_callers_in_others(tmp_path: Path) -> None:
    """With Numba's own cache, `outer` would keep the old code of `inner`: its own file has not changed."""
    package = tmp_path / "llmsched_gym"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(PACKAGE / "_jit.py", package)
    (package / "pair.py").write_text(OUTER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LLMSCHED_GYM_CACHE": str(tmp_path / "cache")}
    results, folders = [], []
    for turn, addend in enumerate((1, 1, 10)):
        (package / "inner.py").write_text(INNER.format(addend))
        (package / "plain.py").write_text(f"TURN = {turn}")  # not compiled: it must not cost a recompilation
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True, cwd=tmp_path
        )
        value, folder = run.stdout.split()
        results.append(int(value))
        folders.append(folder)
    assert results == [2, 2, 11]
    assert folders[0] == folders[1] != folders[2]
    assert list(Path(folders[0]).rglob("*.nbc"))


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
