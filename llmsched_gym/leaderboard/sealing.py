"""Sealed instances: jobs whose seeds follow from a secret key, so that nobody can have seen them before.

The key stays with the maintainers. Its commitment is published first; once a suite is retired the key is, and everybody
can see that it is the one committed to, draw the same jobs, and check the tags of all verified results.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.leaderboard.submission_folder import read_file
from llmsched_gym.workloads.files import reason

_BYTES: Final = 32
_WHAT: Final = "a key: 64 hexadecimal digits, as `llmsched-gym leaderboard key new` writes them"


def new_key(path: Path) -> None:
    """Draw a key and write it to a file that its owner alone can read.

    Raises:
        InputError: Something is there already, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InputError(path, "", reason(error), "a path where a new file can be made") from None
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secrets.token_hex(_BYTES)}\n")


def read_key(path: Path) -> bytes:
    """Return a key.

    Raises:
        InputError: It is none, or others can read it.
    """
    content = read_file(path, 1000)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InputError(path, "mode", Plain("a key that others can read"), "a file of its owner alone (chmod 600)")
    if not re.fullmatch(rb"[0-9a-f]{64}\n?", content):
        raise InputError(path, "", Plain("something else"), _WHAT)
    return bytes.fromhex(content.decode())


def commitment(key: bytes) -> str:
    """Return what is published of a key before it is revealed: it fixes the key, and tells nothing of it."""
    return hashlib.sha256(b"llmsched_gym leaderboard key\0" + key).hexdigest()


def sealed_seeds(key: bytes, suite: str, scenario: str, count: int) -> tuple[int, ...]:
    """Return the seeds of a scenario's sealed instances, 63 bits each."""
    return tuple(
        int.from_bytes(_derived(key, "seed", suite, scenario, str(number))[:8], "little") >> 1
        for number in range(count)
    )


def tag(key: bytes, content: bytes) -> str:
    """Return the tag of a result: only who has the key can make it."""
    return _derived(key, "tag", hashlib.sha256(content).hexdigest()).hex()


def is_tag(key: bytes, content: bytes, given: str) -> bool:
    """Tell whether a result was made by who has the key, and is unchanged."""
    return hmac.compare_digest(tag(key, content), given)


def _derived(key: bytes, *words: str) -> bytes:
    return hmac.new(key, "\0".join(words).encode(), hashlib.sha256).digest()


def check_apart(path: Path, visible: Sequence[str]) -> None:
    """Check that a key lies where no policy can see it.

    Raises:
        InputError: It lies in what a sandbox shows.
    """
    place = os.path.realpath(path)
    if (above := next((one for one in visible if place.startswith(f"{os.path.realpath(one)}/")), None)) is not None:
        raise InputError(path, "", Plain(f"a key inside {above}, which policies can read"), "a key somewhere else")
