"""Values that no number field takes, and which numbers a field takes by what its type says: for tests of bad input."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NAN, INF, HUGE = float("nan"), float("inf"), 10**30

NO_NUMBERS: tuple[Any, ...] = (NAN, INF, -INF, "7", "many", "", True, [1], {"a": 1})
"""What no field for a number takes, whatever its range."""

EDGES: tuple[int, ...] = (-HUGE, -1, 0, HUGE)
"""Numbers that most fields do not take."""

Field = tuple[tuple[str | int, ...], type, dict[str, float]]
"""Where a number stands in a model, whether it is an int or a float, and its limits (gt, ge, lt, le; text: or text)."""


def number_fields(kind: Any, place: tuple[str | int, ...] = (), limits: dict[str, float] | None = None) -> list[Field]:
    """Return all numbers in a type: those of models within models, of lists and of mappings (as their first entry)."""
    return list(_numbers(kind, place, limits or {}))


def _numbers(kind: Any, place: tuple[str | int, ...], limits: dict[str, float]) -> Iterator[Field]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _numbers(arguments[0], place, limits | _limits(arguments[1:]))
    elif origin in (Union, UnionType):
        or_text = {"text": 1.0} if any(arm is str or get_args(arm)[:1] == (str,) for arm in arguments) else {}
        for arm in arguments:
            yield from _numbers(arm, place, limits | or_text)
    elif origin is tuple:
        yield from _numbers(arguments[0], (*place, 0), {})
    elif origin is dict:
        yield from _numbers(arguments[1], (*place, "*"), {})
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from _numbers(field.rebuild_annotation(), (*place, name), _limits(tuple(field.metadata)))
    elif kind in (int, float):
        yield place, kind, limits


def _limits(marks: tuple[Any, ...]) -> dict[str, float]:
    single = [one for mark in marks for one in (mark.metadata if isinstance(mark, FieldInfo) else (mark,))]
    return {
        name: getattr(one, name)
        for one in single
        for name in ("gt", "ge", "lt", "le")
        if getattr(one, name, None) is not None
    }


def takes(number: float, limits: dict[str, float]) -> bool:
    """Tell whether a number is within limits."""
    return (
        number > limits.get("gt", -INF)
        and number >= limits.get("ge", -INF)
        and number < limits.get("lt", INF)
        and number <= limits.get("le", INF)
    )


def bad_values(kind: type, limits: dict[str, float]) -> list[Any]:
    """Return values that a field does not take."""
    fractions = [1.5] if kind is int else []
    values = [*NO_NUMBERS, *fractions, *(edge for edge in EDGES if not takes(edge, limits))]
    return [value for value in values if not ("text" in limits and isinstance(value, str) and value)]
