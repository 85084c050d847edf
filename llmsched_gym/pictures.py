"""Names in pictures made by matplotlib: shown as they are, whatever their characters mean to it."""

from __future__ import annotations

from llmsched_gym.errors import escaped


def in_picture(name: str) -> str:
    """Return a name as a label: no formula between dollars, no line break, and never left out of a legend."""
    text = escaped(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
