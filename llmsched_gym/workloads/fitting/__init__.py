"""Offline fitting of the shipped facts to measured data.

One module per application, named as the application, with two functions:

- ``fit(data_dir)`` returns the application's facts;
- ``compare(data_dir, block)`` returns a list of ``check.Comparison``: measured beside generated.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from llmsched_gym.errors import InputError

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
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FITTED:
        facts = import_module(f"{__name__}.{name}").fit(data_dir)
        path = out_dir / f"{name}.json"
        write_facts(facts, path)
        written.append(path)
    return written


def write_facts(facts: Mapping[str, Any], path: Path) -> None:
    """Write facts as JSON, one entry's field per line, replacing `path` atomically."""
    text = "{\n" + ",\n".join(f"{json.dumps(key)}: {_entry(value)}" for key, value in facts.items()) + "\n}\n"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _entry(value: Any) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(field)}" for key, field in value.items()) + "\n}"
