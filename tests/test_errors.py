"""Messages about bad input: one line, whatever the value, and whoever wrote it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field, ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.config import Config, Real, Whole
from llmsched_gym.errors import InputError, Plain, RunError, escaped, shown


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("it's", '"it\'s"'),
        (Plain("no rows\nat all"), "no rows at all"),
        (Path("a b"), "'a b'"),
        (1.5, "1.5"),
        (np.float32(0.5), "0.5"),
        (np.str_("x"), "'x'"),
        (np.array(3), "3"),
        (np.zeros((2, 3)), "an array of shape (2, 3)"),
        (True, "True"),
        (None, "None"),
        (10**40, "1" + "0" * 40),
        pytest.param(10**5000, "a number of about 5001 digits", id="huge"),
        ([1, "a", [2]], "[1, 'a', [2]]"),
        (list(range(99)), "[0, 1, 2, 3, 4, 5, ...]"),
        (object(), "a value of type object"),
        ("x" * 1000, "'" + "x" * 97 + "..." + "x" * 98 + "'"),
    ],
)
def test_values_are_shown_short(value: Any, words: str) -> None:
    assert shown(value) == words
    assert str(InputError("file", "field", value, "something")) == f"file: field: got {words}; expected something"


def test_control_characters_never_get_out() -> None:
    wild = "\x1b[31m\n\t\x9b\u202e\ud800"
    for text in (str(InputError(wild, wild, wild, wild)), str(InputError(Path("x"), "", Plain(wild), ""))):
        assert escaped(text) == text
    assert str(RunError(f"a{wild}b")) == r"a\x1b[31m \x9b\u202e\ud800b"
    assert escaped("naïve 工作 – µs") == "naïve 工作 – µs"


def test_an_error_survives_the_way_between_processes() -> None:
    error = InputError(Path("a.yaml"), "x", object(), "a number")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.yaml: x: got a value of type object; expected a number"


class Leaf(Config):
    """One of two kinds."""

    kind: Literal["leaf"] = "leaf"
    share: Real = Field(gt=0.0, le=1.0)


class Branch(Config):
    """The other."""

    kind: Literal["branch"] = "branch"
    count: Whole | None = Field(default=None, ge=1, le=9)
    open: bool = True
    tags: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Tree(Config):
    """Holds them in every way."""

    name: str = Field(min_length=1, max_length=5)
    colour: Literal["red", "green"] = "red"
    parts: tuple[Annotated[Leaf | Branch, Field(discriminator="kind")], ...] = Field(default=(), min_length=1)
    weights: dict[str, Annotated[Real, Field(ge=0.0)]] = Field(default_factory=dict)
    below: Tree | None = None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "t: name: got nothing; expected text that is not empty of at most 5 characters"),
        ({"name": 3}, "t: name: got 3; expected text that is not empty"),
        ({"name": "a", "colour": "gren"}, "t: colour: got 'gren'; expected one of green, red; did you mean 'green'?"),
        ({"name": "a", "colour": ["red"]}, "t: colour: got ['red']; expected one of green, red"),
        ({"name": "a", "parts": []}, "t: parts: got []; expected a list of at least 1"),
        ({"name": "a", "parts": "leaf"}, "t: parts: got 'leaf'; expected a list of at least 1"),
        ({"name": "a", "parts": [3]}, "t: parts.0: got 3; expected a mapping"),
        ({"name": "a", "parts": [{}]}, "t: parts.0.kind: got nothing; expected one of branch, leaf"),
        ({"name": "a", "parts": [{"kind": "leef"}]}, "t: parts.0.kind: got 'leef'; expected one of branch, leaf; did"),
        ({"name": "a", "parts": [{"kind": "leaf"}]}, "t: parts.0.share: got nothing; expected a number > 0 and <= 1"),
        ({"name": "a", "parts": [{"kind": "leaf", "share": "1"}]}, "t: parts.0.share: got '1'; expected a number > 0"),
        ({"name": "a", "parts": [{"kind": "branch", "count": 0}]}, "count: got 0; expected a whole number from 1 to 9"),
        ({"name": "a", "parts": [{"kind": "branch", "count": 1.5}]}, "count: got 1.5; expected a whole number"),
        ({"name": "a", "parts": [{"kind": "branch", "open": 3}]}, "t: parts.0.open: got 3; expected true or false"),
        ({"name": "a", "parts": [{"kind": "branch", "tags": ["a", ""]}]}, "tags.1: got ''; expected text that is"),
        ({"name": "a", "parts": [{"kind": "branch", "opn": 1}]},
         "t: parts.0.opn: got 1; expected no such field, but one of count, kind, open, tags; did you mean 'open'?"),
        ({"name": "a", "weights": {"b": -1}}, "t: weights.b: got -1; expected a number >= 0"),
        ({"name": "a", "weights": {1: 1}}, "t: weights: got 1; expected text as a name"),
        ({"name": "a", "weights": [1]}, "t: weights: got [1]; expected a mapping"),
        ({"name": "a", "below": {"nme": 1}}, "t: below.name: got nothing; expected text"),
        ({"name": "a", "below": 3}, "t: below: got 3; expected a mapping"),
    ],
)  # fmt: skip
def test_complaints_say_what_the_type_of_a_field_allows(fields: dict[Any, Any], told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Tree.model_validate(fields)
    assert told in str(from_validation("t", raised.value, Tree, fields))


def test_text_that_is_no_json_is_told_from_a_bad_field() -> None:
    class Plainest(BaseModel):
        a: int

    with pytest.raises(ValidationError) as raised:
        Plainest.model_validate_json('{"a": "\\ud800"')
    assert str(from_validation("t.json", raised.value, Plainest)).startswith("t.json: got no JSON (")
