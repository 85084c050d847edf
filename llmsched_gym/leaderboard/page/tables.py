"""Tables: a caption, headers with a scope, and room of their own to be moved sideways in on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence

from llmsched_gym.leaderboard.page.markup import Content, Markup, element


def table(
    caption: str,
    header: Sequence[Content],
    rows: Sequence[Sequence[Content]],
    ids: Sequence[str] = (),
    left: bool = False,
) -> Markup:
    """Return a table whose rows begin with what they are of.

    Args:
        caption: What it is of.
        header: Names of the columns.
        rows: Cells.
        ids: Of each row, the entry that it is of; rows of entries that are filtered out are hidden.
        left: Whether cells begin at the left: words, not numbers.
    """
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:]),
            data_entry=ids[number] if ids else None,
        )
        for number, row in enumerate(rows)
    ]
    parts = (element("caption", caption), element("thead", head), element("tbody", *body))
    return scrolled(element("table", *parts, class_="left" if left else None), caption)


def scrolled(content: Markup, label: str) -> Markup:
    """Return what may be wider than the screen: it is scrolled by itself, by the keyboard, too."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)
