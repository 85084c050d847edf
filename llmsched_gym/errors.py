"""Errors that a user's input can cause, told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

_MOST_LISTED: Final = 30
_LIKELY_LISTED: Final = 5


class InputError(ValueError):
    """Something the user gave is not usable.

    The message is one line that names where the value came from, the field, the value, and what is allowed. The
    command line prints it as it is and exits with code 2.

    Args:
        source: File, flag, environment argument or URL that held the value.
        field: Name of the field inside the source; empty if the whole source is meant.
        value: The offending value.
        allowed: What would have been accepted, as a phrase ("a number > 0").
    """

    def __init__(self, source: object, field: str, value: object, allowed: str) -> None:
        where = f"{source}: {field}" if field else f"{source}"
        shown = repr(value) if isinstance(value, str) else value
        text = f"{where}: got {shown}; expected {allowed}"
        super().__init__(" ".join(text.split()))
        plain = value is None or isinstance(value, str | bool | int | float)
        self._given = (str(source), field, value if plain else str(value), allowed)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, object, str]]:
        """Pickle by the arguments, so that the error survives the way back from a worker process."""
        return type(self), self._given


class RunError(RuntimeError):
    """Something failed while it ran, for a reason that no check of the input could foresee.

    The message is one line; the command line prints it and exits with code 1.
    """


class EpisodeLost(RunError):
    """An episode cannot be finished, because what runs its tasks is gone.

    Attributes:
        partial: What had come of it by then, JSON-able.
    """

    partial: Mapping[str, Any] = {}


def suggest(name: str, known: Iterable[str]) -> str:
    """Describe the known names and the one meant, begun or misspelt ("one of a, b, c; did you mean a?").

    Of many names only those most like `name` are listed.
    """
    names = sorted(known)
    begun = [known_name for known_name in names if name and known_name.startswith(name)]
    close = begun or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if len(names) > _MOST_LISTED:
        likely = difflib.get_close_matches(name, names, n=_LIKELY_LISTED, cutoff=0)
        listing = f"one of {len(names)} names, such as {', '.join(likely)}"
    else:
        listing = "one of " + ", ".join(names)
    return f"{listing}; did you mean {close[0]!r}?" if close else listing


def from_validation(source: object, error: ValidationError, given: Any = None) -> InputError:
    """Turn pydantic's report into one line about its first finding.

    Args:
        source: File or argument that held the values.
        error: The report.
        given: The values. Pydantic puts the ``kind`` that chose a model into the path of a field, where no reader would
            look for it; with the values at hand it is left out.
    """
    first = error.errors(include_url=False)[0]
    field = ".".join(_path(first["loc"], given))
    value = "nothing" if first["type"] == "missing" else first["input"]
    shown = value if isinstance(value, str | int | float | bool) or value is None else f"a {type(value).__name__}"
    least = first.get("ctx", {}).get("min_length")
    wording = {"missing": "a value", "extra_forbidden": "no such field", "too_short": f"a list of at least {least}"}
    message = wording.get(first["type"], first["msg"])
    allowed = message.removeprefix("Input should be ").removeprefix("Value error, ").removeprefix("expected ")
    return InputError(source, field, shown, allowed[:1].lower() + allowed[1:])


def _path(location: Iterable[str | int], given: Any) -> Iterator[str]:
    """Follow a location through the values it is of, without the kinds that chose a model on the way."""
    for part in location:
        mapping = given if isinstance(given, Mapping) else {}
        if part == mapping.get("kind") and part not in mapping:
            continue
        yield str(part)
        sequence = given if isinstance(given, list | tuple) else ()
        given = sequence[part] if isinstance(part, int) and part < len(sequence) else mapping.get(part)
