"""Whole-file reads and atomic writes, with one-line errors."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from llmsched_gym.errors import InputError


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, "", error.strerror or "unreadable", "a readable file") from error


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never part of it.

    Raises:
        InputError: It cannot be written.
    """
    target = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(path, "", error.strerror or "unwritable", "a path that can be written") from error


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
