"""Fits recover what made a table, survive odd tables, and predict a real server that they have not seen."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.backends.replay import read_requests, serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.latency_fit import fit_profile
from llmsched_gym.calibration.latency_table import least_squares, read_table
from llmsched_gym.calibration.shipped_profiles import chat_load, fit_shipped
from llmsched_gym.cluster.latency import LatencyProfile, load_profile
from llmsched_gym.errors import InputError

ANY = EngineConfig(LatencyProfile("any", 1, 0, 0, 0))
TRUTH = np.array([7.0, 0.05, 0.03, 2e-4])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def linear_table(coefficients: np.ndarray = TRUTH) -> list[dict[str, object]]:
    """An exact table, on a grid with gaps, without prefill_context and decode_avg_context."""
    rows: list[dict[str, object]] = []
    for n_decode in (0, 1, 4, 16, 64, 150):
        for prefill in (0, 64, 512, 2048):
            for context in (100, 900, 3000) if n_decode else (0,):
                if n_decode + prefill and (n_decode, prefill, context) != (16, 512, 900):
                    factors = np.array([1.0, n_decode, prefill, n_decode * context])
                    key = {"n_decode": n_decode, "prefill_tokens": prefill, "total_decode_context": n_decode * context}
                    rows.append({**key, "gpu": "some", "iter_time_ms": float(factors @ coefficients)})
    return rows


@pytest.fixture
def log(tmp_path: Path) -> Path:
    load = chat_load()
    columns = zip(load.arrival_ns, load.prompt_tokens, load.output_tokens, strict=True)
    rows: list[dict[str, object]] = [{"arrival": a / 1e9, "prompt": p, "output": o} for a, p, o in columns]
    return write(tmp_path / "log.csv", rows)


def test_a_linear_table_gives_its_own_coefficients(tmp_path: Path, log: Path) -> None:
    rows = linear_table()
    np.random.default_rng(0).shuffle(rows)  # pyright: ignore[reportArgumentType] - a list of any objects is shuffled
    profile = fit_profile(write(tmp_path / "t.csv", rows), log, ANY, "mine")
    assert profile.name == "mine"
    np.testing.assert_allclose(profile.coefficients_ms, TRUTH, rtol=1e-6)
    fit = profile.provenance["fit"]
    assert fit["error_mean_pct"] == 0.0
    assert all("guessed from rows" in warning for warning in fit["warnings"])  # the grid is coarse


def test_a_coefficient_is_never_negative(tmp_path: Path, log: Path) -> None:
    rows = linear_table(np.array([7.0, 0.0, 0.03, 0.0]))
    fit = fit_profile(write(tmp_path / "t.csv", rows), log, ANY, "flat")
    np.testing.assert_allclose(fit.coefficients_ms, (7.0, 0.0, 0.03, 0.0), atol=1e-6)
    solution = least_squares(np.array([[1.0, 1.0, 0, 0], [1.0, 2.0, 0, 0]]), np.array([2.0, 1.0]), np.ones(2))
    assert (solution >= 0.0).all()
    assert solution[1] == 0.0


def test_real_server_within_nine_per_cent(shared: Path) -> None:
    """Fitted to the iteration-time table, on the log's arrivals and token counts only."""
    log = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    table = shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv"
    profile = fit_profile(table, log, ANY, "rtx")
    fit = profile.provenance["fit"]
    assert fit["error_mean_pct"] < 3.0
    assert fit["far_from_rows_pct"] < 1.0
    assert not any("guessed" in warning for warning in fit["warnings"])
    rows = rows_of(log)
    measured = np.array([float(row["finish_s"]) - float(row["arrival_s"]) for row in rows])
    tasks, _ = serve(read_requests(log), replace(ANY, profile=profile))
    predicted = (tasks["finish_ns"] - tasks["start_ns"]) * 1e-9
    assert np.mean(np.abs(predicted / measured - 1.0)) < 0.07


def test_fit_does_not_look_at_the_times_of_service(shared: Path, tmp_path: Path) -> None:
    log = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    table = shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv"
    kept = ("arrival_s", "prompt_tokens", "output_tokens")
    bare = write(tmp_path / "bare.csv", [{key: row[key] for key in kept} for row in rows_of(log)])
    ours, theirs = (fit_profile(table, path, ANY, "rtx").coefficients_ms for path in (bare, log))
    assert ours == theirs


def test_row_order_and_extra_columns_do_not_matter(shared: Path, tmp_path: Path) -> None:
    log = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    table = shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv"
    rows: list[dict[str, object]] = [{"note": "x", **row} for row in reversed(rows_of(table))]
    assert (
        fit_profile(write(tmp_path / "t.csv", rows), log, ANY, "rtx").coefficients_ms
        == fit_profile(table, log, ANY, "rtx").coefficients_ms
    )


