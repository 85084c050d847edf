"""Reads the options of a verb, or of a training recipe, with tyro, and turns every complaint into one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

from llmsched_gym.cli.options import Range
from llmsched_gym.cli.overwriting import check_overwriting
from llmsched_gym.errors import InputError, Plain, suggest


class Verb(Protocol):
    """A command: a dataclass of its options, and what it does."""

    def run(self) -> int:
        """Do it.

        Returns:
            Exit code.
        """
        ...


V = TypeVar("V", bound=Verb)
T = TypeVar("T")


def parse(verb: type[V], program: str, words: Sequence[str]) -> V:
    """Read the options of a verb; ``--help`` prints them and exits.

    Args:
        verb: Dataclass whose fields are the options.
        program: What was typed before the options.
        words: The options.

    Raises:
        InputError: An option is unknown, missing, of the wrong type or out of range, or an output is empty or an input,
            too.
    """
    _check_outputs(program, words)
    found = read_options(verb, program, words, negations=False)
    _check_ranges(found, program)
    check_overwriting(found)
    return found


def read_options(
    options: type[T],
    program: str,
    words: Sequence[str],
    *,
    default: T | None = None,
    description: str | None = None,
    negations: bool = True,
) -> T:
    """Read options with tyro; ``--help`` prints them and exits.

    Args:
        options: Dataclass whose fields are the options.
        program: What was typed before the options.
        words: The options.
        default: Values of options that are left out; default: those of the class.
        description: Text of ``--help``; default: the docstring of the class.
        negations: Whether a flag ``--x`` comes with a ``--no-x``.

    Raises:
        InputError: An option is unknown, missing or of the wrong type.
    """
    types = _types(options)
    _check_names(types, program, words, negations)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            found = tyro.cli(
                options,
                prog=program,
                args=words,
                default=default,
                description=description,
                config=() if negations else (tyro.conf.FlagCreatePairsOff,),
            )
        return cast(T, found)
    except SystemExit as end:
        if not end.code:
            raise
    raise _one_line(types, program, words, _unboxed(complaint.getvalue()))


def _types(options: type) -> dict[str, Any]:
    """Return the long options of a dataclass, without dashes, and their types, with what marks them."""
    hints = get_type_hints(options, include_extras=True)
    types: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        given = [mark.name for mark in _marks(hints[field.name]) if getattr(mark, "name", None)]
        types[(given[0] if given else field.name).replace("_", "-")] = hints[field.name]
    return types


def _marks(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _check_ranges(found: object, program: str) -> None:
    """Refuse numbers that an option does not allow."""
    for option, kind in _types(type(found)).items():
        value = getattr(found, option.replace("-", "_"), None)
        for allowed in _marks(kind):
            if isinstance(allowed, Range) and value is not None and value not in allowed:
                raise InputError(program, f"--{option}", value, _allowed({option: kind}, option))


def _check_names(types: Mapping[str, Any], program: str, words: Sequence[str], negations: bool) -> None:
    known = {f"--{name}" for name in types} | {"--help"}
    if negations:
        known |= {f"--no-{name}" for name, kind in types.items() if _bare(kind) is bool}
    for word, following in itertools.pairwise([*words, "--"]):
        name = re.split("[=.]", word)[0].replace("_", "-")  # --jobs.mixed is an entry of the mapping jobs
        if word == "--":
            return
        if word.startswith("--") and name not in known:
            raise InputError(program, "option", word, suggest(name, known))
        several = get_origin(_bare(types.get(name[2:]))) is tuple
        if several and "=" not in word and re.match("-[^0-9.]", following):  # tyro would take it for an empty list
            raise InputError(program, name, Plain("nothing"), f"at least one value (see {program} --help)")


def _check_outputs(program: str, words: Sequence[str]) -> None:
    """Refuse an empty output: as a path it would be the current folder."""
    for word, value in itertools.pairwise([*words, None]):
        if (word in ("-o", "--output") and value == "") or word == "--output=":
            raise InputError(program, "--output", "", "the path of a file or folder to write")


def _unboxed(text: str) -> str:
    """Return the words in the box that tyro draws, in Unicode or ASCII, without rules and the pointer to the help."""
    lines = (line.strip("│╭╮╰╯|+ ") for line in text.splitlines())
    words = " ".join(re.sub(r"[─-]{3,}", " ", line) for line in lines).split()
    return " ".join(words).partition(" For full helptext")[0]


def _one_line(types: Mapping[str, Any], program: str, words: Sequence[str], message: str) -> InputError:
    help_ = f"see {program} --help"
    bad_value = re.search(r"Error parsing (?P<option>--[^\s:]+): ", message)
    if bad_value:
        option = bad_value["option"]
        return InputError(program, option, _given(option, words), f"{_allowed(types, option)} ({help_})")
    missing = re.search(
        r"Missing from .*?: (?P<option>(?:-\S+ \S+, )?(?:--\S+ )?\S+) (?P<help>.*?)\.? \(required\)", message
    )
    if missing:
        return InputError(program, missing["option"], Plain("nothing"), f"a value: {missing['help']}")
    without = re.search(r"Missing value for argument '(?P<option>\S+)'", message)
    if without:
        return InputError(
            program, without["option"], Plain("nothing"), f"{_allowed(types, without['option'])} ({help_})"
        )
    extra = re.search(r"Unrecognized options: (?P<words>.*)", message)
    if extra:
        return InputError(program, "", extra["words"], f"no such word here ({help_})")
    return InputError(program, "", message, f"options as in {program} --help")


def _given(option: str, words: Sequence[str]) -> str:
    """Return what was given for an option: tyro's message quotes it in a way of its own for every type."""
    names = [word.partition("=")[0].replace("_", "-") for word in words]
    last = len(names) - 1 - names[::-1].index(option)
    if "=" in words[last]:
        return words[last].partition("=")[2]
    return " ".join(itertools.takewhile(lambda word: not re.match("-[^0-9.]", word), words[last + 1 :]))


def _allowed(types: Mapping[str, Any], option: str) -> str:
    """Say what an option accepts."""
    marked = types.get(option.lstrip("-").partition(".")[0])
    kind = _bare(marked)
    kinds = {kind, *get_args(kind)}
    number = "number" if float in kinds else "whole number" if int in kinds else "value"
    ranges = "".join(f" {mark}" for mark in _marks(marked) if isinstance(mark, Range))
    return f"{number}s, separated by spaces" if get_origin(kind) is tuple else f"a {number}{ranges}"
