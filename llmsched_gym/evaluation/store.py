"""The folder of a comparison: one file per finished episode, so that an interrupted comparison loses nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads import files

FORMAT: Final = 1
"""Version of the files in the folder."""

_SETTING: Final = "setting.json"


class RunFolder:
    """Results of one setting: ``setting.json``, ``episodes/<policy>-<seed>.json`` and ``bounds/<seed>.json``.

    All files are written in one step. An episode file counts only if the source of its policy is unchanged, so results
    of different code never mix.

    Args:
        path: The folder; `claim` makes it if need be.
        setting: What `Setting.describe` returned.

    Raises:
        InputError: The folder holds results of another setting, or cannot be read.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self.path = path
        self._setting = expected = {"format": FORMAT, **setting}
        file = path / _SETTING
        if file.exists():
            found = read_json(file)
            difference = first_difference(found, expected)
            if difference is not None:
                raise _another_comparison(file, *difference)
        elif path.exists() and not path.is_dir():
            raise InputError(path, "", Plain("a file"), "a folder for the results")

    def claim(self) -> None:
        """Write down the setting, so that the folder is kept for it.

        Raises:
            InputError: The folder cannot be made or written.
        """
        write_json(self.path / _SETTING, self._setting)

    def episode_file(self, policy: str, seed: int, repetition: int = 0) -> Path:
        """Return the file of one episode; policies named by a path or with parameters get a digest of their name."""
        slug = re.sub(r"[^A-Za-z0-9_]+", "_", policy).strip("_")
        if slug != policy:
            slug = f"{slug[-40:]}_{hashlib.blake2b(policy.encode(), digest_size=4).hexdigest()}"
        again = f"-repetition-{repetition}" if repetition else ""
        return self.path / "episodes" / f"{slug}-{seed}{again}.json"

    def partial_file(self, policy: str, seed: int) -> Path:
        """Return the file of what has come of an episode that could not be finished."""
        return self.episode_file(policy, seed).with_suffix(".partial.json")

    def bound_file(self, seed: int) -> Path:
        """Return the file of the lower bound of one seed."""
        return self.path / "bounds" / f"{seed}.json"

    def find(self, file: Path, source: str) -> dict[str, Any] | None:
        """Return the content of a result file; None if there is none or the source that made it has changed.

        Raises:
            InputError: The file is damaged.
        """
        if not file.exists():
            return None
        content = read_json(file)
        if content.get("format") != FORMAT or "result" not in content:
            raise InputError(file, "format", content.get("format"), f"{FORMAT}; delete the file to compute it again")
        return content["result"] if content.get("source") == source else None

    def keep(self, file: Path, source: str, result: Mapping[str, Any]) -> None:
        """Write a result file."""
        write_text(file, json.dumps({"format": FORMAT, "source": source, "result": result}) + "\n")


def load_folder(path: Path, load: float) -> Path:
    """Return the folder, inside that of a comparison at several loads, of the results of one."""
    return path / f"load-{load:g}"


def check_loads(path: Path, settings: Sequence[Mapping[str, Any]]) -> None:
    """Check that a folder holds no other comparison, whether at one load or at several, before anything runs.

    At one load the results lie in the folder itself, at several in a `load_folder` each; loads may be added to several.

    Args:
        path: The folder; it need not exist.
        settings: What `Setting.describe` returned, per load.

    Raises:
        InputError: The folder holds results of another setting, or of the same one at one load instead of several.
    """
    below = sorted(path.glob(f"load-*/{_SETTING}"))
    held = [file for file in (path / _SETTING, *below) if file.exists()]
    expected = _apart_from_load({"format": FORMAT, **settings[0]})
    for file in held:
        difference = first_difference(_apart_from_load(read_json(file)), expected)
        if difference is not None:
            raise _another_comparison(file, *difference)
    several = len(settings) > 1
    if any((file in below) != several for file in held):
        there, here = ("one", "several") if several else ("several", "one")
        raise _another_comparison(path, "loads", there, here)


def _apart_from_load(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the loads of a comparison share of a setting, and what is known of it before servers run."""
    shared = {key: value for key, value in setting.items() if key != "served_by"}
    if isinstance(scenario := shared.get("scenario"), Mapping):
        shared["scenario"] = {key: value for key, value in scenario.items() if key != "load"}
    return shared


def _another_comparison(source: Path, field: str, there: Any, here: Any) -> InputError:
    allowed = f"{here!r} as asked for now: the folder holds another comparison; choose another -o"
    return InputError(source, field, there, allowed)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step, and its folder if need be.

    Raises:
        InputError: The path cannot be written.
    """
    files.make_folder(path.parent)
    files.write_atomic(path, text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an indented JSON file in one step.

    Raises:
        InputError: The path cannot be written.
    """
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InputError: It cannot be read, or is not a JSON object.
    """
    what = "a JSON object; delete the file to compute it again"
    content = files.read_json(path, what)
    if not isinstance(content, dict):
        raise InputError(path, "", content, what)
    return content


def first_difference(found: Any, expected: Any, field: str = "") -> tuple[str, Any, Any] | None:
    """Return (dotted field, value found, value expected) of the first difference of two JSON values; None if equal."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            difference = first_difference(found.get(key), expected.get(key), f"{field}.{key}".lstrip("."))
            if difference is not None:
                return difference
        return None
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, (a, b) in enumerate(zip(found, expected, strict=True)):
            difference = first_difference(a, b, f"{field}.{index}")
            if difference is not None:
                return difference
        return None
    return None if found == expected else (field, found, expected)
