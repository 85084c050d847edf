"""What people may write into a submission: text that is what it looks like, and that stays text on a page.

Names stand in tables beside those of others. So a name of a scheduler is of plain ASCII; a name of a person may have
letters of any script, but a word has those of one, since a Cyrillic "а" among Latin letters is there to deceive.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from llmsched_gym.complaints import refused
from llmsched_gym.errors import Plain

TO_FILL: Final = "TO BE FILLED IN"
"""Stands where something has to be written before a submission is complete."""

_UNFIT: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Categories of characters that are not seen, or change how others are seen."""


def _filled_in(text: Any) -> Any:
    if isinstance(text, str) and TO_FILL in text:
        raise refused("", Plain("a text that is still to be filled in"), "a text of yours")
    return text


def _seen_as_it_is(text: str) -> str:
    """Refuse characters that are not seen, other spellings of the same letters, and blanks at the ends."""
    odd = next((one for one in text if unicodedata.category(one) in _UNFIT and one != "\n"), None)
    if odd is not None:
        raise refused("", Plain(f"the character U+{ord(odd):04X}"), "characters that can be seen")
    if unicodedata.normalize("NFKC", text) != text:
        raise refused("", text, "text in Unicode's plain form (NFKC)")
    if text != text.strip():
        raise refused("", text, "text without blanks at its ends")
    return text


def _without_markup(text: str) -> str:
    if found := re.search(r"[<>`]|\]\(|https?://|javascript:", text):
        raise refused("", Plain(f"{found[0]!r} in a text"), "text without markup and links")
    return text


def _one_script_a_word(text: str) -> str:
    for word in re.split(r"[^\w]+|_", text):
        scripts = {unicodedata.name(one, "?").partition(" ")[0] for one in word if one.isalpha()}
        if len(scripts) > 1:
            raise refused("", text, "words with the letters of one script each")
    if any(unicodedata.category(one)[0] not in "LM" and one not in "0123456789 .,'_-" for one in text):
        raise refused("", text, "letters, digits, blanks and . , ' _ -")
    return text


def like(pattern: str, allowed: str) -> tuple[AfterValidator, FieldInfo]:
    """Return what marks text of a pattern: as a pattern alone would, with words about what is allowed.

    Args:
        pattern: Regular expression, from beginning to end.
        allowed: What matches it, as a phrase.
    """

    def check(text: str) -> str:
        if not re.search(pattern, text) or text.endswith("\n"):
            raise refused("", text, allowed)
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


_TITLE: Final = r"^[A-Za-z0-9]([A-Za-z0-9 ._+:/()-]*[A-Za-z0-9).+])?$"
_LINK: Final = r"^(https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/%+#?=&-]*)?|not published|in this package)$"

Title = Annotated[
    str,
    BeforeValidator(_filled_in),
    Field(min_length=1, max_length=60),
    *like(_TITLE, "ASCII letters, digits, blanks and . _ + : / ( ) -, a letter or digit first"),
]
"""Name of a scheduler, or of a licence."""

_SHOWN: Final = (BeforeValidator(_filled_in), AfterValidator(_seen_as_it_is))

Person = Annotated[str, Field(min_length=1, max_length=80), *_SHOWN, AfterValidator(_one_script_a_word)]
"""Name of a person or a group."""

Prose = Annotated[str, Field(min_length=1, max_length=2000), *_SHOWN, AfterValidator(_without_markup)]
"""Some sentences."""

Link = Annotated[
    str,
    BeforeValidator(_filled_in),
    Field(min_length=1, max_length=300),
    *like(_LINK, "an address that begins with https://, not published, or in this package"),
]
"""Where something is to be found."""

Digest = Annotated[str, *like("^[0-9a-f]{32}$", "32 hexadecimal digits (0 to 9, a to f)")]
ShortDigest = Annotated[str, *like("^[0-9a-f]{16}$", "16 hexadecimal digits (0 to 9, a to f)")]
