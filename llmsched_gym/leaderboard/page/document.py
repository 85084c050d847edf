"""Pages as documents: one file each, which asks for nothing else and runs nothing but the scripts that come with it.

The policy in the head of a page names the digests of its style sheet and scripts. Whatever else got into a page would
be neither run nor fetched, by any browser.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from llmsched_gym.leaderboard.page.markup import Markup, element, joined

_ICON: Final = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
"""An empty one: browsers ask for a file of their own accord where a page names none."""


def document(title: str, body: Sequence[Markup], scripts: Sequence[str], rules: str = "") -> bytes:
    """Return a page.

    Args:
        title: In the title bar.
        body: What stands in it: the header, the main part, the footer.
        scripts: Names of scripts of the package.
        rules: Style rules of this page alone.
    """
    style = asset("page.css") + rules
    code = [asset(name) for name in ("theme.js", *scripts)]
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {' '.join(map(_source, code))}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href=_ICON),
        _raw("style", style),
        *(_raw("script", one) for one in code),
    )
    skip = element("a", "Skip to the content", href="#content", class_="skip")
    whole = element("html", head, element("body", skip, *body), lang="en")
    return joined(Markup("<!doctype html>\n"), whole, Markup("\n")).encode()


def header(*above: Markup) -> Markup:
    """Return the top of a page: where one is, and the choice of light or dark."""
    theme = element("button", "Dark page", type="button", id="theme", aria_pressed="false", hidden=True)
    return element("header", element("nav", *above, aria_label="Pages"), theme)


def main_part(*content: Markup) -> Markup:
    """Return what a page is about."""
    return element("main", *content, id="content", tabindex="-1")


@cache
def asset(name: str) -> str:
    """Return the text of a style sheet or script of the package."""
    return (files("llmsched_gym.leaderboard.page") / "assets" / name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _raw(name: str, content: str) -> Markup:
    """Return a style sheet or script as it is: in there, HTML has no escapes."""
    if f"</{name}" in content.lower():
        raise ValueError(f"a {name} that ends itself")
    return Markup(f"<{name}>{content}</{name}>")
