"""Latency profiles: files, names, and the physical sense of those that ship."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.cluster.latency import LatencyProfile, describe, list_profiles, load_profile, read_profile
from llmsched_gym.errors import InputError
from llmsched_gym.workloads.workload import TASK

GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "mine",
    "iteration_ms": 5.5,
    "decode_ms": 0.02,
    "prefill_ms": 0.03,
    "context_ms": 1e-4,
    "provenance": {"source": "measured"},
}

WEIGHT_GB = {"Llama-2-7B": 13.5, "Llama-3.1-8B": 16.1}
WEIGHT_GB |= {"Qwen3-0.6B": 1.19, "Qwen3-4B": 8.04, "Qwen3-8B": 16.38, "Qwen3-14B": 29.54, "Qwen3-32B": 65.52}
KV_BYTES_PER_TOKEN = {"Llama-2-7B": 524_288, "Llama-3.1-8B": 131_072, "Qwen3-0.6B": 114_688, "Qwen3-4B": 147_456}
KV_BYTES_PER_TOKEN |= {"Qwen3-8B": 147_456, "Qwen3-14B": 163_840, "Qwen3-32B": 262_144}
BANDWIDTH_GB_S = {"A100": 2039, "H100": 3352, "H200": 4800, "RTX PRO 6000 Blackwell": 1792, "L40S": 864}
BF16_FLOP_S = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "RTX PRO 6000 Blackwell": 504e12, "L40S": 362e12}


def test_a_saved_profile_loads_as_it_was(tmp_path: Path) -> None:
    profile = LatencyProfile("mine", 5_500_000_001, 20_000_003, 30_000_007, 100_009, {"source": "measured"})
    profile.save(tmp_path / "mine.json")
    assert load_profile(tmp_path / "mine.json") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_provenance_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "provenance"}))
    assert load_profile(path).coefficients_ms == (5.5, 0.02, 0.03, 1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iteration_ms": 0.0}, "iteration_ms: got 0.0; expected a number of milliseconds from 1e-06"),
        ({"iteration_ms": "5"}, "iteration_ms: got '5'"),
        ({"decode_ms": -0.1}, "decode_ms: got -0.1"),
        ({"prefill_ms": float("nan")}, "prefill_ms: got nan"),
        ({"context_ms": True}, "context_ms: got True"),
        ({"context_ms": 1e9}, "context_ms: got 1000000000.0"),
        ({"schema": 2}, "schema: got 2; expected version 1, which this release reads"),
        ({"name": ""}, "name: got"),
        ({"provenance": "none"}, "provenance: got"),
        ({"prefil_ms": 1.0}, "did you mean 'prefill_ms'?"),
    ],
)
def test_broken_fields_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(InputError) as error:
        load_profile(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(GOOD)[:40])
    with pytest.raises(InputError, match=r"cut\.json: line 1"):
        load_profile(path)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a latency profile: a JSON object"):
        load_profile(path)
    path.write_text(json.dumps({"schema": 1, "name": "x"}))
    with pytest.raises(InputError, match="iteration_ms: got nothing"):
        load_profile(path)
    with pytest.raises(InputError, match=r"absent\.json: got no such file or directory"):
        load_profile(tmp_path / "absent.json")
    with pytest.raises(InputError, match=r"out\.json"):
        load_profile("llama-2-7b-h100").save(tmp_path / "absent" / "out.json")


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(InputError, match="did you mean 'llama-2-7b-h100'"):
        load_profile("llama-2-7b-h10")


def test_coefficients_from_a_command_line() -> None:
    assert LatencyProfile.from_ms("x", (8.0, 0.08, 0.09, 0.00028)).context_ps == 280_000
    with pytest.raises(InputError, match="four numbers"):
        LatencyProfile.from_ms("x", (8.0, 0.08))


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_profile_says_where_it_comes_from(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    rows = dict(describe(profile))
    assert float(rows["a, ms per iteration"]) == pytest.approx(profile.coefficients_ms[0], rel=1e-5)
    if name == "one-second-per-token":
        return
    for source in profile.provenance["sources"]:
        assert len(source["commit"]) == 40 if "commit" in source else source["version"] == "0.12.0"
        assert source["licence"] in ("MIT", "Apache-2.0")
    composed = profile.provenance.get("status") == "fitted"
    assert 0.0 < profile.provenance["fit"]["error_mean_pct"] < (8.1 if composed else 3.0)


@pytest.mark.parametrize("name", [name for name in list_profiles() if name != "one-second-per-token"])
def test_shipped_profile_is_physical(name: str) -> None:
    """An iteration reads the weights, a context token its KV, a prompt token takes two FLOP per parameter."""
    profile = load_profile(name)
    model, gpu, shards = (profile.provenance.get(key, 1) for key in ("model", "gpu", "tensor_parallel"))
    a, b, c, d = profile.coefficients_ms
    a /= WEIGHT_GB[model] / BANDWIDTH_GB_S[gpu] / shards * 1e3
    d /= KV_BYTES_PER_TOKEN[model] / BANDWIDTH_GB_S[gpu] / shards * 1e-6
    c /= WEIGHT_GB[model] * 1e9 / BF16_FLOP_S[gpu] / shards * 1e3
    flags = profile.provenance.get("flags", [])
    slow_start, slow_links = "host_overhead_missing" in flags, "no_p2p_link" in flags
    assert 1.0 < a < (1.9 if not slow_start else 12.0)
    assert 1.0 < d < (1.6 if name != "qwen3-32b-a100" else 3.1)
    assert 0.85 < c < (2.5 if slow_start or slow_links else 1.8)
    assert 0.0 <= b < 0.01 * profile.coefficients_ms[0]


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("llama-2-7b-h100", (5.78, 0.0202, 0.0190, 1.76e-4)),
        ("llama-3.1-8b-rtx-pro-6000", (10.94, 0.0237, 0.0346, 9.38e-5)),
        ("llama-2-7b-a100", (9.59, 0.0214, 0.0625, 3.04e-4)),
    ],
)
def test_shipped_profile_agrees_with_an_independent_fit(name: str, measured: tuple[float, ...]) -> None:
    """Within 6 % in the iterations of a served chat: single coefficients trade with each other, their sum does not."""
    for n_decode, prefill, context in ((1, 0, 500), (16, 0, 1000), (64, 0, 1000), (16, 512, 1000), (0, 2048, 0)):
        factors = (1.0, n_decode, prefill, n_decode * context)
        ours = sum(x * y for x, y in zip(factors, load_profile(name).coefficients_ms, strict=True))
        theirs = sum(x * y for x, y in zip(factors, measured, strict=True))
        assert ours == pytest.approx(theirs, rel=0.06), (n_decode, prefill, context)


def test_own_profiles_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCHED_GYM_PROFILES", str(tmp_path))
    LatencyProfile.from_ms("my-server", (1.0, 0.1, 0.01, 0.001)).save(tmp_path / "my-server.json")
    assert load_profile("my-server").coefficients_ms == (1.0, 0.1, 0.01, 0.001)
    with pytest.raises(InputError, match="did you mean 'my-server'"):
        load_profile("my-servr")
    monkeypatch.delenv("LLMSCHED_GYM_PROFILES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(InputError, match="my-server"):
        load_profile("my-server")


def test_the_attention_of_a_prefill_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    LatencyProfile.from_ms("cpu", (4.0, 0.2, 0.12, 0.001, 9e-5)).save(path)
    found = read_profile(path)
    assert found.attention_ps == 90_000
    assert found.coefficients_ms == (4.0, 0.2, 0.12, 0.001)
    assert ("e, ms per prompt token and token before it", "9e-05") in describe(found)
    assert load_profile("llama-2-7b-h100").attention_ps == 0
    tasks = np.zeros(1, TASK)
    tasks["prompt_tokens"], tasks["output_tokens"] = 300, 1
    tasks["job_prefix"], tasks["job_prefix_tokens"] = 0, 200
    plain = task_work_ns(tasks, replace(found, attention_ps=0))
    pairs = sum(range(200, 300))  # every computed token attends to all before it
    assert task_work_ns(tasks, found) - plain == pairs * 90
