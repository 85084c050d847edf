"""A suite that takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.suites.freezing import freeze_workloads

MANIFEST = """
format: 1
name: tiny-v1
about: Two scenarios of a few jobs.
split: train
seeds: {first: 7, count: 3}
scenarios:
  - {name: crowd, scenario: mixed_burst, jobs: 6, metric: mean_jct_s, reference: oracle_srtf}
  - {name: plans, scenario: planning_heavy, jobs: 5, metric: makespan_s, reference: srtf}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the suite, without frozen references."""
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "suite.yaml").write_text(MANIFEST)
    assert freeze_workloads(place) == 6
    return place
