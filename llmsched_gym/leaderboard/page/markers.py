"""Markers of curves as SVG paths, by the names that Matplotlib has for them; a colour alone tells nothing."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Final

from llmsched_gym.leaderboard.page.markup import number

_R: Final = 4.5

_POLYGONS: Final[dict[str, tuple[int, float]]] = {
    "^": (3, -90.0),
    "v": (3, 90.0),
    "<": (3, 180.0),
    ">": (3, 0.0),
    "s": (4, 45.0),
    "D": (4, 0.0),
    "p": (5, -90.0),
    "h": (6, -90.0),
    "H": (6, 0.0),
    "8": (8, 22.5),
    "o": (16, 0.0),
}
"""Corners, and the direction of the first in degrees; downwards is 90."""

_RAYS: Final = {"1": 90.0, "2": -90.0, "3": 180.0, "4": 0.0}
"""Direction of the first of three rays."""

_LINES: Final = {
    "+": (0.0, 90.0),
    "x": (45.0, 135.0),
    "|": (90.0,),
    "_": (0.0,),
    "P": (0.0, 90.0),
    "X": (45.0, 135.0),
    "$*$": (30.0, 90.0, 150.0),
}
"""Directions of lines through the centre."""

_STROKES: Final = {
    "$j$": "M1.5 -4.5V2A3 3 0 0 1 -4.5 2",
    "$o$": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0",
}
"""What Matplotlib draws as letters."""

_THICK: Final = ("P", "X")


def marker(name: str) -> tuple[str, str]:
    """Return the path of a marker around the origin, and how it is drawn: ``filled``, ``open`` or ``thick``."""
    if name in _POLYGONS:
        corners, first = _POLYGONS[name]
        return _closed([(_R, first + 360.0 * corner / corners) for corner in range(corners)]), "filled"
    if name == "d":
        return _closed([(_R if corner % 2 else 0.6 * _R, 90.0 * corner) for corner in range(4)]), "filled"
    if name == ".":
        return _closed([(0.5 * _R, 22.5 * corner) for corner in range(16)]), "filled"
    if name in _STROKES:
        return _STROKES[name], "open"
    if name == "*":
        return _closed(
            [(0.45 * _R if corner % 2 else 1.2 * _R, 36.0 * corner - 90.0) for corner in range(10)]
        ), "filled"
    if name in _RAYS:
        ends = [_point(_R, _RAYS[name] + turn) for turn in (0.0, 120.0, 240.0)]
        return "".join(f"M0 0L{end}" for end in ends), "open"
    lines = [(_point(_R, angle), _point(_R, angle + 180.0)) for angle in _LINES[name]]
    return "".join(f"M{one}L{other}" for one, other in lines), "thick" if name in _THICK else "open"


def _closed(corners: list[tuple[float, float]]) -> str:
    return "M" + "L".join(_point(radius, angle) for radius, angle in corners) + "Z"


def _point(radius: float, degrees: float) -> str:
    angle = degrees * pi / 180.0
    return f"{number(radius * cos(angle))} {number(radius * sin(angle))}"
