"""What users' code says when the process ends."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress


def contain_exit() -> None:
    """Send to standard error what users' code still writes when the process ends, too.

    To be called after that code has run: of what is registered for the exit, the latest comes first.
    """
    atexit.register(_turn_stdout)


def _turn_stdout() -> None:
    with suppress(AttributeError, OSError, ValueError):  # None, closed, or nobody reads it any more
        sys.stdout.flush()
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
