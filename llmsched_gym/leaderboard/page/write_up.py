"""Write-ups as HTML: a small part of Markdown, line by line, all of it escaped.

Headings, paragraphs, lists, fenced and inline code, emphasis, and links to http(s). Whatever else stands in a write-up,
HTML above all, is shown as the text that it is. Every pattern is matched in time that grows with the length of the text
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llmsched_gym.leaderboard.page.markup import Markup, element, joined

_FENCE: Final = "```"
_HEADING: Final = re.compile(r"(#{1,6}) (.*)")
_POINT: Final = re.compile(r" {0,3}(?:[-*]|([0-9]{1,3})[.)]) (.*)")

_INLINE: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<label>[^\[\]]+)\]\((?P<link>https?://[^\s()<>\"'`\\]+)\)"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\*(?P<em>[^*\s][^*]*)\*"
)

_LOWEST: Final = 6
_SHIFT: Final = 2
"""A page has its own headings of the first two levels above those of a write-up."""


def write_up(content: str) -> Markup:
    """Return a write-up as HTML."""
    return joined(*_blocks(iter(content.splitlines())))


def _blocks(lines: Iterator[str]) -> Iterator[Markup]:
    paragraph: list[str] = []
    points: list[str] = []
    numbered = False

    def ended() -> Iterator[Markup]:
        if paragraph:
            yield element("p", _inline("\n".join(paragraph)))
            paragraph.clear()
        if points:
            yield element("ol" if numbered else "ul", *(element("li", _inline(point)) for point in points))
            points.clear()

    for line in lines:
        if line.startswith(_FENCE):
            yield from ended()
            yield element("pre", element("code", "\n".join(_fenced(lines))), tabindex=0)
        elif not line.strip():
            yield from ended()
        elif heading := _HEADING.fullmatch(line):
            yield from ended()
            level = min(len(heading[1]) + _SHIFT, _LOWEST)
            yield element(f"h{level}", _inline(heading[2]))
        elif point := _POINT.fullmatch(line):
            if paragraph or (points and numbered != (point[1] is not None)):
                yield from ended()
            numbered = point[1] is not None
            points.append(point[2])
        elif points:
            points[-1] += f"\n{line.strip()}"
        else:
            paragraph.append(line)
    yield from ended()


def _fenced(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines up to the end of a fenced block; without an end, all."""
    for line in lines:
        if line.startswith(_FENCE):
            return
        yield line


def _inline(content: str) -> Markup:
    parts: list[str] = []
    done = 0
    for found in _INLINE.finditer(content):
        parts.append(content[done : found.start()])
        parts.append(_marked(found))
        done = found.end()
    return joined(*parts, content[done:])


def _marked(found: re.Match[str]) -> Markup:
    if found["code"]:
        return element("code", found["code"])
    if found["link"]:
        return link(found["link"], found["label"])
    return element("strong", found["strong"]) if found["strong"] else element("em", found["em"])


def link(address: str, label: str) -> Markup:
    """Return a link to another site, which is told nothing of this one."""
    return element("a", label, href=address, rel="noopener noreferrer nofollow ugc")
