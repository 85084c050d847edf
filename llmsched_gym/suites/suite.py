"""Suites as they are used: the manifest, the digests of all jobs, and the frozen scores of the reference policies.

A suite is a folder:

    suite.yaml      what is run (`Manifest`)
    workloads.csv   digest of the jobs of each scenario and seed
    reference.csv   frozen: the metric that the reference reached on them; may be missing
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.config import read_mapping
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.numbers import real_number
from llmsched_gym.suites.manifest import Manifest, ScenarioEntry
from llmsched_gym.workloads.files import read_text

MANIFEST: Final = "suite.yaml"
WORKLOADS: Final = "workloads.csv"
REFERENCE: Final = "reference.csv"

WORKLOAD_COLUMNS: Final = ("scenario", "seed", "workload_digest")
REFERENCE_COLUMNS: Final = ("scenario", "seed", "workload_digest", "policy", "metric", "value", "episode_digest")

_FOLDER: Final = Path(__file__).parent

SUITES: Final = ("light-v1", "standard-v1", "small-v1", "hetero-v1")
"""Suites that come with the package."""


@dataclass(frozen=True)
class SuiteScenario:
    """One scenario of a suite.

    Attributes:
        name: In tables and folders.
        scenario: Name of the scenario that comes with the package.
        jobs: Jobs per episode; None: the scenario's.
        load: Offered work over capacity; None: the scenario's.
        metric: What is judged, a column of ``results.csv``; smaller is better.
        reference: Policy that scores are relative to.
        split: Split that jobs are drawn from.
        seeds: Seeds, ascending.
        digests: Workload digest per seed.
        reference_values: Frozen: the metric of the reference per seed; empty if it was not frozen.
    """

    name: str
    scenario: str
    jobs: int | None
    load: float | None
    metric: str
    reference: str
    split: str
    seeds: tuple[int, ...]
    digests: Mapping[int, str]
    reference_values: Mapping[int, float]

    @cached_property
    def setting(self) -> Setting:
        """What every policy meets."""
        return replace(Setting.make(self.scenario, self.jobs, self.load), split=self.split)

    @property
    def frozen(self) -> bool:
        """Whether the reference's values are there for all seeds."""
        return self.reference_values.keys() >= set(self.seeds)


@dataclass(frozen=True)
class Suite:
    """A suite.

    Attributes:
        name: Name and version.
        about: One sentence.
        split: Split that jobs are drawn from.
        seeds: Seeds of every scenario, ascending.
        scenarios: In the order of tables.
        folder: Where its files are.
    """

    name: str
    about: str
    split: str
    seeds: tuple[int, ...]
    scenarios: tuple[SuiteScenario, ...]
    folder: Path

    def scenario(self, name: str) -> SuiteScenario:
        """Return a scenario by its name in the suite.

        Raises:
            InputError: There is none.
        """
        found = {one.name: one for one in self.scenarios}
        if name not in found:
            raise InputError(f"suite {self.name}", "scenario", name, suggest(name, found))
        return found[name]

    @property
    def frozen(self) -> bool:
        """Whether the references' values are there for all scenarios and seeds."""
        return all(scenario.frozen for scenario in self.scenarios)

    @cached_property
    def digest(self) -> str:
        """Digest (blake2b, 16 bytes) of what is run and how it is judged; frozen references are no part of it."""
        rows = [
            [one.name, one.scenario, one.jobs, one.load, one.metric, one.reference, sorted(one.digests.items())]
            for one in self.scenarios
        ]
        content = json.dumps([self.name, self.split, list(self.seeds), rows])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def load_suite(given: str | Path) -> Suite:
    """Read a suite that comes with the package, by name, or a folder of one (any string with a dot or slash).

    Raises:
        InputError: Unknown name, unreadable or incomplete files, or a wrong field.
    """
    folder = suite_folder(given)
    manifest = read_manifest(folder)
    digests = _read_digests(folder / WORKLOADS, manifest)
    values = _read_reference(folder / REFERENCE, manifest, digests)
    seeds = seeds_of(manifest)
    return Suite(
        manifest.name,
        manifest.about,
        manifest.split,
        seeds,
        tuple(_scenario(entry, manifest, seeds, digests, values) for entry in manifest.scenarios),
        folder,
    )


