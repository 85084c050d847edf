"""No command writes over a file that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from llmsched_gym.cli.options import WRITTEN
from llmsched_gym.errors import InputError
from llmsched_gym.pictures import FORMATS


def check_overwriting(verb: Any) -> None:
    """Refuse an output that is, or a folder for outputs that holds in their place, a file which an option names.

    Args:
        verb: Options of a command. Those whose type is marked `WRITTEN` name outputs; what the command writes into a
            folder stands in its class attribute ``writes``. Every other option that is the path of a file is an input.

    Raises:
        InputError: An output is an input.
    """
    hints = get_type_hints(type(verb), include_extras=True)
    names = [field.name for field in dataclasses.fields(verb)]
    outputs = {name for name in names if WRITTEN in getattr(hints[name], "__metadata__", ())}
    written = {name: getattr(verb, name) for name in names if name in outputs and getattr(verb, name) is not None}
    inside = getattr(verb, "writes", ())
    paths = {
        name: [both for one in inside or ("",) for both in _with_twin(path / one)] for name, path in written.items()
    }
    if not any(path.exists() for listed in paths.values() for path in listed):
        return
    read = {name: list(_files(name, getattr(verb, name))) for name in names if name not in outputs}
    for name, listed in paths.items():
        refuse_overwriting(f"--{name}", listed, read)


def refuse_overwriting(output: str, written: Iterable[Path], read: Mapping[str, Iterable[Path]]) -> None:
    """Refuse to write over files that are read.

    Args:
        output: Option that says what is written.
        written: The files.
        read: By the option that names them, files that are read.

    Raises:
        InputError: A file is in both.
    """
    for path in written:
        for name, files in read.items():
            if path.is_file() and any(file.is_file() and path.samefile(file) for file in files):
                raise InputError(output, "", path, f"another path: {name.replace('_', '-')} reads that file")


def _with_twin(path: Path) -> list[Path]:
    """Return what is written for a path: of a picture, both files."""
    return [path.with_suffix(suffix) for suffix in FORMATS] if path.suffix in FORMATS else [path]


def _files(name: str, value: Any) -> Iterator[Path]:
    """Yield the files that the value of an option names."""
    if isinstance(value, tuple):
        for one in value:
            yield from _files(name, one)
    elif isinstance(value, Path):
        yield value
    elif isinstance(value, str):
        for part in {value, *value.split(",")}:  # policies: path.py:factory?parameters
            text = part.partition("?")[0]
            yield from map(Path, {text, text.rpartition(":")[0]} - {""})
    if name in ("scenario", "cluster") and isinstance(value, str | Path) and Path(value).is_file():
        from llmsched_gym.cluster.spec import load_cluster
        from llmsched_gym.scenario import files_named_in

        yield from load_cluster(value).profile_files if name == "cluster" else files_named_in(value)
