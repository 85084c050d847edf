"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import tyro

WRITTEN: Final = "written"
"""Marks the type of an option that names a file or folder to write."""


def _optional(metavar: str, aliases: tuple[str, ...] = ()) -> Any:
    """Describe an option that may be left out: hide that its default is None, which its help explains in words."""
    return tyro.conf.arg(metavar=metavar, aliases=aliases, help_behavior_hint="")


Output = Annotated[Path | None, _optional("PATH", ("-o",)), WRITTEN]
RequiredOutput = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH"), WRITTEN]
Pictures = Annotated[Path | None, _optional("FOLDER"), WRITTEN]
Picture = Annotated[Path | None, _optional("FILE"), WRITTEN]
Json = Annotated[bool, tyro.conf.arg(name="json", help_behavior_hint="")]
File = Annotated[Path | None, _optional("FILE")]
Text = Annotated[str | None, _optional("TEXT")]
Whole = Annotated[int | None, _optional("INT")]
Real = Annotated[float | None, _optional("FLOAT")]