def suite_folder(given: str | Path) -> Path:
    """Return the folder of a suite.

    Raises:
        InputError: There is no such suite.
    """
    text = str(given)
    if text in SUITES:
        return _FOLDER / text
    if not any(mark in text for mark in "./\\"):
        raise InputError("suite", "", text, f"a folder, or {suggest(text, SUITES)}")
    return Path(given)


def read_manifest(folder: Path) -> Manifest:
    """Read ``suite.yaml``.

    Raises:
        InputError: It cannot be read, or a field is wrong.
    """
    path = folder / MANIFEST
    content = read_mapping(path, "the manifest of a suite: a mapping (YAML)")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise from_validation(path, error, Manifest, content) from None


def seeds_of(manifest: Manifest) -> tuple[int, ...]:
    """Return the seeds of a manifest."""
    return tuple(range(manifest.seeds.first, manifest.seeds.first + manifest.seeds.count))


def _scenario(
    entry: ScenarioEntry,
    manifest: Manifest,
    seeds: tuple[int, ...],
    digests: Mapping[tuple[str, int], str],
    values: Mapping[tuple[str, int], float],
) -> SuiteScenario:
    return SuiteScenario(
        **entry.model_dump(),
        split=manifest.split,
        seeds=seeds,
        digests={seed: digests[entry.name, seed] for seed in seeds},
        reference_values={seed: values[entry.name, seed] for seed in seeds if (entry.name, seed) in values},
    )


def _read_digests(path: Path, manifest: Manifest) -> dict[tuple[str, int], str]:
    rows = read_rows(path, WORKLOAD_COLUMNS)
    found = {key_of(path, row): row["workload_digest"] for row in rows}
    expected = {(entry.name, seed) for entry in manifest.scenarios for seed in seeds_of(manifest)}
    for missing in sorted(expected - found.keys()):
        raise InputError(
            path, f"scenario {missing[0]}, seed {missing[1]}", Plain("no row"), "a row per scenario and seed"
        )
    for odd in sorted(found.keys() - expected):
        raise InputError(path, f"scenario {odd[0]}", odd[1], f"scenarios and seeds of {MANIFEST} alone")
    return found


def _read_reference(
    path: Path, manifest: Manifest, digests: Mapping[tuple[str, int], str]
) -> dict[tuple[str, int], float]:
    """Return the frozen values; none if the file is not there. What was frozen for something else is refused."""
    if not path.exists():
        return {}
    entries = {entry.name: entry for entry in manifest.scenarios}
    found: dict[tuple[str, int], float] = {}
    for row in read_rows(path, REFERENCE_COLUMNS):
        name, seed = key = key_of(path, row)
        where = f"scenario {name}, seed {seed}"
        if key not in digests:
            raise InputError(path, "scenario, seed", where, f"scenarios and seeds of {MANIFEST} alone")
        entry = entries[name]
        expected = {"workload_digest": digests[key], "policy": entry.reference, "metric": entry.metric}
        for column, value in expected.items():
            if row[column] != value:
                raise InputError(path, f"{where}: {column}", row[column], f"{value}; freeze the references again")
        value = number_of(row["value"])
        if value is None or value <= 0.0:
            raise InputError(path, f"{where}: value", row["value"], "a number > 0")
        found[key] = value
    return found


def key_of(path: Path, row: Mapping[str, str]) -> tuple[str, int]:
    """Return the scenario and the seed of a row.

    Raises:
        InputError: The seed is none.
    """
    if not row["seed"].isdecimal():
        raise InputError(path, "seed", row["seed"], "a whole number >= 0")
    return row["scenario"], int(row["seed"])


def number_of(text: str) -> float | None:
    """Return the finite number that a field holds, if it holds one."""
    try:
        return real_number(float(text))
    except ValueError:
        return None


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file of the given columns.

    Raises:
        InputError: It cannot be read, or has other columns, or a row of another length.
    """
    what = f"a CSV file with the columns {', '.join(columns)}"
    reader = csv.reader(io.StringIO(read_text(path, what)))
    header = next(reader, [])
    if tuple(header) != tuple(columns):
        raise InputError(path, "columns", ", ".join(header) or Plain("none"), ", ".join(columns))
    rows: list[dict[str, Any]] = []
    for line in reader:
        if len(line) != len(columns):
            raise InputError(path, f"line {reader.line_num}", Plain(f"{len(line)} fields"), f"{len(columns)}: {what}")
        rows.append(dict(zip(columns, line, strict=True)))
    return rows
