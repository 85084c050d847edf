"""Profiles of heterogeneous clusters are what the script makes, with the errors and distances that they state."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.calibration.hetero_profiles import FLOOR_MS, step_ms, write_profiles
from llmsched_gym.cluster.latency import PROFILES, LatencyProfile, list_profiles, load_profile

NAMES = [name for name in list_profiles() if load_profile(name).provenance.get("status") == "fitted"]
KERNELS = {"H100": "h100_sxm", "A100": "a100_sxm", "L40S": "l40s"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "devices.md"

TABLE = {
    "qwen3-4b": ("4.04 .0058 .0103 5.0", "7.23 .0151 .0317 9.6", "11.3 .0297 .0342 23.6"),
    "qwen3-8b": ("6.38 .0136 .0159 5.1", "11.6 .0259 .0532 9.6", "21.5 .0487 .0556 24.3"),
    "qwen3-14b": ("10.7 .0147 .0291 6.4", "18.7 .0550 .0876 11.5", "39.2 .1122 .0912 29.7"),
    "qwen3-32b": ("24.1 .0596 .0581 10.7", "41.7 .0566 .1803 39.5", ""),
    "llama-3.1-8b": ("", "", "21.2 .0493 .0529 21.6"),
}
"""a, b, c and d * 1e5 on H100, A100 and L40S as the notes on the data print them."""


@pytest.fixture(scope="module")
def data() -> dict[str, list[dict[str, str]]]:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hetero"
    if not folder.is_dir():
        pytest.skip("the composed step times (../shared/data/hetero) are not beside this checkout")
    tables: dict[str, list[dict[str, str]]] = {}
    for name in ("step_ms", "step_fit", "measured_e2e"):
        with (folder / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    return tables


def rows_of(table: list[dict[str, str]], profile: LatencyProfile) -> list[dict[str, str]]:
    told = profile.provenance
    shards = str(told["tensor_parallel"])
    wanted = {"gpu": KERNELS[told["gpu"]], "model": told["model"], "precision": "bf16", "tp": shards}
    return [row for row in table if wanted.items() <= row.items()]


def fitted(profile: LatencyProfile) -> tuple[float, float, float, float]:
    """Coefficients before the floor."""
    a, b, c, d = profile.coefficients_ms
    return profile.provenance.get("floor", {}).get("unfloored_iteration_ms", a), b, c, d


def test_these_profiles_ship() -> None:
    single = [f"qwen3-{size}-{gpu}" for size in ("0.6b", "4b", "8b", "14b") for gpu in ("h100", "a100", "l40s")]
    pairs = [f"qwen3-{pair}-tp2" for pair in ("14b-l40s", "32b-h100", "32b-a100", "32b-l40s")]
    assert sorted([*single, *pairs, "qwen3-32b-h100", "qwen3-32b-a100", "llama-3.1-8b-l40s"]) == NAMES


def test_shipped_files_are_those_of_the_script(shared: Path, tmp_path: Path, data: Any) -> None:
    assert sorted(profile.name for profile in write_profiles(shared, tmp_path)) == NAMES
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (PROFILES / path.name).read_bytes(), path.name
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_that_of_the_engines_formula(name: str, data: dict[str, list[dict[str, str]]]) -> None:
    """Context of decoding sequences, not of all: to the rounding of the errors that the fit has told."""
    profile = load_profile(name)
    fit, rows = profile.provenance["fit"], rows_of(data["step_ms"], profile)
    measured = np.array([float(row["ms"]) for row in rows])
    error = 100.0 * np.abs(np.array([step_ms(fitted(profile), row) for row in rows]) / measured - 1.0)
    kind = np.array([row["kind"] for row in rows])
    common = np.array([int(row["batch"]) <= 64 and int(row["prefill"]) <= 4096 for row in rows])
    told = [fit[f"error_{part}_pct"] for part in ("mean", "p95", "decode", "prefill")]
    decode, prefill = error[kind == "decode"], error[kind == "prefill"]
    found = [error[common].mean(), np.quantile(error[common], 0.95), decode.mean(), prefill.mean()]
    np.testing.assert_allclose(found, told, atol=0.08)
    assert np.median(decode) <= fit["error_decode_pct"] + 0.6
    assert np.median(prefill) <= fit["error_prefill_pct"] + 2.0
    assert len(rows) == fit["table_rows"]


@pytest.mark.parametrize("model", TABLE)
def test_coefficients_are_those_of_the_printed_table(model: str) -> None:
    for gpu, text in zip(("h100", "a100", "l40s"), TABLE[model], strict=True):
        if text:
            a, b, c, d = load_profile(f"{model}-{gpu}").coefficients_ms
            for value, printed in zip((a, b, c, 1e5 * d), text.split(), strict=True):
                assert abs(value - float(printed)) <= 0.51 * 10 ** -len(printed.partition(".")[2]), (gpu, printed)
    pair = load_profile("qwen3-32b-l40s-tp2").coefficients_ms
    np.testing.assert_allclose(pair, (46.4, 0.198, 0.181, 22.8e-5), rtol=0.003)


@pytest.mark.parametrize("name", NAMES)
def test_only_small_models_have_a_floor(name: str) -> None:
    profile = load_profile(name)
    floor, flags = profile.provenance.get("floor"), profile.provenance["flags"]
    assert (floor is not None) == ("host_overhead_missing" in flags) == name.startswith("qwen3-0.6b")
    assert profile.coefficients_ms[0] >= FLOOR_MS
    if floor is not None:
        assert profile.coefficients_ms[0] == floor["iteration_ms"] == FLOOR_MS
        assert floor["unfloored_iteration_ms"] < FLOOR_MS
        assert floor["status"].startswith("measured") == (profile.provenance["gpu"] == "A100")
    assert ("no_p2p_link" in flags) == name.endswith("l40s-tp2")


def test_a_pair_of_h100_against_a_running_server(data: dict[str, list[dict[str, str]]]) -> None:
    """The stated distance, 0.87, where decoding prevails: many prompts in an output would count as decoding."""
    a, b, _, d = load_profile("qwen3-32b-h100-tp2").coefficients_ms
    wanted = {"gpu": "h100_sxm", "backend": "vllm", "backend_version": "0.12.0", "model": "Qwen3-32B", "tp": "2"}
    rows = [row for row in data["measured_e2e"] if wanted.items() <= row.items() and row["output_tokens"] == "1024"]
    ratios: list[float] = []
    for row in rows:
        n, prompt, output, time = (
            float(row[key]) for key in ("batch_or_concurrency", "input_tokens", "output_tokens", "tpot_ms")
        )
        if n * (prompt + output) < 100_000:
            ratios.append((a + b * n + d * n * (prompt + output / 2)) / time)
    assert len(ratios) >= 3
    assert 0.80 < np.median(ratios) < 0.92


@pytest.mark.parametrize("gpu", ["h100", "a100"])
def test_the_older_profiles_of_llama_agree(gpu: str, data: dict[str, list[dict[str, str]]]) -> None:
    """They are made of the same kernels, put together here, plus norms and residuals from elsewhere."""
    older = load_profile(f"llama-3.1-8b-{gpu}").coefficients_ms
    wanted = {"gpu": KERNELS[gpu.upper()], "model": "Llama-3.1-8B", "precision": "bf16", "tp": "1"}
    (fit,) = [row for row in data["step_fit"] if wanted.items() <= row.items()]
    newer = tuple(float(fit[f"{letter}_ms"]) for letter in "abcd")
    for n_decode, prefill, context in ((1, 0, 500), (16, 0, 1000), (64, 0, 1000), (16, 512, 1000), (0, 2048, 0)):
        factors = np.array([1.0, n_decode, prefill, n_decode * context])
        assert factors @ newer == pytest.approx(factors @ older, rel=0.08), (n_decode, prefill, context)


def test_the_page_tells_the_ranges_of_the_errors() -> None:
    text = PAGE.read_text(encoding="utf-8")
    fits = [load_profile(name).provenance["fit"] for name in NAMES]
    for key, label in (
        ("error_mean_pct", "mean, to 64 sequences and 4,096 prompt tokens"),
        ("error_decode_pct", "mean of decode steps"),
        ("error_prefill_pct", "mean of prefill steps, 32 to 8,192 tokens"),
    ):
        values = [fit[key] for fit in fits]
        assert f"| {label} | {min(values):.1f} to {max(values):.1f} % |" in text
    for chunk, label in (("512", "512"), ("2048", "2,048")):
        values = [fit["bias_of_prefill_pct"][chunk] for fit in fits]
        assert f"| one prefill of {label} tokens | {min(values):.1f} to {max(values):+.1f} % |" in text
    assert set(re.findall(r"`((?:qwen3|llama-3\.1)-[\w.]+-(?:h100|a100|l40s)(?:-tp2)?)`", text)) <= set(list_profiles())
