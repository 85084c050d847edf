"""What the verbs that talk to real servers share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llmsched_gym.cli.flags import parse_names
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
    urls = tuple(url.rstrip("/") for url in parse_names("--server", text))
    for index, url in enumerate(urls):
        if not url.startswith(("http://", "https://")) or url in urls[:index]:
            raise InputError("--server", "", url, "a URL as http://127.0.0.1:8000, or several, each once")
    return urls
