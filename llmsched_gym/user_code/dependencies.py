"""Which files decide what users' code does, so that results are never taken over from code that has changed since.

From the files that define it, imports are followed through every file that is a user's own: base classes and helpers in
other files count like the file itself. Python and this package do not (their versions and sources are known elsewhere),
and of installed packages the version counts. Where the text of a file does not tell what it uses, that is said.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

from llmsched_gym.user_code.imports import Text, prefixes, read_text
from llmsched_gym.user_code.installed import PACKAGE, is_installed

_OWN: Final = PACKAGE.name
_ABSENT: Final = "absent"


@dataclass(frozen=True)
class Dependencies:
    """What some code depends on.

    Attributes:
        files: Digest of each file of the user, by module or file name.
        packages: Version of each installed package that they import.
        doubt: What cannot be told from the text; empty if everything can.
    """

    files: Mapping[str, str]
    packages: Mapping[str, str]
    doubt: str = ""

    @property
    def digest(self) -> str:
        """Short hex digest of files and versions."""
        text = json.dumps([dict(self.files), dict(self.packages)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def dependencies(
    modules: Iterable[str],
    files: Iterable[Path] = (),
    packages: Iterable[str] = (),
    *,
    nested: bool = False,
) -> Dependencies:
    """Find what modules depend on.

    Args:
        modules: Modules and files that the code begins with, as `load_module` takes them.
        files: What the code reads, by its own account: files, or folders for all files in them. Without any, a call
            that reads a file is a doubt.
        packages: Installed packages that count besides those that are imported.
        nested: Whether those of other policies that the code has loaded are among `modules`. If not, a call that loads
            one whose name is made at run time is a doubt.
    """
    walk = _Walk(accounted=bool(files := list(files)), nested=nested)
    for path in files:
        walk.add_file(path)
    for location in modules:
        walk.add_location(location)
    versions = {name: _version(name) for name in sorted({*walk.packages, *packages})}
    return Dependencies(dict(sorted(walk.files.items())), versions, next(iter(walk.doubts), ""))


class _Walk:
    """The walk along imports.

    Args:
        accounted: Whether the files that the code reads are known.
        nested: Whether the policies that the code loads are.
    """

    def __init__(self, accounted: bool, nested: bool) -> None:
        self.files: dict[str, str] = {}
        self.packages: set[str] = set()
        self.doubts: list[str] = []
        self._accounted = accounted
        self._nested = nested
        self._seen: set[str] = set()

    def add_file(self, path: Path) -> None:
        """Add a file that is no module, or all files in a folder."""
        if not path.is_dir():
            self._keep(path.name, path)
            return
        for inside in sorted(path.rglob("*")):
            if inside.is_file():
                self._keep(inside.relative_to(path.parent).as_posix(), inside)

    def add_location(self, location: str) -> None:
        """Add a module or file, as `load_module` takes it, and what it imports."""
        if not location.endswith(".py"):
            if not self.add_module(location):
                self.doubts.append(f"{location} has no file")
        elif not (path := Path(location)).is_file():
            self.files.setdefault(location, _ABSENT)
        elif location not in self._seen:
            self._seen.add(location)
            self._keep(path.name, path)
            self._follow(path, "")

    def add_module(self, name: str) -> bool:
        """Add a module and what it imports; return whether there is such a module."""
        if name in self._seen:
            return True
        top = name.partition(".")[0]
        if top == _OWN or top in sys.stdlib_module_names:
            return True
        found = _find_spec(name)
        path = None if found is None else _origin(found)
        if found is None or (path is None and found.submodule_search_locations is None):
            return False
        self._seen.add(name)
        if path is None:  # a folder without __init__.py
            return True
        if is_installed(path):
            self.packages.add(top)
            return True
        self._keep(path.name if name.startswith("llmsched_gym_file_") else name, path)
        if path.suffix == ".py":
            self._follow(path, found.parent or "")
        return True

    def _follow(self, path: Path, package: str) -> None:
        try:
            text = read_text(path, package)
        except (OSError, ImportError, SyntaxError, ValueError) as error:
            self.doubts.append(f"{path.name} cannot be read ({error})")
            return
        if text.runs:
            self.doubts.append(f"{text.runs} runs code that the file does not name")
        if text.loads and not self._nested:
            self.doubts.append(f"{text.loads} loads a policy that the file does not name")
        if text.reads and not self._accounted:
            self.doubts.append(f"{text.reads} reads a file that no argument and no entry of sources names")
        for spec in text.policies:
            if location := spec.partition("?")[0].rpartition(":")[0]:  # the name of a built-in one has none
                self.add_location(location)
        for name in _imported(text):
            *above, whole = prefixes(name)
            present = all(self.add_module(one) for one in above)
            if not (present and self.add_module(whole)) and not above:
                self.files.setdefault(whole, _ABSENT)  # when it is there one day, that is a change

    def _keep(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        unlike = next(key for key in _numbered(name) if self.files.get(key, digest) == digest)
        self.files[unlike] = digest


def _numbered(name: str) -> Iterator[str]:
    """Yield a name, and the same with numbers: files of one name may come from several folders."""
    yield name
    number = 1
    while True:
        number += 1
        yield f"{name} ({number})"


def _imported(text: Text) -> Iterator[str]:
    """Yield the names of what a file imports, with the modules that come along with all names of a package."""
    yield from text.modules
    for base in text.starred:
        for name in getattr(sys.modules.get(base), "__all__", ()):
            yield f"{base}.{name}"


def _find_spec(name: str) -> ModuleSpec | None:
    """Find a module without running any code: as it is loaded, else where an import would find it."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    above, _, _ = name.rpartition(".")
    path = None
    if above:
        package = _find_spec(above)
        if package is None or package.submodule_search_locations is None:
            return None
        path = list(package.submodule_search_locations)
    for finder in sys.meta_path:
        found = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if found is not None:
            return found
    return None


def _origin(spec: ModuleSpec) -> Path | None:
    """Return the file of a module; None if it has none."""
    return Path(spec.origin) if spec.has_location and spec.origin else None


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _version(package: str) -> str:
    """Return the version of what provides a package; empty if that is not known."""
    names = _distributions().get(package, [package])
    versions = []
    for name in names:
        try:
            versions.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(sorted(set(versions)))
