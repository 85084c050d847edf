"""The files of a policy as they go into a submission: its code as ``policy.py``, its weights, and a lock file."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.contestants import Contestant
from llmsched_gym.leaderboard.limits import CODE_BYTES, TOTAL_BYTES
from llmsched_gym.leaderboard.submission_folder import CODE, LOCK, is_weights, read_file

_ALWAYS: Final = ("llmsched-gym", "numpy", "numba")
"""Packages that results always depend on."""

_AS_IT_IS: Final = ',[]"'
"""Characters of parameters that need no escape."""


def packaged(specs: Sequence[str], contestants: Sequence[Contestant]) -> tuple[list[str], dict[str, bytes]]:
    """Return the policies as they are named in a submission, and the files that go into it.

    Args:
        specs: Policies, one per run, as the command line took them.
        contestants: The same, loaded.

    Raises:
        InputError: They are of several Python files, or weights cannot go into a submission.
    """
    files: dict[str, bytes] = {}
    renamed = [_renamed(spec, files) for spec in specs]
    versions = {name: version for one in contestants for name, version in one.packages.items()}
    files[LOCK] = _lock(versions).encode()
    return renamed, files


def left_out(contestants: Sequence[Contestant], files: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that decisions depend on and that do not go into the submission."""
    used = {name for one in contestants for name in one.files}
    return sorted(name for name in used if name.endswith(".py") and name not in files)[1:]


def _renamed(spec: str, files: dict[str, bytes]) -> str:
    name, mark, query = spec.partition("?")
    location, colon, factory = name.rpartition(":")
    if colon:
        if not location.endswith(".py"):
            raise InputError("policy", spec, Plain("a module"), "a policy that ships, or path.py:factory in one file")
        _add(files, CODE, read_file(Path(location).resolve(), CODE_BYTES), spec)
        name = f"{CODE}:{factory}"
    pairs = [(key, _weights(value, files, spec)) for key, value in parse_qsl(query, keep_blank_values=True)]
    return name + mark + urlencode(pairs, safe=_AS_IT_IS)


def _weights(value: str, files: dict[str, bytes], spec: str) -> str:
    """Return a parameter; if it names weights, they are put among the files, and it is their name there."""
    path = Path(value)
    if path.suffix in (".pt", ".pth", ".pkl", ".npz", ".npy", ".zip", ".bin"):
        raise InputError("policy", spec, value, "weights as .safetensors: no other kind is opened")
    if path.suffix != ".safetensors":
        return value
    name = re.sub(r"[^a-z0-9_.-]+", "_", path.name.lower())
    if not is_weights(name):
        raise InputError("policy", spec, path.name, "a name of at most 60 letters, digits, - and _")
    _add(files, name, read_file(path.resolve(), TOTAL_BYTES), spec)
    return name


def _add(files: dict[str, bytes], name: str, content: bytes, spec: str) -> None:
    if files.setdefault(name, content) != content:
        raise InputError("policy", spec, Plain(f"another {name}"), "one file of each name for all runs")


def _lock(packages: Mapping[str, str]) -> str:
    """Return the versions that results were made with, one a line."""
    found = {name: importlib.metadata.version(name) for name in _ALWAYS if _is_known(name)}
    found |= {name: version for name, version in packages.items() if re.fullmatch(r"[0-9A-Za-z.+!-]+", version)}
    lines = [f"{name.lower()}=={version}" for name, version in sorted(found.items())]
    return "\n".join([f"# Python {platform.python_version()}", *lines]) + "\n"


def _is_known(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
