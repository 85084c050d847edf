"""Tables of fields and columns tell of every one, with its default."""

from __future__ import annotations

from typing import Any

import pytest
from pages import ROOT
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from llmsched_gym.backends import latency_table, replay
from llmsched_gym.cluster.spec import ClusterSpec, LLMExecutors, RegularExecutors
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.arrivals import Diurnal, Gamma, MarkovModulated, Trace

EXECUTORS = ("A group of LLM executors", "A group of regular executors")


def section(begin: str, end: str) -> str:
    """The part of the field reference between two texts."""
    text = (ROOT / "docs" / "scenarios.md").read_text()
    return text.split(begin, 1)[1].split(end, 1)[0] if end else text.split(begin, 1)[1]


def shown_default(value: Any) -> str:
    """A default as the reference writes it."""
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{item:g}' for item in value)}]`"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else "" if value is None else f"{value:g}".replace("1e+05", "100000")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Scenario, section("## Scenario\n", "## Arrivals")),
        (Gamma, section("`gamma`", "`mmpp`")),
        (MarkovModulated, section("`mmpp`", "`diurnal`")),
        (Diurnal, section("`diurnal`", "`trace`")),
        (Trace, section("| `trace`", "```yaml")),
        (ClusterSpec, section("## Cluster", EXECUTORS[0])),
        (LLMExecutors, section(EXECUTORS[0], EXECUTORS[1])),
        (RegularExecutors, section(EXECUTORS[1], "")),
    ],
)
def test_every_field_is_explained_with_its_default(model: type[BaseModel], text: str) -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.count("|") >= 4]
    for name, field in model.model_fields.items():
        if name == "kind":
            continue  # it chose the model
        row = next((row for row in rows if f"`{name}`" in row), None)
        assert row is not None, name
        if field.default_factory is None:
            assert shown_default(field.default) in row[row.index(f"`{name}`") :], name


def test_scenario_files_to_copy_are_valid() -> None:
    for path in sorted((ROOT / "configs" / "scenarios").glob("*.yaml")):
        load_scenario(path)


def test_columns_of_csv_files_are_explained() -> None:
    text = (ROOT / "docs" / "engine.md").read_text()
    for names in (*latency_table._NAMES.values(), *replay._NAMES.values()):
        assert all(f"`{name}`" in text for name in names), names
