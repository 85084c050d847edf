"""What the verbs that talk to real servers share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from llmsched_gym.errors import InputError
from llmsched_gym.extras import install_hint


@contextmanager
def needs_vllm_extra() -> Iterator[None]:
    """Turn a failed import of what only real servers need into one line.

    Raises:
        InputError: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("llmsched_gym"):
            raise
        allowed = f"the extra served: {install_hint('served')}"
        raise InputError("real servers", "module", error.name, allowed) from error


def parse_urls(text: str) -> tuple[str, ...]:
    """Read URLs separated by commas.

    Raises:
        InputError: One is no URL, or stands twice.
    """
    urls = tuple(url.strip().rstrip("/") for url in text.split(","))
    if not all(map(_is_url, urls)) or len(set(urls)) < len(urls):
        raise InputError("--server", "", text, "a URL as http://127.0.0.1:8000, or several, each once")
    return urls


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0  # out of range is a ValueError
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_fits and not re.search(r"\s", text)
