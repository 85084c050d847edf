"""What is said on standard error while code is compiled: a line that changes on a terminal, a few lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

QUIET_VARIABLE: Final = "LLMSCHED_GYM_QUIET"
"""If it is set, nothing is said."""

_PATIENCE_S: Final = 1.0
"""Compiling that is over sooner is not worth a word."""

_EVERY_S: Final = 10.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """How far this process, and those that help it, are with compiling.

    Attributes:
        functions: Functions compiled so far.
        seconds: Time that it took, between `begin` and `end`.
        silent: Whether nothing is said.
    """

    def __init__(self) -> None:
        self.functions = 0
        self.silent = False
        self._before_s = 0.0
        self._since: float | None = None
        self._said_s: float | None = None
        self._on_line = False

    @property
    def seconds(self) -> float:
        """Time spent with compiling."""
        return self._before_s + (0.0 if self._since is None else time.monotonic() - self._since)

    @property
    def running(self) -> bool:
        """Whether something is being compiled."""
        return self._since is not None

    def begin(self) -> None:
        """Compiling begins."""
        self._since = time.monotonic()

    def show(self, folder: Path | None, far: str = "") -> None:
        """Say how far it is, if that has not just been said.

        Args:
            folder: Where the code is kept.
            far: What to say instead of the number of functions.
        """
        seconds, terminal = self.seconds, sys.stderr.isatty()
        first = self._said_s is None
        if seconds < _PATIENCE_S or not (first or terminal or seconds - (self._said_s or 0.0) >= _EVERY_S):
            return
        where = "" if folder is None or not (first or terminal) else f", the first time only; kept in {folder}"
        self._say(f"compiling{where}: {far or f'{self.functions} functions'}, {seconds:.0f} s", stays=not terminal)
        self._said_s = seconds

    def last_word(self) -> None:
        """Say that all is done, if anything has been said."""
        if self._said_s is not None:
            self._say(f"compiled {self.functions} functions in {self.seconds:.0f} s", stays=True)

    def end(self) -> None:
        """Compiling ends, for now."""
        self._before_s, self._since = self.seconds, None
        if self._on_line:
            self._say("", stays=False)

    def _say(self, text: str, *, stays: bool) -> None:
        if self.silent or os.environ.get(QUIET_VARIABLE):
            return
        line = f"llmsched_gym: {text}" if text else ""
        over = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{over}{line}" + ("\n" if stays else ""))
        sys.stderr.flush()
        self._on_line = bool(text) and not stays


progress: Final = Progress()
"""That of this process."""
