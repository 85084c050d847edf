"""Errors that a user's input can cause, told in one line; and how any text is made fit to be a line."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_MOST_LISTED: Final = 30
_MOST_LISTED_LETTERS: Final = 400
_LIKELY_LISTED: Final = 5
_MOST_DIGITS: Final = 100

_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Characters that move the cursor, change colours, turn the direction of writing, or cannot be encoded."""


class Plain(str):
    """Words about what was given ("no rows"), which an error shows without the quotes that a value gets."""

    __slots__ = ()


class InputError(ValueError):
    """Something the user gave is not usable.

    The message is one line that names where the value came from, the field, the value, and what is allowed. The
    command line prints it as it is and exits with code 2.

    Args:
        source: File, flag, environment argument or URL that held the value.
        field: Name of the field inside the source; empty if the whole source is meant.
        value: The offending value, or `Plain` words about it.
        allowed: What would have been accepted, as a phrase ("a number > 0").

    Attributes:
        value: As given.
        allowed: As given.
    """

    def __init__(self, source: object, field: str, value: object, allowed: str) -> None:
        where, one_line = f"{source}: {field}" if field else f"{source}", " ".join(allowed.split())
        super().__init__(escaped(f"{where}: got {shown(value)}; expected {one_line}"))
        self.value, self.allowed = value, allowed
        self._given = (str(source), field, Plain(shown(value)), allowed)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, object, str]]:
        """Pickle by the arguments, so that the error survives the way back from a worker process."""
        return type(self), self._given


class RunError(RuntimeError):
    """Something failed while it ran, for a reason that no check of the input could foresee.

    The message is one line; the command line prints it and exits with code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(" ".join(message.split())))


class EpisodeLost(RunError):
    """An episode cannot be finished, because what runs its tasks is gone.

    Attributes:
        partial: What had come of it by then, JSON-able.
    """

    partial: Mapping[str, Any] = {}


def suggest(name: str, known: Iterable[str]) -> str:
    """Describe the known names and the one meant, begun or misspelt ("one of a, b, c; did you mean a?").

    Of many names, or long ones, only those most like `name` are listed.
    """
    names = sorted(known)
    begun = [known_name for known_name in names if name and known_name.startswith(name)]
    close = begun or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if len(names) > _MOST_LISTED or sum(map(len, names)) > _MOST_LISTED_LETTERS:
        likely = difflib.get_close_matches(name, names, n=_LIKELY_LISTED, cutoff=0)
        listing = f"one of {len(names)} names, such as {', '.join(likely)}"
    else:
        listing = "one of " + ", ".join(names)
    return f"{listing}; did you mean {close[0]!r}?" if close else listing


def escaped(text: str) -> str:
    """Return a text as it can stand in a line of a terminal, whoever wrote it: control characters become escapes."""
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(value: object) -> str:
    """Return a value as messages show it: text in quotes, and nothing longer than a line."""
    if isinstance(value, Plain):
        return " ".join(value.split())
    if isinstance(value, str | Path):
        return _SHORT.repr(str(value))
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:  # a number of NumPy's
        value = value.item()  # pyright: ignore[reportAttributeAccessIssue]
    if value is None or isinstance(value, bytes | bool | int | float | list | tuple | set | frozenset | dict):
        return _SHORT.repr(value)
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if isinstance(shape, tuple) else f"a value of type {type(value).__name__}"


class _Short(reprlib.Repr):
    """Values in as many characters as a line has room for."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 60

    def repr_int(self, x: int, level: int) -> str:
        """Return an integer; of a huge one only how large it is, which `repr` refuses to write out."""
        bits = x.bit_length()
        return repr(x) if bits < 3.3 * _MOST_DIGITS else f"a number of about {int(bits * 0.30103) + 1} digits"


_SHORT: Final = _Short()
