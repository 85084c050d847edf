"""Optional parts of this package: what to type where one is missing."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec


def install_hint(extra: str) -> str:
    """Return the command that adds an extra to the environment that runs, whatever ``pip`` means in the shell."""
    return f"{shlex.quote(sys.executable)} -m pip install 'llmsched-gym[{extra}]'"


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported; a folder of its name, which Python takes for a namespace, does not do."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
