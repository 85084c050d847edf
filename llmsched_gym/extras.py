"""Optional parts of this package: what to type where one is missing."""

from __future__ import annotations

import shlex
import sys


def install_hint(extra: str) -> str:
    """Return the command that adds an extra to the environment that runs, whatever ``pip`` means in the shell."""
    return f"{shlex.quote(sys.executable)} -m pip install 'llmsched-gym[{extra}]'"
