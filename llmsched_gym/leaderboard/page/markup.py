r"""HTML and SVG put together from elements, never from text: what anybody wrote is escaped on its way in.

There is one way for text into a page, and it escapes. Characters that are not seen, or that change how others are seen
(control characters, marks that turn the direction of writing), come out as what they are: ``\u202e``.
"""

from __future__ import annotations

import html
import unicodedata
from typing import Final

_UNFIT: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_EMPTY: Final = frozenset(("br", "input", "link", "meta", "wbr"))
"""Elements of HTML that have no end tag."""


class Markup(str):
    """Text that is HTML already. Outside this module only `document` makes any, of what comes with the package."""

    __slots__ = ()


Content = str | int | float | None
"""What an element can hold; None is nothing at all."""


def element(name: str, *children: Content, **attributes: str | float | bool | None) -> Markup:
    """Return an element.

    Args:
        name: Of the element.
        children: What it holds: `Markup` as it is, anything else as text.
        attributes: By name. A trailing underscore is dropped (``class_``), others become hyphens. True stands for the
            bare name; False and None leave an attribute out.
    """
    written = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _EMPTY:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: Content) -> Markup:
    """Return several one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def text(content: Content) -> Markup:
    """Return text as HTML that shows it."""
    if content is None:
        return Markup()
    return Markup(html.escape(seen(number(content) if isinstance(content, float) else str(content))))


def seen(content: str) -> str:
    """Return text in which every character is seen, but for line breaks and tabs."""
    if content.isascii() and content.isprintable():
        return content
    return "".join(
        one if one in "\n\t" or unicodedata.category(one) not in _UNFIT else one.encode("unicode_escape").decode()
        for one in content
    )


def number(value: float) -> str:
    """Return a number with at most three decimals."""
    found = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if found == "-0" else found


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = number(value) if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(seen(shown))}"'
