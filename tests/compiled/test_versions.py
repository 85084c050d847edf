"""Versions of Numba that nobody has tried are refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmsched_gym._code.versions import BEYOND, FIRST, check_numba
from llmsched_gym.errors import RunError


@pytest.mark.parametrize("version", ["0.60.0", "0.69.0", "0.69.0rc1", "1.0", "0.9.1"])
def test_untried_versions_are_refused(version: str) -> None:
    with pytest.raises(
        RunError, match=rf"numba {re.escape(version)} is installed; llmsched_gym needs numba>=0.61,<0.69"
    ):
        check_numba(version)


@pytest.mark.parametrize("version", ["0.61.0", "0.61.2", "0.68.1"])
def test_tried_ones_are_not(version: str) -> None:
    check_numba(version)


def test_the_range_is_that_of_the_package() -> None:
    first, beyond = (".".join(map(str, bound)) for bound in (FIRST, BEYOND))
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert f'"numba>={first},<{beyond}"' in project
