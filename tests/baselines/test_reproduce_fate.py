"""The page on FATE-style planning says what the frozen results say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reproduce_fate
from campaign import thaw


def test_the_page_is_made_of_the_frozen_results(tmp_path: Path) -> None:
    reproduce_fate.write_page(reproduce_fate.REFERENCE, tmp_path / "fate.md")
    assert (tmp_path / "fate.md").read_text() == reproduce_fate.PAGE.read_text()


@pytest.mark.parametrize("part", reproduce_fate.SCENARIOS)
def test_every_policy_met_the_same_jobs(part: str) -> None:
    rows = thaw(reproduce_fate.REFERENCE / f"fate_{part}.csv")
    assert {row["policy"] for row in rows} == set(reproduce_fate.SCENARIOS[part])
    by_seed: dict[float, set[str]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], set()).add(row["workload_digest"])
    assert len(by_seed) >= 20
    assert all(len(digests) == 1 for digests in by_seed.values())
    assert np.isfinite([row[name] for row in rows for name in reproduce_fate.METRICS]).all()


def test_a_part_without_results_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce_fate.main(["--quick", "--part", "report", "-o", str(tmp_path)]) == 2
    assert "run --part real_dag first" in capsys.readouterr().err
