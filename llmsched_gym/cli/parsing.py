"""Reads the options of one verb with tyro, and turns every complaint into one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeVar, get_type_hints

import tyro

from llmsched_gym.errors import InputError, suggest


class Verb(Protocol):
    """A command: a dataclass of its options, and what it does."""

    def run(self) -> int:
        """Do it.

        Returns:
            Exit code.
        """
        ...


V = TypeVar("V", bound=Verb)


def parse(verb: type[V], program: str, words: Sequence[str]) -> V:
    """Read the options of a verb; ``--help`` prints them and exits.

    Args:
        verb: Dataclass whose fields are the options.
        program: What was typed before the options.
        words: The options.

    Raises:
        InputError: An option is unknown, missing or of the wrong type.
    """
    _check_names(verb, program, words)
    _check_outputs(program, words)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(verb, prog=program, args=words, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as end:
        if not end.code:
            raise
    raise _one_line(verb, program, _unboxed(complaint.getvalue()))


def _names(verb: type) -> dict[str, Any]:
    """Return the long options of a verb, without dashes, and their types."""
    hints = get_type_hints(verb, include_extras=True)
    names: dict[str, Any] = {}
    for field in dataclasses.fields(verb):  # pyright: ignore[reportArgumentType]: every verb is a dataclass
        hint = hints[field.name]
        given = [mark.name for mark in getattr(hint, "__metadata__", ()) if getattr(mark, "name", None)]
        names[(given[0] if given else field.name).replace("_", "-")] = hint
    return names


def _check_names(verb: type, program: str, words: Sequence[str]) -> None:
    known = {f"--{name}" for name in _names(verb)} | {"--help"}
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if word == "--":
            return
        if word.startswith("--") and name not in known:
            raise InputError(program, "option", word, suggest(name, known))


def _check_outputs(program: str, words: Sequence[str]) -> None:
    """Refuse an empty output: as a path it would be the current folder."""
    for word, value in pairwise([*words, None]):
        if (word in ("-o", "--output") and value == "") or word == "--output=":
            raise InputError(program, "--output", "", "the path of a file or folder to write")


def _unboxed(text: str) -> str:
    """Return the words in the box that tyro draws, in Unicode or ASCII, without rules and the pointer to the help."""
    lines = (line.strip("│╭╮╰╯|+ ") for line in text.splitlines())
    words = " ".join(re.sub(r"[─-]{3,}", " ", line) for line in lines).split()
    return " ".join(words).partition(" For full helptext")[0]


def _one_line(verb: type, program: str, message: str) -> InputError:
    help_ = f"see {program} --help"
    bad_value = re.search(r"Error parsing (?P<option>\S+): .*?['\"](?P<value>[^'\"]*)['\"]\]?(?:\.|$)", message)
    if bad_value:
        hint = str(_names(verb).get(bad_value["option"].lstrip("-"), ""))
        allowed = "a whole number" if "int" in hint else "a number" if "float" in hint else "another value"
        return InputError(program, bad_value["option"], bad_value["value"], f"{allowed} ({help_})")
    missing = re.search(
        r"Missing from .*?: (?P<option>(?:-\S+ \S+, )?(?:--\S+ )?\S+) (?P<help>.*?)\.? \(required\)", message
    )
    if missing:
        return InputError(program, missing["option"], "nothing", f"a value: {missing['help']}")
    without = re.search(r"Missing value for argument '(?P<option>\S+)'", message)
    if without:
        return InputError(program, without["option"], "nothing", f"a value ({help_})")
    extra = re.search(r"Unrecognized options: (?P<words>.*)", message)
    if extra:
        return InputError(program, "", extra["words"], f"no such word here ({help_})")
    return InputError(program, "", message, f"options as in {program} --help")
