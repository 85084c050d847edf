"""Whole-file reads and atomic writes, with one-line errors.

Text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import secrets
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from llmsched_gym.errors import InputError, Plain

_GZIP: Final = b"\x1f\x8b"


def read_bytes(path: str | Path, what: str = "a readable file") -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        what: What it should be, for errors.

    Raises:
        InputError: It cannot be read, or is a device, which might never end.
    """
    with _open(path, what) as file:
        return file.read()


@contextmanager
def open_unpacked(path: str | Path, what: str) -> Generator[BinaryIO]:
    """Open a file that may be packed with gzip, which its first bytes tell, whatever its name.

    Args:
        path: The file.
        what: What it should be, for errors.

    Raises:
        InputError: As `read_bytes`, also while the file is read; or its gzip is cut short or changed.
    """
    with _open(path, what) as file:
        packed = file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        try:
            with gzip.GzipFile(fileobj=file) if packed else file as unpacked:
                yield cast(BinaryIO, unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(path, "", Plain("a gzip file that is cut short or changed"), "a whole one") from error


def file_state(path: str | Path, what: str) -> tuple[int, int, int]:
    """Return numbers that differ once a file has changed.

    Raises:
        InputError: There is no such file.
    """
    _check(path, what)
    try:
        state = Path(path).stat()
    except OSError as error:
        raise InputError(path, "", reason(error), what) from error
    return state.st_ino, state.st_size, state.st_mtime_ns


def _check(path: str | Path, what: str) -> None:
    if "\0" in str(path):
        raise InputError(path, "", Plain("no path"), what)


@contextmanager
def _open(path: str | Path, what: str) -> Generator[BufferedReader]:
    _check(path, what)
    try:
        if Path(path).is_char_device():
            raise InputError(path, "", Plain("a device"), what)
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise InputError(path, "", reason(error), what) from error


def read_text(path: str | Path, what: str) -> str:
    """Return the text of a file.

    Args:
        path: The file.
        what: What it should be, for errors.

    Raises:
        InputError: It cannot be read, or is not UTF-8.
    """
    return decode_text(path, read_bytes(path, what), what)


def decode_text(source: object, content: bytes, what: str) -> str:
    """Return the text that bytes hold.

    Args:
        source: Where they came from.
        content: The bytes.
        what: What it should be, for errors.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = "UTF-16 text" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "bytes that are no UTF-8"
        line = content[: error.start].count(b"\n") + 1
        raise InputError(source, f"line {line}", Plain(other), f"{what}, in UTF-8") from error
    if "\0" in text:  # UTF-16 without a byte order mark is UTF-8 with nulls
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(source, f"line {line}", Plain("a null character"), f"{what}, in UTF-8")
    return text


def read_json(path: str | Path, what: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        what: What it should be, for errors.

    Raises:
        InputError: As `read_text` and `parse_json`.
    """
    return parse_json(path, read_text(path, what), what)


def parse_json(source: object, text: str, what: str, line: int = 1) -> Any:
    """Return what a JSON text says; every key may stand once in an object.

    Args:
        source: Where it came from.
        text: The text.
        what: What it should be, for errors.
        line: The line of the source that it begins in.

    Raises:
        InputError: It is no JSON, a key stands twice in an object, or it cannot be held (depth, digits).
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _RepeatedKeyError:
        key, below = _repeated_key(text)
        raise InputError(
            source, f"line {line + below}", Plain(f"{key!r} twice"), "every key once in an object"
        ) from None
    except json.JSONDecodeError as error:
        found = Plain(f"no JSON ({error.msg})")
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        raise InputError(source, place, found, what) from None
    except RecursionError:
        raise InputError(source, f"line {line}", Plain("values nested too deeply"), what) from None
    except ValueError:
        raise InputError(source, f"line {line}", Plain("a number of too many digits"), what) from None


class _RepeatedKeyError(Exception):
    """A key stands twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _RepeatedKeyError
    return content


_TOKEN: Final = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|[{}\[\]]', re.DOTALL)
"""What tells the keys of a JSON text: texts, those before a colon being keys, and brackets."""


def _repeated_key(text: str) -> tuple[str, int]:
    """Return the first key of a JSON text that stands twice in its object, how many lines below its first."""
    keys: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            keys.append(set())
        elif token[0] in "]}":
            keys.pop()
        elif token["colon"]:
            key = json.loads(token["text"])
            if key in keys[-1]:
                return key, text.count("\n", 0, token.start())
            keys[-1].add(key)
    raise ValueError("no key stands twice")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if need be.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(path, "", Plain("a file"), "a folder") from None
    except OSError as error:
        raise InputError(path, "", reason(error), "a folder that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(path, "", Plain("permission denied"), "a folder that can be written")


def reason(error: OSError) -> Plain:
    """Return the system's words about what it could not do ("no such file or directory")."""
    if error.errno == errno.EISDIR:
        return Plain("a folder")
    text = error.strerror or type(error).__name__
    return Plain(text[:1].lower() + text[1:])


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never part of it.

    Raises:
        InputError: It cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        found = Plain("a folder" if target.is_dir() else "a device or pipe")
        raise InputError(path, "", found, "a file: it is replaced in one step")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(path, "", reason(error), "a path that can be written") from error