def test_a_table_with_gaps_still_predicts(shared: Path, tmp_path: Path) -> None:
    """A third of the rows, at random: many slices of the grid keep one level or none."""
    log = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    rows = rows_of(shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv")
    kept: list[dict[str, object]] = [
        {**row} for row, u in zip(rows, np.random.default_rng(3).random(len(rows)), strict=True) if u < 0.33
    ]
    profile = fit_profile(write(tmp_path / "t.csv", kept), log, ANY, "rtx")
    whole = load_profile("llama-3.1-8b-rtx-pro-6000")
    for n_decode, prefill, context in ((1, 0, 500), (16, 0, 1000), (64, 0, 1000), (0, 2048, 0)):
        factors = np.array([1.0, n_decode, prefill, n_decode * context])
        assert factors @ profile.coefficients_ms == pytest.approx(factors @ whole.coefficients_ms, rel=0.2)


def test_a_table_with_few_rows_is_doubted(shared: Path, tmp_path: Path) -> None:
    log = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    rows = rows_of(shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv")
    few: list[dict[str, object]] = [
        {**row} for row, u in zip(rows, np.random.default_rng(2).random(len(rows)), strict=True) if u < 0.1
    ]
    fit = fit_profile(write(tmp_path / "t.csv", few), log, ANY, "few").provenance["fit"]
    assert fit["extrapolated_pct"] < 1.0, "its range is that of the whole table"
    assert fit["far_from_rows_pct"] > 10.0
    assert any("guessed from rows" in warning for warning in fit["warnings"])


def test_clamped_rows_are_left_out(shared: Path) -> None:
    """With 256 sequences and prefill that table holds one number for all contexts, less than that of 128 sequences."""
    table = read_table(shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv")
    mixed = (table.points[:, 0] == 256) & (table.points[:, 1] > 0)
    assert table.dropped == 50
    assert not mixed.any()
    point = np.array([[256.0, 512.0, 1024.0, 0.0], [128.0, 512.0, 1024.0, 0.0]])
    many, fewer = table.at(point)
    assert many > fewer > 40.0


def test_interpolation_is_exact_on_rows_and_linear_between(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", linear_table()))
    assert table.dropped == 0
    np.testing.assert_allclose(table.at(table.points), table.times_ms)
    points = np.array([[10.0, 0.0, 500.0, 0.0], [16.0, 512.0, 900.0, 0.0], [150.0, 3000.0, 4000.0, 0.0]])
    expected = [points_row @ TRUTH for points_row in ([1, 10, 0, 5000], [1, 16, 512, 14400], [1, 150, 3000, 600_000])]
    np.testing.assert_allclose(table.at(points), expected)
    np.testing.assert_allclose(table.distance(table.points), 1.0)
    # 10 sequences of 500 tokens, 8.5 ms, come of rows of 4 and 16 sequences: the slowest has 16 · 900 tokens
    np.testing.assert_allclose(table.distance(points[:1]), (np.array([1, 16, 0, 14400]) @ TRUTH) / (expected[0]))
    assert table.covers(points).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_decode,prefill_tokens,iter_time_ms\n1,0,5\n", "decode_avg_context or total_decode_context"),
        ("n_decode,total_decode_context,iter_time_ms\n1,0,5\n", "a column prefill_tokens"),
        ("n_decode,prefill_tokens,total_decode_context,iter_time_ms\n1,0,100,0\n", "line 2: iter_time_ms: got 0.0"),
        ("n_decode,prefill_tokens,total_decode_context,iter_time_ms\n1,0,100,x\n", "line 2: iter_time_ms: got 'x'"),
        (
            "n_decode,prefill_tokens,total_decode_context,iter_time_ms\n0,0,0,5\n",
            "a decoding sequence or prompt tokens",
        ),
        ("n_decode,prefill_tokens,total_decode_context,iter_time_ms\n1,0,100,5\n2,0,200,6\n", "rows that differ"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, log: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        fit_profile(path, log, ANY, "bad")
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_shipped_profiles_are_what_the_script_makes(shared: Path, tmp_path: Path) -> None:
    for profile in fit_shipped(shared, tmp_path):
        shipped = load_profile(profile.name)
        np.testing.assert_allclose(profile.coefficients_ms, shipped.coefficients_ms, rtol=1e-6, atol=1e-9)
        assert (tmp_path / f"{profile.name}.json").is_file()
        assert profile.provenance["fit"]["far_from_rows_pct"] < 5.0
