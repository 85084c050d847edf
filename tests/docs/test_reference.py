"""Tables of fields and columns tell of every one, with its default."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from campaign import thaw
from pages import ROOT
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from llmsched_gym.backends import replay
from llmsched_gym.backends.vllm.launch_spec import LaunchSpec
from llmsched_gym.calibration import latency_table, log_reading
from llmsched_gym.cluster.executors import LLMExecutors, RegularExecutors
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.policies.llmsched import LLMSched
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.suites.manifest import METRICS, Manifest, ScenarioEntry, Seeds
from llmsched_gym.suites.suite import REFERENCE_COLUMNS, WORKLOAD_COLUMNS
from llmsched_gym.workloads.applications import APPLICATIONS
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


@pytest.mark.parametrize("model", [Manifest, ScenarioEntry, Seeds])
def test_every_field_of_a_suite_is_explained(model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "suites.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.count("|") >= 4]
    for name, field in model.model_fields.items():
        row = next((row for row in rows if f"`{name}`" in " ".join(row[1:3])), None)
        assert row is not None, name
        if model is not Seeds:
            assert shown_default(field.default) in row, name
    assert all(f"`{name}`" in text for name in (*METRICS, *WORKLOAD_COLUMNS, *REFERENCE_COLUMNS))


def test_scenario_files_to_copy_are_valid() -> None:
    for path in sorted((ROOT / "configs" / "scenarios").glob("*.yaml")):
        load_scenario(path)


def test_columns_of_csv_files_are_explained() -> None:
    text = (ROOT / "docs" / "engine.md").read_text()
    measured = (*log_reading.CLOCK, *log_reading.SINCE_ARRIVAL)
    for names in (*latency_table._NAMES.values(), *replay._NAMES.values(), *measured):
        assert all(f"`{name}`" in text for name in names), names


def test_parameters_of_llmsched_are_explained_with_their_defaults() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    for name, parameter in list(inspect.signature(LLMSched.__init__).parameters.items())[1:]:
        default = f"`{parameter.default}`" if isinstance(parameter.default, str) else parameter.default
        assert f"| `{name}` | {default} |" in text


def test_fields_of_servers_and_counters_of_faults_are_explained() -> None:
    text = (ROOT / "docs" / "vllm.md").read_text()
    for name in (*LaunchSpec.model_fields, "refused", "timeouts", "http_errors", "malformed", "duplicate_outputs"):
        assert f"`{name}`" in text, name


def test_figures_of_profiles_are_those_of_the_shipped_ones() -> None:
    text = (ROOT / "docs" / "profiler.md").read_text()
    for name in APPLICATIONS:
        profile = load_profile(name)
        loss = profile.provenance["log_loss_nats_per_job"]
        sizes = len(profile.variables), sum(map(len, profile.parents)), sum(table.size for table in profile.tables)
        losses = (f"{loss[kind]:.2f}" for kind in ("independent", "network", "held_out"))
        assert f"| {name.replace('_', ' ')} | {' | '.join([*map(str, sizes), *losses])} |" in text


@pytest.mark.parametrize("table", ["maskable_ppo", "decima_curves"])
def test_reductions_after_training_are_those_of_the_frozen_curves(table: str) -> None:
    text = " ".join((ROOT / "docs" / "training.md").read_text().split())
    rows = thaw(ROOT / "baselines" / "reference" / f"{table}.csv")
    unit = "decisions" if table == "maskable_ppo" else "iterations"
    for row in rows:
        if row[unit] == max(other[unit] for other in rows):
            low, mid, high = (f"{row[name]:.1f}" for name in ("low_pct", "iqm_pct", "high_pct"))
            assert re.search(rf"\b{mid} %.{{0,60}}\b{low} to {high}\b", text), row
