"""What is installed is told from what only has the name of a package."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.extras import is_installed


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "somepackage").mkdir()
    assert not is_installed("somepackage")
    assert not is_installed("no_such_package")
    (tmp_path / "otherpackage").mkdir()
    (tmp_path / "otherpackage" / "__init__.py").touch()
    assert is_installed("otherpackage")
    assert is_installed("numba")
