"""Colours of entries: those that pictures of the project have, moved as far as a light or a dark page asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmsched_gym.evaluation.policy_styles import PolicyStyle, policy_styles
from llmsched_gym.leaderboard.page.entries import Entry

LIGHT: Final = "#ffffff"
DARK: Final = "#15181c"
"""Backgrounds of the two schemes; `page.css` has the same."""

_CONTRAST: Final = 3.2
"""Lines have to stand out by 3 at least (WCAG 2.2, 1.4.11)."""

_STEPS: Final = 50


def styles_of(entries: Sequence[Entry]) -> dict[str, PolicyStyle]:
    """Return the look of each entry by its id: a policy that ships looks as in every picture of the project."""
    names: dict[str, str] = {}
    for entry in sorted(entries, key=lambda one: one.id):
        shipped = entry.submission.policy.specs[0].partition("?")[0].partition("+")[0]
        free = entry.submission.policy.ships and shipped not in names.values()
        names[entry.id] = shipped if free else f"entry {entry.id}"
    looks = policy_styles(names.values())
    return {entry: looks[name] for entry, name in names.items()}


def visible(colour: str, background: str) -> str:
    """Return a colour, mixed with black or white until it can be told from a background."""
    target = 0.0 if luminance(background) > 0.5 else 255.0
    channels = _channels(colour)
    for step in range(_STEPS + 1):
        mixed = [round(one + (target - one) * step / _STEPS) for one in channels]
        found = "#" + "".join(f"{one:02x}" for one in mixed)
        if contrast(found, background) >= _CONTRAST:
            return found
    raise ValueError(f"no colour can be told from {background}")


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, 0 to 1."""
    linear = [
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4
        for one in (channel / 255 for channel in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
