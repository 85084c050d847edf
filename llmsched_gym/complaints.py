"""What pydantic complains about, in one line: which field, what it held, and what its type allows.

Pydantic words each kind of complaint in its own way ("Input should be greater than 0", "Input should be a finite
number"). Here what is allowed is read off the type of the field, whatever was wrong with the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from llmsched_gym.errors import InputError, Plain, suggest

_REFUSED: Final = "refused"
_LIMITS: Final = ("gt", "ge", "lt", "le", "min_length", "max_length")


def refused(field: str, value: object, allowed: str) -> PydanticCustomError:
    """Return what a validator raises about a field of its model.

    Args:
        field: Its name, or several; empty in the validator of a field.
        value: What it held, or `Plain` words about it.
        allowed: What would have been accepted, as a phrase.
    """
    return PydanticCustomError(_REFUSED, "expected other values", {"field": field, "value": value, "allowed": allowed})


def from_validation(source: object, error: ValidationError, kind: Any, given: Any = None) -> InputError:
    """Turn pydantic's report into one line about its first finding.

    Args:
        source: File or argument that held the values.
        error: The report.
        kind: The model or type that the values were checked against.
        given: The values. Pydantic puts the ``kind`` that chose a model into the path of a field, where no reader would
            look for it; with the values at hand it is left out.
    """
    return _from_finding(source, error.errors(include_url=False)[0], kind, given)


def every_from_validation(source: object, error: ValidationError, kind: Any, given: Any = None) -> list[InputError]:
    """Turn pydantic's report into one line per finding, as `from_validation` does for the first.

    A list is called too short as well when what is in it is wrong; that says nothing more.
    """
    found = error.errors(include_url=False)
    inner = {one["loc"][: len(one["loc"]) - 1] for one in found if one["loc"]}
    return [
        _from_finding(source, one, kind, given)
        for one in found
        if not (one["type"] == "too_short" and one["loc"] in inner)
    ]


def _from_finding(source: object, first: ErrorDetails, kind: Any, given: Any) -> InputError:
    path = list(first["loc"])
    shown = list(_path(path, given))
    value, context = first["input"], first.get("ctx", {})
    match first["type"]:
        case "json_invalid":
            return InputError(source, "", Plain(f"no JSON ({context['error']})"), "JSON")
        case "refused":
            field = ".".join(filter(None, [*shown, context["field"]]))
            return InputError(source, field, context["value"], context["allowed"])
        case "value_error" if isinstance(context["error"], InputError):
            return context["error"]
        case "missing":
            value, allowed = Plain("nothing"), _allowed(_kinds_at(kind, path), None)
        case "extra_forbidden":
            allowed = f"no such field, but {suggest(shown[-1], _fields(_kinds_at(kind, path[:-1])))}"
        case "union_tag_invalid" | "union_tag_not_found":
            return _about_the_kind(source, shown, _kinds_at(kind, path), value)
        case _ if path[-1:] == ["[key]"]:
            keys = [key for one in _kinds_at(kind, path[:-2]) for key in _keys(one)]
            shown, allowed = shown[:-2], _allowed(keys, value).replace("text", "text as a name", 1)
        case _:
            allowed = _allowed(_kinds_at(kind, path), value)
    return InputError(source, ".".join(shown), value, allowed)


def _path(location: Sequence[str | int], given: Any) -> Iterator[str]:
    """Follow a location through the values it is of, without the kinds that chose a model on the way."""
    for part in location:
        mapping = given if isinstance(given, Mapping) else {}
        if part == mapping.get("kind") and part not in mapping:
            continue
        yield str(part)
        sequence = given if isinstance(given, list | tuple) else ()
        given = sequence[part] if isinstance(part, int) and part < len(sequence) else mapping.get(part)


def _about_the_kind(source: object, path: list[str], kinds: Sequence[Any], value: Any) -> InputError:
    """Tell that nothing, or no known name, says which model a mapping is."""
    known = [tag for kind in kinds for tag in _tags(kind)]
    if not isinstance(value, Mapping):
        return InputError(source, ".".join(path), value, "a mapping")
    tag = value.get("kind")
    given = tag if "kind" in value else Plain("nothing")
    return InputError(source, ".".join([*path, "kind"]), given, suggest(str(tag or ""), known))


# Which types a location leads to


def _kinds_at(kind: Any, location: Sequence[str | int]) -> list[Any]:
    """Return the types that the value at a location may have, with what else is said of them."""
    kinds = list(_arms(kind))
    for part in location:
        inner = [deeper for one in kinds for deeper in _inside(one, part)]
        kinds = inner or [one for one in kinds if part in _tags(one)] or kinds
    return kinds


def _arms(kind: Any) -> Iterator[Any]:
    """Take unions apart."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, UnionType):
        marks = get_args(kind)[1:] if bare is not kind else ()
        for arm in get_args(bare):
            if arm is not type(None):
                yield from _arms(Annotated[(arm, *marks)] if marks else arm)
    else:
        yield kind


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    """Return the types of what a type holds under a name or at a position."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    arguments = get_args(bare)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        if part in bare.model_fields:
            yield from _arms(bare.model_fields[str(part)].rebuild_annotation())
    elif get_origin(bare) is dict:
        yield from _arms(arguments[1])
    elif get_origin(bare) is tuple and isinstance(part, int):
        yield from _arms(arguments[0] if arguments[-1] is Ellipsis else arguments[part])


def _keys(kind: Any) -> Iterator[Any]:
    """Return the type of the names in a mapping of names."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) is dict:
        yield get_args(bare)[0]


