"""Whole-file reads and atomic writes, with one-line errors."""

from __future__ import annotations

import os
import secrets
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
    if target.exists() and not target.is_file() and not target.is_dir():
        raise InputError(path, "", "a device or pipe", "a file: it is replaced in one step")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(path, "", error.strerror or "unwritable", "a path that can be written") from error
