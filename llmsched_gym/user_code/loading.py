"""Modules of users, by name or by file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_module(location: str) -> ModuleType:
    """Import a module by its dotted name, or run a Python file, named by a path that ends in ``.py``, as one.

    A file runs anew each time. It is registered under a name of its own, so that dataclasses and pickles in it find
    their module.

    Raises:
        ImportError: There is no such module or file; and whatever the code itself raises.
    """
    if not location.endswith(".py"):
        if not all(part.isidentifier() for part in location.split(".")):
            raise ImportError(f"{location!r} is no dotted name of a module")
        return importlib.import_module(location)
    path = Path(location)
    name = f"llmsched_gym_file_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}"
    description = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if description is None or description.loader is None:
        raise ImportError(f"no file {location}")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
