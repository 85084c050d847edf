"""Large traces are parsed once: their columns are kept on disk, by the content of the file.

The content is hashed every time, which takes about a second per gigabyte, so that nothing stale can be read. Where
nothing can be kept, traces are parsed in every process, and nothing else changes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._code.store import cache_root

LEAST_BYTES: Final = 4_000_000
"""Smaller files are parsed faster than it is worth."""

MOST_BYTES: Final = 4_000_000_000
"""Of all that is kept; what was read longest ago goes first."""

_FOLDER: Final = "traces-1"
"""Another number for another way to parse or to keep."""

Columns = Mapping[str, NDArray[Any]]


def content_digest(path: str) -> str:
    """Return the digest of a file's bytes: SHA-256, which processors have instructions for.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept(key: str) -> dict[str, NDArray[Any]] | None:
    """Return the columns that are kept under a key, mapped and not loaded; None if there are none that can be read."""
    root = cache_root()
    folder = None if root is None else root / _FOLDER / key
    if folder is None or not folder.is_dir():
        return None
    try:
        found = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")}
        folder.touch()
    except (OSError, ValueError, EOFError):  # damaged: parsed again, and kept anew
        return None
    return found


def keep(key: str, columns: Columns) -> None:
    """Keep columns under a key, whole or not at all; where the folder cannot be written, a warning says so."""
    root = cache_root()
    if root is None:
        return
    place = root / _FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".part-") as made:
            Path(made, "whole").mkdir()
            for name, column in columns.items():
                np.save(Path(made, "whole", f"{name}.npy"), column, allow_pickle=False)
            shutil.rmtree(place / key, ignore_errors=True)
            Path(made, "whole").rename(place / key)
        _make_room(place)
    except OSError as error:
        told = f"parsed traces cannot be kept in {place} ({error.strerror}): every process parses this one again"
        warnings.warn(told, UserWarning, stacklevel=2)


def _make_room(place: Path) -> None:
    folders = sorted((one for one in place.iterdir() if one.is_dir()), key=lambda one: -one.stat().st_mtime)
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > MOST_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
