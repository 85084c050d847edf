"""The page on FATE-style planning says what the frozen results say."""

from __future__ import annotations

from pathlib import Path

import fate_sweeps
import numpy as np
import pytest
import reproduce_fate
from campaign import thaw


def test_the_page_is_made_of_the_frozen_results(tmp_path: Path) -> None:
    reproduce_fate.write_page(reproduce_fate.REFERENCE, tmp_path / "fate.md")
    assert (tmp_path / "fate.md").read_text() == reproduce_fate.PAGE.read_text()


@pytest.mark.parametrize("part", reproduce_fate.PARTS)
def test_every_policy_met_the_same_jobs(part: str) -> None:
    rows = thaw(reproduce_fate.REFERENCE / f"fate_{part}.csv")
    assert {row["policy"] for row in rows} == set(reproduce_fate.PARTS[part].policies)
    by_seed: dict[float, set[str]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], set()).add(row["workload_digest"])
    assert len(by_seed) >= 20
    assert all(len(digests) == 1 for digests in by_seed.values())
    assert np.isfinite([row[name] for row in rows for name in reproduce_fate.METRICS]).all()


def test_a_part_without_results_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce_fate.main(["--quick", "--part", "report", "-o", str(tmp_path)]) == 2
    assert "run --part real_dag first" in capsys.readouterr().err


def test_a_policy_without_results_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reference").mkdir()
    lines = (reproduce_fate.REFERENCE / "fate_real_dag.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if ",heft," not in line]
    (tmp_path / "reference" / "fate_real_dag.csv").write_text("".join(kept))
    assert reproduce_fate.main(["--quick", "--part", "report", "-o", str(tmp_path)]) == 2
    assert "got no results of heft; expected run --part real_dag first" in capsys.readouterr().err


def test_sweeps_change_one_thing_at_a_time() -> None:
    cells = fate_sweeps.cells(6, range(2))
    assert {cell.factor for cell in cells} == {*fate_sweeps.AXES, "variant"}
    frozen = thaw(reproduce_fate.REFERENCE / "fate_sweeps.csv")
    assert {(row["factor"], row["value"]) for row in frozen} == {(cell.factor, cell.value) for cell in cells}
    clusters = {cell.value: cell.setting.scenario.cluster for cell in cells if cell.factor == "kv"}
    assert clusters["0.0"].kv_transfer is None
    assert clusters["450.0"].kv_transfer is not None
    assert {link.gb_per_s for link in clusters["450.0"].links} == {450.0}
    rates = {cell.setting.scenario.arrival_rate() for cell in cells if cell.factor in ("loading", "rho")}
    assert len(rates) == 1  # jobs come as often, whatever the devices
