"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

Output = Annotated[Path | None, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
RequiredOutput = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
Json = Annotated[bool, tyro.conf.arg(name="json")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT")]
"""Optional values: the metavar hides that None is their default."""
