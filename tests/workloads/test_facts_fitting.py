"""Fitting tools, and the shipped facts against a fresh fit."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.fitting import fit_all, write_facts
from llmsched_gym.workloads.fitting.check import check, picture, rows, samples, statistics
from llmsched_gym.workloads.fitting.tables import ks_distance, lagged_pairs, quantile_table, significant, spearman


def test_ks_distance_of_known_samples() -> None:
    assert ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert ks_distance([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
    assert ks_distance([0, 1], [5]) == 1


def test_spearman_handles_ties_and_direction() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2, 2], [1, 2, 1, 2]) == pytest.approx(0)


def test_lagged_pairs_stay_within_a_job() -> None:
    assert lagged_pairs([[1, 2, 3], [9], [5, 6]], 1).tolist() == [[1, 2], [2, 3], [5, 6]]


def test_quantile_table_reproduces_its_rows() -> None:
    values = np.random.default_rng(0).integers(1, 500, 2000) ** 2
    assert quantile_table(values, {"source": "test"})["fit"]["ks"] < 0.02


def test_significant_keeps_six_digits() -> None:
    assert significant([1.23456789, 2.0, 123456.789]) == [1.23457, 2, 123457]


def test_write_facts_replaces_the_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_facts({"a": {"value": 1}}, path)
    write_facts({"a": {"value": 2}}, path)
    assert '"value": 2' in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_fit_all_names_the_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        fit_all(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        fit_all(tmp_path, tmp_path / "out")


def test_refitting_writes_the_shipped_files(shared: Path, tmp_path: Path) -> None:
    written = fit_all(shared / "data", tmp_path / "out")
    assert [path.stem for path in written] == list(APPLICATIONS)
    shipped = resources.files("llmsched_gym.workloads").joinpath("facts")
    for path in written:
        assert path.read_bytes() == shipped.joinpath(path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_every_fact_names_its_source_or_its_assumption(name: str) -> None:
    for key, entry in load_facts(name).items():
        measured = {"source", "commit", "licence"} <= entry.keys()
        assert measured or (entry.get("assumed") and entry.get("reason")), key


def test_comparison_rows_and_distance() -> None:
    pair = samples("a", "tokens", [1, 2, 3, 4], [3, 4, 5, 6], "here")
    table = statistics("b", "fraction", ("x", "y"), [0.5, 0.5], [0.4, 0.6], "here", 40)
    records = rows([pair, table])
    assert [record["distance"] for record in records] == [0.5, 0.1]
    assert [record["n_measured"] for record in records] == [4, 40]
    assert records[0]["measured mean"] == 2.5
    assert records[1]["generated y"] == 0.6


def test_picture_is_a_small_png(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "facts.png"
    picture("code_generation", shared / "data", out, jobs=500)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size < 150_000
    assert list(tmp_path.iterdir()) == [out]


def test_check_draws_the_asked_number_of_jobs(shared: Path) -> None:
    rounds = check("code_generation", shared / "data", jobs=123)[0]
    assert len(rounds.generated) == 123
