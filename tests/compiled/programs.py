"""Small programs with compiled functions of their own, run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

COUNT: Final = """
from llmsched_gym._code.progress import progress
print(progress.functions)
"""
"""Code that prints how many functions a process has compiled."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment variables of a process that finds modules in a folder, and keeps its code there too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMSCHED", "_LLMSCHED"))}
    path = os.pathsep.join((str(folder), str(ROOT)))
    return {**kept, "PYTHONPATH": path, "LLMSCHED_GYM_CACHE": str(folder / "cache"), **more}


def run(folder: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process; see `environment`."""
    words = [sys.executable, "-c", code]
    return subprocess.run(
        words, capture_output=True, text=True, cwd=folder, env=environment(folder, **more), timeout=300, check=False
    )
