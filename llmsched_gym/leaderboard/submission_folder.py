"""The folder of a submission: which files may lie in it, and reading them without trusting any of them.

No file is followed anywhere, none is waited for, and none is read beyond its limit. What could hold code that runs when
it is opened (pickles, zip archives, ``.pt``) has no place in the list, and so is never opened at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.leaderboard.limits import (
    CODE_BYTES,
    FILES,
    LOCK_BYTES,
    MANIFEST_BYTES,
    PROSE_BYTES,
    RESULT_BYTES,
    TOTAL_BYTES,
)
from llmsched_gym.workloads.files import reason

MANIFEST: Final = "submission.json"
EPISODES: Final = "episodes.jsonl.xz"
WRITE_UP: Final = "README.md"
CODE: Final = "policy.py"
LOCK: Final = "requirements.lock"
VALIDATION: Final = "validation.json"
VERIFIED: Final = "verified.json"

NEEDED: Final = (MANIFEST, EPISODES, WRITE_UP)

UNLISTED: Final = frozenset((MANIFEST, WRITE_UP, VALIDATION, VERIFIED))
"""Files whose digest does not stand in ``submission.json``."""

MOST_BYTES: Final = {
    MANIFEST: MANIFEST_BYTES,
    EPISODES: TOTAL_BYTES,
    WRITE_UP: PROSE_BYTES,
    CODE: CODE_BYTES,
    LOCK: LOCK_BYTES,
    VALIDATION: RESULT_BYTES,
    VERIFIED: RESULT_BYTES,
}

_WEIGHTS: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}\.safetensors")
_ALLOWED: Final = f"{', '.join(MOST_BYTES)}, or small ASCII letters, digits, - and _ before .safetensors"


def is_weights(name: str) -> bool:
    """Tell whether a file holds weights, by its name."""
    return _WEIGHTS.fullmatch(name) is not None


def most_bytes(name: str) -> int | None:
    """Return how large a file of this name may be; None if there may be none."""
    return TOTAL_BYTES if is_weights(name) else MOST_BYTES.get(name)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; of very many only some.

    Raises:
        InputError: There is no such folder.
    """
    try:
        if folder.is_symlink() or not folder.is_dir():
            raise InputError(folder, "", _kind_of(folder.lstat().st_mode), "the folder of a submission")
        with os.scandir(folder) as entries:
            return sorted(entry.name for _, entry in zip(range(FILES + 1), entries, strict=False))
    except OSError as error:
        raise InputError(folder, "", reason(error), "the folder of a submission") from None


def check_folder(folder: Path) -> Iterator[InputError]:
    """Yield all that is wrong with which files lie in a folder, and how large they are; none is opened.

    Raises:
        InputError: There is no such folder.
    """
    names = names_in(folder)
    if len(names) > FILES:
        yield InputError(folder, "", Plain(f"more than {FILES} files"), f"at most {FILES}")
        return
    total = 0
    for name in names:
        most = most_bytes(name)
        found = (folder / name).lstat()
        if not stat.S_ISREG(found.st_mode):
            yield InputError(folder, name, _kind_of(found.st_mode), "files alone")
        elif found.st_nlink > 1:
            yield InputError(folder, name, Plain(f"a file of {found.st_nlink} names"), "files of one name (no links)")
        elif most is None:
            yield InputError(folder, name, Plain("a file that has no place here"), _ALLOWED)
        elif found.st_size > most:
            yield InputError(folder, name, Plain(f"{found.st_size} bytes"), f"at most {most} bytes")
        total += found.st_size
    if total > TOTAL_BYTES:
        yield InputError(folder, "", Plain(f"{total} bytes in all"), f"at most {TOTAL_BYTES} bytes")
    for name in NEEDED:
        if name not in names:
            yield InputError(folder, name, Plain("nothing"), "a file of this name")


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a file, if it is one and not too large.

    Args:
        path: The file; a link is not followed.
        most: Bytes.

    Raises:
        InputError: It cannot be read, is no file, or is larger.
    """
    try:
        # A pipe without a writer would be waited for, but for O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        found = Plain("a link") if path.is_symlink() else reason(error)
        raise InputError(path, "", found, "a file") from None
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise InputError(path, "", _kind_of(mode), "a file")
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(path, "", Plain(f"more than {most} bytes"), f"at most {most} bytes")
    return content


def file_digest(content: bytes) -> str:
    """Return the digest of a file as it stands in ``submission.json``."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _kind_of(mode: int) -> Plain:
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFREG: "a file",
    }
    return Plain(kinds.get(stat.S_IFMT(mode), "a device"))
