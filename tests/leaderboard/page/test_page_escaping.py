"""Names, write-ups and folders of somebody who means harm: all of it is shown as text."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading_pages import Page, assert_harmless

from llmsched_gym.leaderboard.page.board import Board, make_board
from llmsched_gym.leaderboard.page.building import pages
from llmsched_gym.leaderboard.page.entries import read_entry
from llmsched_gym.leaderboard.page.markup import element, joined
from llmsched_gym.leaderboard.page.write_up import write_up
from llmsched_gym.leaderboard.submission import Disclosures
from llmsched_gym.suites.suite import Suite

HOSTILE = (
    "<script>window.harmed=1</script>",
    '"><img src=x onerror="window.harmed=1">',
    "'><svg onload=window.harmed=1>",
    "</title></style></script><script>window.harmed=1</script>",
    "<!-- ", "]]>", "&lt;b&gt; &amp; &#60;", "javascript:window.harmed=1",
    "[click](javascript:window.harmed=1) [click](data:text/html,x) [click](//example.org)",
    '[click](https://example.org/"onmouseover="window.harmed=1)',
    "![picture](https://example.org/pixel.png)",
    "\u202eecafrus\u202c \u2066\u200b\ufeff\x00\x1b[31m\r\u2028",
    "W" * 5000,
    "`" * 9 + "<b>" + "`" * 9,
    "```\n</code></pre><script>window.harmed=1</script>",
    "# <h1>\n- <li>\n1. <li>\n> <q>",
)  # fmt: skip
UNSEEN = re.compile("[\u200b\u202a-\u202e\u2066-\u2069\ufeff\u2028\x00\x1b]")
ALLOWED = frozenset(("p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "pre", "code", "a", "strong", "em"))


def made_hostile(board: Board, text: str) -> Board:
    """The board with a text in every place that a submitter can fill."""

    def changed(entry):
        said = entry.submission
        disclosures = Disclosures.model_construct(
            **{
                **said.disclosures.model_dump(),
                **dict.fromkeys(("training", "tuning", "compute", "license", "code"), text),
            }
        )
        policy = said.policy.model_copy(update={"specs": (text,)})
        update = {"name": text, "authors": (text, text), "date": text, "disclosures": disclosures, "policy": policy}
        return replace(entry, submission=said.model_copy(update=update), write_up=text)

    return replace(board, rows=tuple(replace(row, entry=changed(row.entry)) for row in board.rows))


@pytest.fixture(scope="module")
def board(handed_in: Path, board_suite: Suite) -> Board:
    names = ("2026-01-02_first", "2026-01-03_shortest")
    return make_board(board_suite, [read_entry(handed_in / board_suite.name / one, board_suite) for one in names])


def names_and_attributes(made: Mapping[str, bytes]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """The bare elements of pages."""
    found = {}
    for name, content in made.items():
        if name.endswith(".html"):
            page = Page(content.decode())
            found[name] = [(one.name, tuple(one.attributes)) for one in page.elements]
    return found


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_written_adds_no_element(board: Board, text: str) -> None:
    made = pages([made_hostile(board, text)])
    for name, content in made.items():
        if name.endswith(".html"):
            page = Page(content.decode())
            assert_harmless(page)
            assert len(page.all("script")) == 2
            assert len(page.all("style")) == 1
            assert not UNSEEN.search(content.decode())
    plain = pages([made_hostile(board, "plain")])
    assert names_and_attributes(made)["index.html"] == names_and_attributes(plain)["index.html"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_write_ups_have_few_elements_and_lose_no_letter(text: str) -> None:
    found = write_up(text)
    page = Page(found)
    assert_harmless(page)
    assert {one.name for one in page.elements} <= ALLOWED
    assert not UNSEEN.search(found)


PIECES = st.sampled_from(
    (
        *(
            "<",
            ">",
            "&",
            '"',
            "'",
            "`",
            "```",
            "\n",
            "\n\n",
            "[",
            "](",
            ")",
            "https://a.b",
            "javascript:",
            "*",
            "**",
            "# ",
        ),
        *("- ", "1. ", "script", "</p>", "\u202e", "\\", "word", " ", "é", "\t", "\r", "\x0b", "\u0085"),
    )
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_write_up_is_harmless(text: str) -> None:
    page = Page(write_up(text))
    assert_harmless(page)
    assert {one.name for one in page.elements} <= ALLOWED
    for one in page.all("a"):
        assert set(one.attributes) == {"href", "rel"}
        assert re.fullmatch(r"https?://[^\s\"'<>]+", one.attributes["href"])


@given(st.text(max_size=60))
def test_text_comes_back_as_it_was_but_for_what_is_not_seen(text: str) -> None:
    found = Page(element("p", text, title=text)).one("p")
    assert found.text == found.attributes["title"]
    unseen = {one for one in found.text if unicodedata.category(one) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")}
    assert unseen <= {"\n", "\t"}
    if text.isprintable():
        assert found.text == text


@pytest.mark.parametrize("piece", ["[", "`", "*", "**", "[a](http://", "- ", "# ", "```\n", "[a", "*a", "`a", "1. a\n"])
def test_large_write_ups_take_no_time(piece: str) -> None:
    text = piece * (65_536 // len(piece))
    began = time.process_time()
    write_up(text)
    assert time.process_time() - began < 2.0


def test_write_ups_have_headings_lists_code_and_links() -> None:
    text = """# Title

Some *words* and **more**, `a < b`, [a page](https://example.org/x?a=1&b=2).
The paragraph goes on.

## Part
- one
  goes on
- two

1. first
2. second

```python
if a < b:
    **not bold**
```
"""
    link = '<a href="https://example.org/x?a=1&amp;b=2" rel="noopener noreferrer nofollow ugc">a page</a>'
    assert write_up(text) == (
        "<h3>Title</h3>"
        f"<p>Some <em>words</em> and <strong>more</strong>, <code>a &lt; b</code>, {link}.\nThe paragraph goes on.</p>"
        "<h4>Part</h4><ul><li>one\ngoes on</li><li>two</li></ul><ol><li>first</li><li>second</li></ol>"
        '<pre tabindex="0"><code>if a &lt; b:\n    **not bold**</code></pre>'
    )


def test_elements_escape_all_but_elements() -> None:
    inner = element("b", "<")
    assert joined("<b>", inner, 3, 0.5, None) == "&lt;b&gt;<b>&lt;</b>30.5"
    assert element("input", name_='"', checked=True, disabled=False, value=None) == '<input name="&quot;" checked>'
    assert element("p", hidden=0, data_x=1.0) == '<p hidden="0" data-x="1"></p>'
