"""The versions of Numba whose inner parts `dispatch` builds on."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Final

from llmsched_gym.errors import RunError

FIRST: Final = (0, 61)
"""First version that the tests have passed with."""

BEYOND: Final = (0, 69)
"""First version that nobody has tried."""


def check_numba(installed: str | None = None) -> None:
    """Refuse a version of Numba that compiled functions might not work with, or not as they should.

    Args:
        installed: Its version; default: that of the package that is installed.

    Raises:
        RunError: It is not in the range of `pyproject.toml`.
    """
    installed = version("numba") if installed is None else installed
    major, minor = (int(part) for part in re.findall(r"\d+", installed)[:2])
    if not FIRST <= (major, minor) < BEYOND:
        first, beyond = (".".join(map(str, bound)) for bound in (FIRST, BEYOND))
        raise RunError(f"numba {installed} is installed; llmsched_gym needs numba>={first},<{beyond}")
