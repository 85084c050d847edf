"""Recipes tell in one line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AGENTS = Path(__file__).resolve().parents[2] / "agents"


@pytest.mark.parametrize(
    ("recipe", "missing"),
    [
        ("sb3_maskable_ppo", "torch"),
        ("sb3_maskable_ppo", "sb3_contrib"),
        ("decima", "torch"),
        ("decima", "tensorboard"),
        ("uncertainty_gnn", "torch"),
        ("uncertainty_gnn", "tensorboard"),
    ],
)
def test_what_is_missing_is_told(recipe: str, missing: str) -> None:
    program = f"""
import runpy, sys
sys.modules[{missing!r}] = None
sys.argv = [{recipe!r}]
runpy.run_path({str(AGENTS / f"{recipe}.py")!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr == f"error: {missing} is not installed; expected: pip install -e '.[sb3]', in the checkout\n"
