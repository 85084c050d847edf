"""Calibration and validation on real servers, in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from llmsched_gym.backends.vllm.launch import Server
from llmsched_gym.calibration.server import Calibration, calibrate, limits_of
from llmsched_gym.cli import main
from llmsched_gym.cluster.latency import read_profile
from llmsched_gym.errors import RunError
from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.scenario import load_scenario


class Counting(Silent):
    """Progress that counts readings."""

    def __init__(self) -> None:
        self.taken = 0

    def advance(self, text: str) -> None:
        """Count one more."""
        self.taken += 1


def test_servers_are_calibrated_and_validated(
    servers: list[Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = load_scenario("chain").replaced(jobs=6)
    asked = Calibration(tuple(server.url for server in servers), scenario, "tiny", 8, 2048, rounds=1, budget_s=45.0)
    first = Counting()
    profile = calibrate(asked, tmp_path / "tiny.readings.json", first)
    a, b, c, d = profile.coefficients_ms
    assert first.taken >= 8
    # One quick round on a busy machine may share out an iteration among the coefficients in many ways: what it takes
    # in all is what they say together.
    assert min(a, b, c, d) >= 0.0
    assert 0.1 < a + b + 100 * d < 100.0, "an iteration of one sequence of 100 tokens"
    assert 0.1 < a + 512 * c < 2000.0, "a prefill of 512 tokens"
    assert profile.provenance["engine"].startswith("vLLM ")
    assert profile.provenance["servers"] == 2
    assert limits_of(profile).max_num_seqs == 8
    assert limits_of(profile).block_size >= 16

    again = Counting()
    repeated = calibrate(replace(asked, budget_s=0.0), tmp_path / "tiny.readings.json", again)
    assert again.taken == 0
    assert repeated.coefficients_ms == profile.coefficients_ms

    path = tmp_path / "tiny.json"
    profile.save(path)
    assert read_profile(path).coefficients_ms == pytest.approx(profile.coefficients_ms)
    # One server: of two, jobs may by chance never meet the same one twice, and so find nothing in its prefix cache.
    words = ["validate", "--server", asked.urls[0], "--profile", str(path), "--scenario", "chain"]
    words += ["--jobs", "4", "--policies", "fcfs", "--repeats", "2", "--time-scale", "4", "--json"]
    assert main([*words, "-o", str(tmp_path / "validation")]) == 0
    content = json.loads(capsys.readouterr().out)
    row = content["policies"]["fcfs"]
    assert row["simulated_mean_jct_s"] > 0.0
    assert len(row["served_mean_jct_s"]) == 2
    assert content["residual"]["cached_tokens_error_pct"] is not None
    assert (tmp_path / "validation" / "validation.png").stat().st_size > 10_000
    runs = sorted(path.name for path in (tmp_path / "validation" / "runs").iterdir())
    assert runs == ["simulator-fcfs-0.json", "vllm-fcfs-0.json", "vllm-fcfs-1.json"]


def test_a_batch_larger_than_the_servers_is_noticed(servers: list[Server], tmp_path: Path) -> None:
    scenario = load_scenario("chain").replaced(jobs=6)
    asked = Calibration((servers[0].url,), scenario, "tiny", 24, 2048, rounds=1, budget_s=60.0)
    with pytest.raises(RunError, match=r"\d+ requests do not run together; is --max-num-seqs right"):
        calibrate(asked, tmp_path / "tiny.readings.json", Silent())
