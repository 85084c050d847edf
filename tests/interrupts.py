"""Processes that tests interrupt."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hearing_interrupts() -> Iterator[None]:
    """Let processes that are started within hear Ctrl-C, even where this one does not.

    A job in the background of a shell ignores it, and so would its children: what is ignored stays so in a new program,
    while a handler becomes the default again.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
