"""Compiled code on disk: one file per function and combination of types, whole or not there.

Files are written elsewhere and moved to their place, carry a checksum, and are found by the digest of all that they
were compiled from, so that any number of processes, checkouts and versions share a folder. Where nothing can be
written, code goes to a temporary folder that lives as long as the first process that met this, and is shared with its
children; where that fails as well it stays in memory.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
import numpy as np

from llmsched_gym._code import interrupts

try:
    import fcntl
except ImportError:  # Windows: two processes may compile the same at the same time
    fcntl: Any = None

CACHE_VARIABLE: Final = "LLMSCHED_GYM_CACHE"
"""Names the folder for what is kept between processes."""

_SPARE_VARIABLE: Final = "_LLMSCHED_GYM_SPARE_CACHE"
"""Tells children where a process keeps code that cannot be kept in its place; empty: nowhere."""

_CHECKSUM: Final = 16
"""Bytes at the beginning of a file."""

_PASSING: Final = ".passing"
"""Folder of files that are being written, and of claims."""

_FORGOTTEN_S: Final = 3600.0
"""Age at which such files belong to nobody any more."""

_LOOK_S: Final = 0.05
"""Seconds between two looks whether a claim has been given up."""


def cache_root() -> Path | None:
    """Return the folder for what is kept between processes, made or not.

    It lies under ``LLMSCHED_GYM_CACHE``, else ``XDG_CACHE_HOME``, else ``~/.cache``; None for a user without a home.
    """
    given = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache").absolute() / "llmsched_gym"
    except RuntimeError:
        return None


def code_folder() -> Path | None:
    """Return the folder of the code that these versions of Python, Numba and NumPy make; None: there is no home."""
    root = cache_root()
    return None if root is None else root / _CODE


def folder_in_use() -> Path | None:
    """Return the folder that code is written to: the one above, or a temporary one; None where it stays in memory.

    The first time that nothing can be written to the one above, this says so on standard error.
    """
    if _SPARE_VARIABLE not in os.environ:
        folder = code_folder()
        try:
            prepare(folder)
        except OSError as error:
            _make_spare(folder, error)
        else:
            return folder
    return _spare()


def is_empty() -> bool:
    """Tell whether nothing has been kept yet."""
    for folder in filter(None, (code_folder(), _spare())):
        with suppress(OSError):
            if any(entry.name != _PASSING for entry in os.scandir(folder)):
                return False
    return True


def find(name: str) -> bytes | None:
    """Return what was kept under a name; a damaged file is removed."""
    for folder in (code_folder(), _spare()):
        if folder is None:
            continue
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError:
            continue
        body = content[_CHECKSUM:]
        if content[:_CHECKSUM] == _checksum(body):
            return body
        discard(name)
    return None


def holds(name: str) -> bool:
    """Tell whether there is something under a name."""
    return any(folder is not None and (folder / name).exists() for folder in (code_folder(), _spare()))


def discard(name: str) -> None:
    """Remove what was kept under a name."""
    for folder in (code_folder(), _spare()):
        if folder is not None:
            with suppress(OSError):
                (folder / name).unlink()


def keep(name: str, body: bytes) -> None:
    """Keep something under a name, if that is possible."""
    content = _checksum(body) + body
    while (folder := folder_in_use()) is not None:
        try:
            _write(folder, name, content)
        except OSError as error:  # it was possible before: the disk is full
            _make_spare(folder, error)
        else:
            return


@contextmanager
def claim(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let no other process make what belongs under a name meanwhile; one that is at it already is waited for.

    Args:
        name: As `find` takes it, or any other word.
        waiting: Called again and again while another process has the claim.
    """
    folder = folder_in_use()
    held = None if folder is None else _lock(folder / _PASSING / name.replace("/", "."), waiting)
    try:
        yield
    finally:
        if held is not None:
            path, descriptor = held
            with suppress(OSError):
                os.unlink(path)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may hold the file open
            os.close(descriptor)


def _lock(path: Path, waiting: Callable[[], None]) -> tuple[Path, int] | None:
    """Return a locked file and its descriptor; None where files cannot be locked."""
    if fcntl is None:
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else the one before has just removed it
                return path, descriptor
        except BlockingIOError:
            waiting()
            time.sleep(_LOOK_S)
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
        interrupts.let_through()


def prepare(folder: Path | None) -> None:
    """Make a folder ready to be written to, once per process.

    Raises:
        OSError: It cannot be.
    """
    if folder is None:
        raise FileNotFoundError
    if folder in _prepared:
        return
    passing = folder / _PASSING
    passing.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=passing).close()
    with os.scandir(passing) as entries:
        for entry in entries:
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime > _FORGOTTEN_S:
                    os.unlink(entry)
    _prepared.add(folder)


_prepared: set[Path] = set()


def _write(folder: Path, name: str, content: bytes) -> None:
    path, beside = folder / name, folder / _PASSING / f"{os.getpid()}-{os.urandom(8).hex()}"
    path.parent.mkdir(exist_ok=True)
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except BaseException:  # Ctrl-C as well
        with suppress(OSError):
            os.unlink(beside)
        raise


def _spare() -> Path | None:
    given = os.environ.get(_SPARE_VARIABLE)
    return Path(given) if given else None


def _make_spare(failed: Path | None, error: OSError) -> None:
    """Go on with a temporary folder where another one has failed, and in memory where this one has."""
    if _SPARE_VARIABLE in os.environ:
        os.environ[_SPARE_VARIABLE] = ""
        return
    try:
        spare = tempfile.mkdtemp(prefix="llmsched-gym-")
        prepare(Path(spare))
        os.environ[_SPARE_VARIABLE] = spare
        atexit.register(_remove, spare, os.getpid())
    except OSError:
        os.environ[_SPARE_VARIABLE] = ""
    where = "anywhere (no home folder)" if failed is None else f"in {failed.parent} ({error.strerror or error})"
    rest = f"the next start will compile again; {CACHE_VARIABLE} names another folder"
    print(f"llmsched_gym: compiled code cannot be kept {where}: {rest}", file=sys.stderr, flush=True)


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # a forked child has the same exit
        shutil.rmtree(folder, ignore_errors=True)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()


def _tools() -> str:
    """Digest of what turns functions into code, and code into files."""
    versions = (sys.version, sys.platform, numba.__version__, llvmlite.__version__, np.__version__)
    digest = hashlib.blake2b(repr(versions).encode(), digest_size=6)
    for name in ("dispatch.py", "identity.py", "libraries.py", "store.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


_CODE: Final = f"code-{_tools()}"
