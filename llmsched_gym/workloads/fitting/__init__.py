"""Offline fitting of the shipped facts to measured data.

One module per application, named as the application, with two functions:

- ``fit(data_dir)`` returns the application's facts;
- ``compare(data_dir, block)`` returns a list of ``check.Comparison``: measured beside generated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import make_folder, write_atomic

FITTED = ("sequence_sorting", "document_merging", "code_generation", "web_search", "task_automation", "llm_compiler")
"""Applications whose facts are fitted."""


def fit_all(data_dir: Path, out_dir: Path) -> list[Path]:
    """Fit every application and write ``out_dir/<application>.json``.

    Args:
        data_dir: Folder of measured tables.
        out_dir: Folder for the facts; created if absent.

    Returns:
        The files written.

    Raises:
        InputError: `data_dir` or a table in it is missing.
    """
    if not data_dir.is_dir():
        raise InputError("data", "", str(data_dir), "an existing folder of measured tables")
    fitted = {name: _fit(name, data_dir) for name in FITTED}
    make_folder(out_dir)
    for name, facts in fitted.items():
        write_facts(facts, out_dir / f"{name}.json")
    return [out_dir / f"{name}.json" for name in fitted]


def _fit(name: str, data_dir: Path) -> Mapping[str, Any]:
    try:
        return import_module(f"{__name__}.{name}").fit(data_dir)
    except InputError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, StopIteration) as error:
        found = Plain(f"{type(error).__name__}: {error}")
        raise InputError(data_dir, name, found, f"tables in which the fit of {name} finds what it needs") from error


def write_facts(facts: Mapping[str, Any], path: Path) -> None:
    """Write facts as JSON, one entry's field per line, replacing `path` atomically."""
    text = "{\n" + ",\n".join(f"{json.dumps(key)}: {_entry(value)}" for key, value in facts.items()) + "\n}\n"
    write_atomic(path, text.encode())


def _entry(value: Any) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(field)}" for key, field in value.items()) + "\n}"
