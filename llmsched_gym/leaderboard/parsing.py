"""JSON from strangers: every key once, no byte order mark, and all that is wrong with it told at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from llmsched_gym.complaints import every_from_validation
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import parse_json

M = TypeVar("M", bound=BaseModel)


class SeveralErrors(Exception):
    """All that is wrong with a file.

    Attributes:
        errors: At least one.
    """

    def __init__(self, errors: Sequence[InputError]) -> None:
        super().__init__(str(errors[0]))
        self.errors = tuple(errors)


def decoded(source: object, content: bytes, what: str) -> str:
    """Return a text in UTF-8 without a byte order mark and without nulls.

    Raises:
        InputError: It is something else.
    """
    if content.startswith(b"\xef\xbb\xbf"):
        raise InputError(source, "", Plain("a byte order mark"), f"{what}, in UTF-8 without one")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(source, f"line {line}", Plain("bytes that are no UTF-8"), f"{what}, in UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(source, f"line {line}", Plain("a null character"), what)
    return text


def read_model(source: object, content: bytes, kind: type[M], line: int = 1) -> M:
    """Return what a JSON text says, checked.

    Args:
        source: Where it came from.
        content: The text, UTF-8.
        kind: What it has to be.
        line: The line of the source that it begins in.

    Raises:
        InputError: It is no JSON, or a field is wrong (the first of several).
    """
    try:
        return read_strictly(source, content, kind, line)
    except SeveralErrors as several:
        raise several.errors[0] from None


def read_strictly(source: object, content: bytes, kind: type[M], line: int = 1) -> M:
    """Return what a JSON text says, checked.

    Args:
        source: Where it came from.
        content: The text, UTF-8.
        kind: What it has to be.
        line: The line of the source that it begins in.

    Raises:
        InputError: It is no JSON.
        SeveralErrors: Fields are wrong.
    """
    text = decoded(source, content, "a JSON object")
    given = parse_json(source, text, "a JSON object", line)
    try:
        # From the text again: only there may a list stand for a tuple while everything else is of its very type.
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SeveralErrors(every_from_validation(source, error, kind, given)) from None
