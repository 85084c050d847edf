"""Options that hold several values in one word."""

from __future__ import annotations

import math
import re
from typing import Final

from llmsched_gym.errors import InputError

MAX_SEEDS: Final = 10_000
"""More than that in one command is taken for a mistake."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds: ``0:10`` (0 to 9), ``0,3,7``, ``5``, or a mixture (``0:3,7``).

    Raises:
        InputError: Not such a text, an empty range, or a seed twice.
    """
    allowed = "seeds as 0:10 (0 to 9), 0,3,7 or 5; each from 0"
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,18})(?::([0-9]{1,18}))?", part.strip())
        if match is None:
            raise InputError("--seeds", "", text, allowed)
        first = int(match[1])
        end = first + 1 if match[2] is None else int(match[2])
        if not 0 < end - first <= MAX_SEEDS:
            raise InputError("--seeds", "", part, f"{allowed}; 1 to {MAX_SEEDS} in a range")
        seeds.extend(range(first, end))
    if len(set(seeds)) != len(seeds):
        raise InputError("--seeds", "", text, "every seed once")
    return tuple(seeds)


def parse_loads(text: str | None) -> tuple[float | None, ...]:
    """Read one load or several, ``0.5,0.9,1.2``; None stands for what the scenario says.

    Raises:
        InputError: Not numbers > 0, or one twice.
    """
    if text is None:
        return (None,)
    allowed = "a number > 0, or several as 0.5,0.9,1.2"
    loads: list[float] = []
    for part in text.split(","):
        try:
            load = float(part)
        except ValueError:
            raise InputError("--load", "", text, allowed) from None
        if not math.isfinite(load) or load <= 0:
            raise InputError("--load", "", text, allowed)
        if load in loads:
            raise InputError("--load", "", text, "every load once")
        loads.append(load)
    return tuple(loads)


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """Read names separated by commas.

    Raises:
        InputError: One is empty, or stands twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise InputError(option, "", text, "names separated by commas, every one once")
    return names


def parse_renames(option: str, text: str | None) -> dict[str, str]:
    """Read names and what takes their place: ``a=b,c=d``; none if there is no text.

    Raises:
        InputError: Not such a text, or a name twice.
    """
    renames: dict[str, str] = {}
    for part in text.split(",") if text is not None else ():
        old, equals, new = (piece.strip() for piece in part.rpartition("="))
        if not equals or not old or not new or old in renames:
            raise InputError(option, "", text, "OLD=NEW, or several with commas between, every OLD once")
        renames[old] = new
    return renames
