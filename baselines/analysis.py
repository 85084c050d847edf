"""Why the numbers are what they are: prose around computed numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def analysis(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the section."""
    return ["## Why", "", ""]
