"""What a Python file of a user says that it uses: modules, and what cannot be told from its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import Final, NamedTuple

_RUNS: Final = frozenset(
    {"exec", "eval", "exec_module", "load_module", "spec_from_file_location", "SourceFileLoader", "run_path", "CDLL"}
    | {"run_module", "load_library"}
)
"""Calls that run code which the text of the file does not name; ``eval`` as a method is another thing."""

_IMPORTS: Final = frozenset({"import_module", "__import__"})
"""Calls that import a module whose name is their first argument."""

_READS: Final = frozenset(
    {"read_text", "read_bytes", "loadtxt", "genfromtxt", "fromfile", "memmap", "load_file", "safe_open", "load_model"}
    | {"from_pretrained", "read_csv", "read_json", "read_parquet", "read_pickle", "read_table", "read_excel"}
)
"""Calls that read a file, whatever they belong to."""

_PARSERS: Final = frozenset({"json", "pickle", "yaml", "tomllib", "marshal", "self", "cls"})
"""Whose ``load`` takes an open file, or is written out in the same class: opening it is the call that counts."""

_OPENERS: Final = frozenset({"io", "gzip", "bz2", "lzma", "codecs", "os"})
"""Modules whose ``open`` takes the mode after the file, as the built-in one; that of a path takes it first."""


class Text(NamedTuple):
    """What is found in a file.

    Attributes:
        modules: Dotted names of modules that it imports; some may turn out to be names of functions or classes.
        starred: Those of them that all names are taken from.
        policies: What it loads as policies, by `load_policy` with a name that stands there.
        runs: Place and text of the first call that runs code which it does not name; empty if there is none.
        reads: Of the first call that reads a file.
        loads: Of the first call that loads a policy whose name is made at run time.
    """

    modules: tuple[str, ...]
    starred: tuple[str, ...]
    policies: tuple[str, ...]
    runs: str
    reads: str
    loads: str


def read_text(path: Path, package: str) -> Text:
    """Read a Python file.

    Args:
        path: The file.
        package: Package that its relative imports start from; empty if it is in none.

    Raises:
        OSError: It cannot be read.
        SyntaxError, ValueError: It is no Python.
    """
    tree = ast.parse(path.read_bytes())
    modules: dict[str, None] = {}
    starred: dict[str, None] = {}
    policies: dict[str, None] = {}
    first = {"runs": "", "reads": "", "loads": ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name: None for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package or None) if node.level else node.module
            names = [alias.name for alias in node.names]
            modules |= {str(base): None} | {f"{base}.{name}": None for name in names if name != "*"}
            starred |= {str(base): None for name in names if name == "*"}
        elif isinstance(node, ast.Call):
            name, said = _called(node), _said(node)
            kind = _kind(node, name, said)
            if kind == "module":
                modules[said] = None
            elif kind == "policy":
                policies[said] = None
            elif kind and not first[kind]:
                first[kind] = f"{path.name}, line {node.lineno} ({name})"
    return Text(tuple(modules), tuple(starred), tuple(policies), **first)


def _kind(call: ast.Call, name: str, said: str) -> str:
    """Return what a call does: import a "module" or load a "policy" that it names, a field of `Text`, or nothing."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    above = owner.id if isinstance(owner, ast.Name) else ""
    if name in _IMPORTS:
        return "module" if said and not said.startswith(".") else "runs"
    if name == "load_policy":
        return "policy" if said else "loads"
    if name in _RUNS and not (name == "eval" and owner is not None):
        return "runs"
    if name == "open":
        return "" if _writes(call, position=0 if owner is not None and above not in _OPENERS else 1) else "reads"
    if name in _READS or (name == "load" and above not in _PARSERS):
        return "reads"
    return ""


def _writes(call: ast.Call, position: int) -> bool:
    """Tell whether a call of ``open``, with the mode at a position or by name, only writes."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[position : position + 1]
    mode = given[0].value if given and isinstance(given[0], ast.Constant) else "r"
    return isinstance(mode, str) and set(mode) <= set("waxbt") and not set("wax").isdisjoint(mode)


def _called(call: ast.Call) -> str:
    """Return the last name of what is called; empty if it has none."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _said(call: ast.Call) -> str:
    """Return the text that a call has as its first argument; empty if that is made at run time."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    first = next(iter(values), None)
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def prefixes(name: str) -> Iterator[str]:
    """Yield the packages above a dotted name, and itself."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])