def _tags(kind: Any) -> tuple[str, ...]:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    fields = bare.model_fields if isinstance(bare, type) and issubclass(bare, BaseModel) else {}
    return get_args(fields["kind"].annotation) if "kind" in fields else ()


def _fields(kinds: Sequence[Any]) -> set[str]:
    bare = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]
    return {name for one in bare if isinstance(one, type) and issubclass(one, BaseModel) for name in one.model_fields}


# What a type allows


def _allowed(kinds: Sequence[Any], value: Any) -> str:
    """Say what values of these types look like; `value` is the one that was not accepted."""
    return " or ".join(dict.fromkeys(_described(kind, value) for kind in kinds)) or "no value"


def _described(kind: Any, value: Any) -> str:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    marks = _marks(kind)
    origin = get_origin(bare)
    if origin is Literal:
        choices = [str(choice) for choice in get_args(bare)]
        return choices[0] if len(choices) == 1 else suggest(str(value or ""), choices)
    if bare is bool:
        return "true or false"
    if bare is int or bare is float:
        return ("a whole number" if bare is int else "a number") + _range(marks)
    if bare is str:
        return "text" + (" that is not empty" if marks.get("min_length") else "") + _length(marks, "characters")
    if origin is tuple and get_args(bare)[-1] is not Ellipsis:
        return f"a list of {len(get_args(bare))}"
    if origin in (tuple, list):
        return "a list" + (f" of at least {marks['min_length']}" if "min_length" in marks else "")
    return "a mapping"


def _marks(kind: Any) -> dict[str, Any]:
    """Return the limits that a type carries (``gt``, ``ge``, ``lt``, ``le``, ``min_length``, ``max_length``)."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    single = [one for note in notes for one in (note.metadata if isinstance(note, FieldInfo) else (note,))]
    return {name: getattr(one, name) for one in single for name in _LIMITS if getattr(one, name, None) is not None}


def _range(marks: Mapping[str, Any]) -> str:
    if "ge" in marks and "le" in marks:
        return f" from {_plain(marks['ge'])} to {_plain(marks['le'])}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [f"{sign} {_plain(marks[name])}" for name, sign in signs.items() if name in marks]
    return f" {' and '.join(limits)}" if limits else ""


def _length(marks: Mapping[str, Any], unit: str) -> str:
    return f" of at most {marks['max_length']} {unit}" if "max_length" in marks else ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
