"""Options that several verbs share, and what marks say of any option."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from llmsched_gym.numbers import real_number

WRITTEN: Final = "written"
"""Marks the type of an option that names a file or folder to write."""


@dataclass(frozen=True)
class Range:
    """Marks the type of an option with the numbers that it allows; every number among the options has one.

    Attributes:
        least: The least.
        most: The greatest.
        above: Whether numbers must be greater than `least`.
        below: Whether they must be less than `most`.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        """Tell whether a number is allowed."""
        inside = real_number(number) is not None and self.least <= number <= self.most
        return inside and not (self.above and number == self.least) and not (self.below and number == self.most)

    def __str__(self) -> str:
        """Say which numbers are allowed ("> 0 and <= 100")."""
        least, most = (f"{end}" if isinstance(end, int) else f"{end:g}" for end in (self.least, self.most))
        if not self.above and not self.below:
            return f"from {least} to {most}"
        return f"{'>' if self.above else '>='} {least} and {'<' if self.below else '<='} {most}"


def optional(metavar: str, aliases: tuple[str, ...] = ()) -> Any:
    """Describe an option that may be left out: hide that its default is None, which its help explains in words."""
    return tyro.conf.arg(metavar=metavar, aliases=aliases, help_behavior_hint="")


MOST_JOBS: Final = 1_000_000
MOST_SEED: Final = 2**63 - 1

Output = Annotated[Path | None, optional("PATH", ("-o",)), WRITTEN]
RequiredOutput = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH"), WRITTEN]
Pictures = Annotated[Path | None, optional("FOLDER"), WRITTEN]
Picture = Annotated[Path | None, optional("FILE"), WRITTEN]
Written = Annotated[Path | None, optional("FILE"), WRITTEN]
Json = Annotated[bool, tyro.conf.arg(name="json", help_behavior_hint="")]
File = Annotated[Path | None, optional("FILE")]
Text = Annotated[str | None, optional("TEXT")]
Seed = Annotated[int, Range(0, MOST_SEED)]
Jobs = Annotated[int | None, optional("INT"), Range(1, MOST_JOBS)]
Load = Annotated[float | None, optional("FLOAT"), Range(0, 100, above=True)]
Rate = Annotated[float | None, optional("FLOAT"), Range(1e-12, MOST_JOBS)]
TimeScale = Annotated[float, Range(1e-6, 1e6)]
Repeats = Annotated[int, Range(1, 1000)]
Workers = Annotated[int | None, optional("INT"), Range(1, 1024)]
Seconds = Annotated[float | None, optional("FLOAT"), Range(0, 1e6, above=True)]
Sequences = Annotated[int, Range(1, 2**20)]
BatchedTokens = Annotated[int, Range(1, 2**31 - 1)]
Blocks = Annotated[int, Range(1, 2**31 - 1)]
BlockSize = Annotated[int, Range(1, 1024)]
Watermark = Annotated[float, Range(0, 1, below=True)]
