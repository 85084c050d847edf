"""Ctrl-C while the program loads: one line, whichever library is in the middle of importing itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Final

PROGRAM: Final = "llmsched-gym"


def end_at_interrupts() -> None:
    """From now on, let an interrupt end the program at once, with one line and exit code 1.

    Nothing has begun yet that would have to be ended in order. An exception would be no way out: libraries that are
    interrupted while they are imported swallow it, or turn it into errors of their own. In other programs that use this
    package, where interrupts are ignored, and beside the main thread nothing is changed.
    """
    name = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if name == PROGRAM and usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def raise_interrupts() -> None:
    """Let interrupts be exceptions again, as they usually are."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(1)
