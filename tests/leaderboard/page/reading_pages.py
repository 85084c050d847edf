"""A strict reader of pages: what browsers would mend in silence is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = frozenset(("br", "input", "link", "meta", "wbr"))


@dataclass
class Element:
    """An element, its attributes, and all text within."""

    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page in the order of their begins."""

    content: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.content)
        self.close()
        assert self._open == [], f"not closed: {[one.name for one in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        found = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(found)
        if tag not in EMPTY:
            self._open.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        found = self._open.pop()
        assert found.name == tag, f"<{found.name}> ended by </{tag}>"

    def handle_data(self, data: str) -> None:
        for one in self._open:
            one.text += data

    def all(self, *names: str) -> list[Element]:
        """The elements of some names."""
        return [one for one in self.elements if one.name in names]

    def one(self, name: str) -> Element:
        """The only element of a name."""
        (found,) = self.all(name)
        return found

    @property
    def policy(self) -> str:
        """Its content security policy."""
        (found,) = (one for one in self.all("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy")
        return found.attributes["content"]


def assert_harmless(page: Page) -> None:
    """Nothing in a page runs but its own scripts, and nothing is fetched."""
    for one in page.elements:
        assert not [
            name for name in one.attributes if name.startswith("on") or name in ("style", "srcdoc", "srcset", "src")
        ]
        assert one.name not in ("iframe", "object", "embed", "base", "img", "image", "foreignobject", "animate", "set")
        address = one.attributes.get("href", "")
        if one.name == "a" and re.match("[a-z]+:", address, re.IGNORECASE):
            assert address.startswith(("https://", "http://"))
            assert "noopener" in one.attributes["rel"]
        elif one.name == "link":
            assert address.startswith("data:image/svg+xml")
        else:
            assert not re.match(r"[a-z]+:|//", address, re.IGNORECASE)
