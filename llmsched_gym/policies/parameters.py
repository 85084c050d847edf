"""Parameters of policies, as names give them (``fate?horizon=3``): checked alike, and refused in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmsched_gym.errors import InputError, suggest
from llmsched_gym.numbers import real_number, whole_number


def whole(policy: str, field: str, value: object, least: int, most: int) -> int:
    """Return a whole number.

    Raises:
        InputError: It is none from `least` to `most`.
    """
    number = whole_number(value)
    if number is None or not least <= number <= most:
        raise InputError(f"policy {policy}", field, value, f"a whole number from {least} to {most}")
    return number


def real(policy: str, field: str, value: object, least: float, most: float) -> float:
    """Return a number.

    Raises:
        InputError: It is none from `least` to `most`.
    """
    number = real_number(value)
    if number is None or not least <= number <= most:
        raise InputError(f"policy {policy}", field, value, f"a number from {least:g} to {most:g}")
    return number


def flag(policy: str, field: str, value: object) -> bool:
    """Return a truth value.

    Raises:
        InputError: It is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"policy {policy}", field, value, "true or false")
    return value


def choice(policy: str, field: str, value: Any, allowed: Iterable[str]) -> Any:
    """Return one of the words that are allowed.

    Raises:
        InputError: It is none of them.
    """
    words = tuple(allowed)
    if value not in words:
        raise InputError(f"policy {policy}", field, value, suggest(str(value), words))
    return value
