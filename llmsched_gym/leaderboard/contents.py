"""The files of a submission that are read as what they are, and never run: write-up, code, versions, weights."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, cast

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.leaderboard.parsing import decoded
from llmsched_gym.leaderboard.submission_folder import CODE, LOCK, WRITE_UP, is_weights
from llmsched_gym.leaderboard.texts import TO_FILL
from llmsched_gym.workloads.files import parse_json

_SEEN: Final = "\n\t"
_UNFIT: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))

_TYPE_BYTES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a number in safetensors."""

_HEADER_BYTES: Final = 1 << 20
_NUMBER: Final = 1 << 40


def check_contents(source: object, name: str, content: bytes) -> Iterator[InputError]:
    """Yield what is wrong with a file of a submission, by its name; those that other modules read are passed over.

    Args:
        source: Its path, for errors.
        name: Its name.
        content: What it holds.
    """
    try:
        if name == WRITE_UP:
            yield from _check_write_up(source, content)
        elif name == CODE:
            _check_seen(source, decoded(source, content, "Python"))
        elif name == LOCK:
            _check_lock(source, content)
        elif is_weights(name):
            check_weights(source, content)
    except InputError as error:
        yield error


def _check_seen(source: object, text: str) -> None:
    """Refuse characters that make a text look like another."""
    for number, line in enumerate(text.split("\n"), start=1):
        odd = next((one for one in line if unicodedata.category(one) in _UNFIT and one not in _SEEN), None)
        if odd is not None:
            found = Plain(f"the character U+{ord(odd):04X}")
            raise InputError(source, f"line {number}", found, "characters that can be seen")


def _check_write_up(source: object, content: bytes) -> Iterator[InputError]:
    text = decoded(source, content, "Markdown")
    _check_seen(source, text)
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if TO_FILL in line:
            yield InputError(source, f"line {number}", Plain("a text that is still to be filled in"), "a text of yours")
        if found := re.search(
            r"<[A-Za-z/!?]|(?i:javascript:|data:)|\]\((?!https://|#)|^\s*\[[^\]]*\]:(?!\s*https://)", line
        ):
            allowed = "Markdown without HTML, with links to https:// alone"
            yield InputError(source, f"line {number}", found[0], allowed)
    if not any(line.startswith("# ") for line in lines) or len(text.split()) < 20:
        yield InputError(source, "", Plain("less than a write-up"), "a heading and at least 20 words")


def _check_lock(source: object, content: bytes) -> None:
    for number, line in enumerate(decoded(source, content, "versions").split("\n"), start=1):
        if not re.fullmatch(r"|#[ A-Za-z0-9.]*|[A-Za-z0-9._-]+==[0-9A-Za-z.+!-]+", line):
            raise InputError(source, f"line {number}", line, "a version as numpy==2.1.0")


def check_weights(source: object, content: bytes) -> None:
    """Check that a file is of safetensors: a header that names tensors, and their numbers one after the other.

    Raises:
        InputError: It is not, or holds something else, too.
    """
    what = "safetensors: the length of a header, a JSON object of tensors, their numbers"
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= size <= min(_HEADER_BYTES, len(content) - 8):
        raise InputError(source, "header", Plain(f"a length of {size} in {len(content)} bytes"), what)
    header = parse_json(source, decoded(source, content[8 : 8 + size], what), what)
    if not isinstance(header, dict):
        raise InputError(source, "header", header, what)
    header = cast(dict[str, Any], header)
    spans = [_span(source, name, one) for name, one in header.items() if name != "__metadata__"]
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise InputError(source, "header", Plain(f"numbers from byte {first} on"), f"{end}: no gaps, no overlap")
        end = last
    if end != len(content) - 8 - size:
        found = Plain(f"{len(content) - 8 - size} bytes of numbers")
        raise InputError(source, "", found, f"{end}, as the header says")
    if len(json.dumps(header.get("__metadata__", {}))) > _HEADER_BYTES // 16:
        raise InputError(source, "header", Plain("much metadata"), "at most 64 KiB")


def _span(source: object, name: str, given: object) -> tuple[int, int]:
    """Return from which byte on and up to which one a tensor lies."""
    allowed = "a tensor with dtype, shape and data_offsets that fit each other"
    match given:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(first), int(last)], **rest}:
            numbers, shape = 1, cast(list[Any], shape)
            for length in shape:
                if type(length) is not int or not 0 <= length <= _NUMBER or numbers > _NUMBER:
                    raise InputError(source, f"header: {name}", shape, allowed)
                numbers *= length
            if (
                not cast(dict[str, Any], rest)
                and 0 <= first <= last
                and last - first == numbers * _TYPE_BYTES.get(kind, -1)
            ):
                return first, last
        case _:
            pass
    raise InputError(source, f"header: {name}", given, allowed)
