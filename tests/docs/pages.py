"""The pages that users read, and the fenced blocks in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (
    *(
        ROOT / name
        for name in (
            "README.md",
            "CONTRIBUTING.md",
            "baselines/README.md",
            "benchmarks/README.md",
            "leaderboard/RULES.md",
        )
    ),
    *sorted((ROOT / "docs").glob("*.md")),
)
FOLDERS: Final = (
    "llmsched_gym",
    "agents",
    "baselines",
    "benchmarks",
    "configs",
    "docs",
    "tests",
    "requirements",
    "leaderboard",
)
"""Folders of the repository that pages name paths in."""

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: What stands behind the fence; empty for output.
        text: What is between the fences.
    """

    language: str
    text: str

    @property
    def file(self) -> str:
        """Name of the file that a block of Python is to be saved as; empty if none is named in its first line."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> list[str]:
        """The commands of a block for the shell, without comments, one string each."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """Return what stands between single backticks in a page, line breaks as spaces."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def name_of(page: Path) -> str:
    """Return the path of a page in the repository, for messages."""
    return page.relative_to(ROOT).as_posix()
