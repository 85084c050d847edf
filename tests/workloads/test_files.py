"""Text and JSON from files: UTF-8, every key once, and one line about everything else."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.files import parse_json, read_bytes, read_json, read_text, write_atomic


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_makes_no_difference(mark: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(mark + '{"café": 1}'.encode())
    assert read_json(file, "an object") == {"café": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x".encode("utf-16"), "line 1: got UTF-16 text; expected a poem, in UTF-8"),
        ("x".encode("utf-16-le"), "line 1: got a null character; expected a poem, in UTF-8"),
        ("x".encode("utf-32"), "line 1: got UTF-16 text; expected a poem, in UTF-8"),
        ("a\ncafé".encode("latin-1"), "line 2: got bytes that are no UTF-8; expected a poem, in UTF-8"),
        (b"\n\n\x00", "line 3: got a null character; expected a poem, in UTF-8"),
    ],
)
def test_other_encodings_are_named(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_text(file, "a poem")
    assert str(raised.value) == f"{file}: {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n "a": 1,\n "b": {"a": 2},\n "a": 3\n}', "line 4: got 'a' twice; expected every key once in an object"),
        ('[{"x": "}{"}, {"k\\"": 1,\n"k\\"": 2}]', "line 2: got 'k\"' twice"),
        ('{"a": "\\"a\\": 1", "b": [{"a": 1}, {"a": 1, "\\u0061": 2}]}', "line 1: got 'a' twice"),
        ("{", "line 1, column 2: got no JSON (Expecting property name enclosed in double quotes); expected a list"),
        ("", "line 1, column 1: got no JSON (Expecting value); expected a list"),
        ("[" * 100_000, "line 1: got values nested too deeply; expected a list"),
        ("9" * 5000, "line 1: got a number of too many digits; expected a list"),
    ],
)
def test_what_is_wrong_with_a_json_text_is_told(text: str, told: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_json("a.json", text, "a list")
    assert str(raised.value).startswith(f"a.json: {told}")


def test_equal_keys_of_different_objects_are_no_repetition() -> None:
    assert parse_json("a.json", '[{"a": 1}, {"a": {"a": 2}}]', "a list") == [{"a": 1}, {"a": {"a": 2}}]


def test_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/zero: got a device; expected a readable file"):
        read_bytes("/dev/zero")
    with pytest.raises(InputError, match="got a folder; expected a poem"):
        read_text(tmp_path, "a poem")
    with pytest.raises(InputError, match=r"got no such file or directory; expected a poem"):
        read_text(tmp_path / "none", "a poem")
    with pytest.raises(InputError, match=r"no\\x00path: got no path"):
        read_bytes("no\0path")
    for folder in (tmp_path, "."):
        with pytest.raises(InputError, match="got a folder; expected a file: it is replaced in one step"):
            write_atomic(folder, b"")
