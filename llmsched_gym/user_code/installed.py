"""Which files belong to Python, to installed packages or to this one, and which are a user's own."""

from __future__ import annotations

import site
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[1]
"""Folder of this package."""

_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})


def is_installed(file: Path) -> bool:
    """Tell whether a file is part of Python, of an installed package, or of this package.

    A package that is installed to be edited (``pip install -e``) lies in a user's folder and counts as the user's.
    """
    path = file.resolve()
    if not file.is_absolute() and not path.exists():  # "<string>", "<frozen importlib._bootstrap>"
        return True
    return not _FOLDERS.isdisjoint(path.parts) or any(path.is_relative_to(folder) for folder in _roots())


@lru_cache(maxsize=1)
def _roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = [*named, *site.getsitepackages(), site.getusersitepackages()]
    return (PACKAGE, *dict.fromkeys(Path(path).resolve() for path in found))
