"""A suite that takes seconds, with frozen references, and what was handed in for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.leaderboard.drafting import Draft
from llmsched_gym.leaderboard.preparing import prepare
from llmsched_gym.leaderboard.validating import validate, write_validation
from llmsched_gym.suites.freezing import freeze_references, freeze_workloads
from llmsched_gym.suites.suite import Suite, load_suite

MANIFEST = """
format: 1
name: board-v1
about: Three scenarios of a few jobs.
split: train
seeds: {first: 7, count: 4}
scenarios:
  - {name: crowd, scenario: mixed_burst, jobs: 6, metric: mean_jct_s, reference: srtf}
  - {name: plans, scenario: planning_heavy, jobs: 5, metric: makespan_s, reference: srtf}
  - {name: models, scenario: hetero8, jobs: 4, metric: mean_jct_s, reference: srtf+mct}
"""

ENTRIES: dict[str, Sequence[str]] = {
    "2026-01-02_first": ["fcfs"],
    "2026-01-03_shortest": ["sjf+mct"],
    "2026-01-04_two_runs": ["las", "fair"],
    "2026-01-05_truth": ["oracle_srtf"],
}
"""Folder → policies. The last but one has no validation.json."""

CLAIMED = "2026-01-04_two_runs"


@pytest.fixture(scope="session")
def board_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the suite (``board``) and the submissions (``submissions``)."""
    folder = tmp_path_factory.mktemp("page")
    place = folder / "board"
    place.mkdir()
    (place / "suite.yaml").write_text(MANIFEST)
    freeze_workloads(place)
    freeze_references(load_suite(place), folder / "references", 1, lambda _: nullcontext(Silent()))
    suite = load_suite(place)
    for name, specs in ENTRIES.items():
        draft = Draft(
            name=name.partition("_")[2].replace("_", " "),
            date=name[:10],
            authors=["Ann Example", "Łukasz Żak"],
            about="It ranks what can start, and starts the first of these. " * 3,
            training="Nothing was trained.",
            tuning="Nothing was tuned.",
            compute="Two cores.",
            code="https://example.org/mine",
            license="Apache-2.0",
        )
        output = folder / "submissions" / suite.name / name
        prepare(suite, specs, draft, output, 1)
        if name != CLAIMED:
            found = validate(output, suite)
            assert found.faults == ()
            write_validation(output, found)
    return folder


@pytest.fixture(scope="session")
def board_suite(board_folder: Path) -> Suite:
    """The suite."""
    return load_suite(board_folder / "board")


@pytest.fixture(scope="session")
def handed_in(board_folder: Path) -> Path:
    """The submissions; not to be changed."""
    return board_folder / "submissions"


@pytest.fixture
def changeable(handed_in: Path, tmp_path: Path) -> Path:
    """The submissions, to be changed."""
    return shutil.copytree(handed_in, tmp_path / "submissions")
