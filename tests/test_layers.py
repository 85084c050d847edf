"""Imports run one way, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "llmsched_gym"


def layers() -> list[list[str]]:
    """The packages from the lowest to the highest; those of one layer stand together."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("Imports run one way: ")[1].split(";")[0]
    return [re.findall(r"`(\w+)`", layer) for layer in text.split("→")]


def imports(file: Path) -> set[str]:
    """Packages of ours that a file imports, at its head or in a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "llmsched_gym":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.removeprefix("llmsched_gym.") if node.module.startswith("llmsched_gym.") else "")
        elif isinstance(node, ast.Import):
            names.update(alias.name.removeprefix("llmsched_gym.") for alias in node.names)
    return {name.partition(".")[0] for name in names}


def test_every_package_has_a_layer() -> None:
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    placed = [name for layer in layers() for name in layer]
    assert len(set(placed)) == len(placed)
    assert found - {"_code", "user_code", "scenarios"} == set(placed)


def test_no_package_imports_a_higher_one() -> None:
    height = {name: number for number, layer in enumerate(layers()) for name in layer}
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for package in height
        for file in (PACKAGE / package).rglob("*.py")
        for name in sorted(imports(file) & height.keys())
        if name != package and height[name] >= height[package]
    ]
    assert wrong == []
