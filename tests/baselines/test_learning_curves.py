"""Learning curves of several runs: cut, aggregated, drawn; runs with other settings are refused."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from learning_curves import main, read

from llmsched_gym.errors import InputError
from llmsched_gym.training import Point, read_curve, write_curve


def _run(folder: Path, seed: int, reached: int, width: int = 8) -> Path:
    points: list[Point] = [
        {
            "done": done,
            "cpu_s": 10.0 * done,
            "below_pct": {"mixed": {"fcfs": done + seed}, "chain": {"fcfs": 2.0 * done}},
        }
        for done in range(0, reached, 10)
    ]
    folder.mkdir(parents=True)
    write_curve(folder, "Decima", "iterations", {"seed": seed, "width": width}, points)
    return folder


def test_runs_are_cut_to_the_shortest_and_aggregated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [_run(tmp_path / str(seed), seed, 40 - 10 * (seed == 3)) for seed in range(5)]
    curves = read(folders)
    assert curves.done.tolist() == [0, 10, 20]
    assert curves.n_runs == 5
    assert curves.below["mixed", "fcfs"][:, 1].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    figure, table = tmp_path / "curves.png", tmp_path / "curves.csv"
    words = [*map(str, folders), "--figure", str(figure), "--table", str(table)]
    monkeypatch.setattr(sys, "argv", ["learning_curves.py", *words])
    assert main() == 0
    assert figure.stat().st_size > 10_000
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 * 3
    last = next(row for row in rows if row["scenario"] == "mixed" and row["iterations"] == "20")
    assert float(last["low_pct"]) < float(last["mean_pct"]) == 22.0 < float(last["high_pct"])
    assert last["runs"] == "5"


def test_runs_of_other_settings_and_other_files_are_named(tmp_path: Path) -> None:
    first, other = _run(tmp_path / "0", 0, 20), _run(tmp_path / "1", 1, 20, width=16)
    with pytest.raises(InputError, match="settings"):
        read([first, other])
    with pytest.raises(InputError, match="nothing"):
        read([tmp_path / "nothing"])
    (other / "curve.json").write_text("{}")
    with pytest.raises(InputError, match="learning curve"):
        read_curve(other)
