"""Calibration finds the coefficients that made its readings, goes on after an interrupt, and says what is doubtful."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from llmsched_gym.calibration.latency_table import design
from llmsched_gym.calibration.probes import Interference, Probe, Reading, context_near
from llmsched_gym.calibration.readings import Readings, summarise, take_readings
from llmsched_gym.calibration.server import (
    EngineLimits,
    Hardware,
    doubts,
    fit_server,
    plan_probes,
    served_cluster,
    visiting_log,
)
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.contents import COLUMNS

LIMITS = EngineLimits(max_num_seqs=8, max_num_batched_tokens=2048, max_model_len=16384, block_size=128, kv_tokens=65536)
TRUTH = np.array([3.7, 0.4, 0.17, 1.3e-3])
SETTING = {"servers": ["a"]}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario("chain").replaced(jobs=20)


@pytest.fixture(scope="module")
def probes(scenario: Scenario) -> list[Probe]:
    return plan_probes(scenario.build("train", 0), LIMITS)


def rows_of(probes: Sequence[Probe], rounds: int = 1, noise: float = 0.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    times = design(np.array([probe.point for probe in probes])) @ TRUTH
    return [
        {"round": turn, "probe": index, "iteration_ms": float(time * np.exp(noise * rng.normal())), "overhead_ms": 4.0}
        for turn in range(rounds)
        for index, time in enumerate(times)
    ]


def test_probes_stay_within_the_servers_limits_and_tell_coefficients_apart_from_the_start(probes: list[Probe]) -> None:
    for probe in probes:
        assert probe.n_decode + probe.prefill_tokens <= LIMITS.max_num_batched_tokens
        assert probe.n_decode <= LIMITS.max_num_seqs
        assert probe.decode_context + probe.output_tokens <= LIMITS.max_model_len
        assert probe.n_decode * (probe.decode_context + probe.output_tokens) <= LIMITS.kv_tokens
        # Whole blocks of any usual size are cached, and one token is left to compute.
        assert probe.prefill_context % 128 == 0
        assert not probe.n_decode or probe.decode_context % 128 == 1
    assert len(set(probes)) == len(probes)
    first = design(np.array([probe.point for probe in probes[:8]]))
    assert np.linalg.matrix_rank(first / first.max(axis=0)) == 4
    assert {probe.n_decode for probe in probes} >= {0, 1, 8}


def test_a_small_cache_gets_shorter_contexts(scenario: Scenario) -> None:
    small = EngineLimits(4, 512, 4096, 16, 4096)
    for probe in plan_probes(scenario.build("train", 0), small):
        assert probe.n_decode * (probe.decode_context + probe.output_tokens) <= 4096
        assert probe.n_decode + probe.prefill_tokens <= 512


def test_the_fit_finds_the_coefficients_that_made_the_readings(scenario: Scenario, probes: list[Probe]) -> None:
    table, spread = summarise(probes, rows_of(probes))
    profile = fit_server(table, scenario, LIMITS, 1, "made", {"model": "m"})
    assert profile.coefficients_ms == pytest.approx(TRUTH, rel=2e-3)
    assert profile.provenance["fit"]["error_mean_pct"] < 0.1
    assert profile.provenance["model"] == "m"
    assert spread == {"noise_pct": 0.0, "host_overhead_ms": 4.0}


def test_medians_of_rounds_withstand_noise_and_outliers(scenario: Scenario, probes: list[Probe]) -> None:
    rows = rows_of(probes, rounds=5, noise=0.05)
    for row in rows:
        if row["round"] == 3:
            row["iteration_ms"] *= 4  # a busy moment of the host
    table, spread = summarise(probes, rows)
    profile = fit_server(table, scenario, LIMITS, 1, "noisy", {})
    visited = np.array([[4.0, 0.0, 1500.0, 0.0], [1.0, 0.0, 1000.0, 0.0], [6.0, 200.0, 1500.0, 0.0]])
    times = design(visited) @ np.array(profile.coefficients_ms)
    assert times == pytest.approx(design(visited) @ TRUTH, rel=0.06)
    assert spread["noise_pct"] > 3.0
    assert any("differ" in doubt for doubt in doubts(profile, {**spread, "noise_pct": 11.0}, Hardware()))


def test_too_few_readings_are_refused(probes: list[Probe]) -> None:
    with pytest.raises(RunError, match="3 points measured: too few"):
        summarise(probes, rows_of(probes)[:3])
    with pytest.raises(RunError, match="0 points measured"):
        summarise(probes, [])


def test_implausible_coefficients_are_doubted() -> None:
    calm = {"noise_pct": 1.0}
    good = LatencyProfile.from_ms("good", (6.0, 0.02, 0.02, 1e-4))
    assert doubts(good, calm, Hardware(13.5, 3350.0)) == []  # 7B in 16 bits on an H100
    assert "times the time to read the weights" in doubts(good, calm, Hardware(13.5, 300.0))[0]
    odd = LatencyProfile.from_ms("odd", (1.0, 0.0, 2.0, 0.0))
    assert doubts(odd, calm, Hardware()) == ["a prompt token costs more than a whole iteration of one sequence"]


def test_the_log_that_weighs_iterations_knows_prefixes(scenario: Scenario) -> None:
    log = visiting_log(scenario, LIMITS, 2, LatencyProfile.from_ms("any", tuple(TRUTH)))
    assert log.contents is not None
    assert len(log.contents) == len(log.ids) > 20
    assert (log.contents[:, COLUMNS.index("app_prefix_tokens")] <= log.prompt_tokens).all()
    assert (np.diff(log.arrival_ns) >= 0).all()
    cluster = served_cluster(scenario, LIMITS, 2, "llama-2-7b-h100")
    assert [group.count for group in cluster.llm] == [2]
    assert cluster.n_regular == scenario.cluster.n_regular


class Scripted:
    """A prober whose readings are known, which is interrupted after a number of them."""

    def __init__(self, stop: int | None = None, busy: int | None = None) -> None:
        self.asked: list[Probe] = []
        self._stop, self._busy = stop, busy

    async def measure(self, probe: Probe) -> Reading:
        if len(self.asked) == self._stop:
            raise KeyboardInterrupt
        self.asked.append(probe)
        if len(self.asked) == self._busy:
            raise Interference("somebody else")
        return Reading(float(probe.n_decode), 1.0)


PROBES = [Probe(n, 129) for n in (1, 2, 3, 4)]


def take(path: Path, prober: Any, rounds: int = 2, budget_s: float = 60.0) -> Readings:
    readings = Readings(path, SETTING)
    work = take_readings([prober, prober], PROBES, readings, rounds=rounds, budget_s=budget_s, progress=Silent())
    asyncio.run(work)
    return readings


def test_an_interrupted_calibration_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "readings.json"
    first = Scripted(stop=10)
    with pytest.raises(KeyboardInterrupt):
        take(path, first)
    second = Scripted()
    readings = take(path, second)
    assert len(first.asked) == 10  # five probes on two servers
    assert len(second.asked) == 2 * (2 * len(PROBES) - 5)
    assert len(readings.rows) == 2 * 2 * len(PROBES)
    for index in range(len(PROBES)):
        assert sum(row["probe"] == index for row in readings.rows) == 4
    more = Scripted()
    take(path, more, rounds=3)
    assert len(more.asked) == 2 * len(PROBES)


def test_a_calibration_ends_in_time_and_leaves_out_what_was_disturbed(tmp_path: Path) -> None:
    assert take(tmp_path / "none.json", Scripted(), budget_s=0.0).rows == []
    readings = take(tmp_path / "busy.json", Scripted(busy=3), rounds=1)
    assert sorted({row["probe"] for row in readings.rows}) == [0, 2, 3]


def test_readings_of_another_setting_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "readings.json"
    take(path, Scripted(), rounds=1)
    with pytest.raises(InputError, match="servers"):
        Readings(path, {"servers": ["b"]})
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="delete the file"):
        Readings(path, SETTING)


def test_contexts_are_whole_blocks_and_one_token() -> None:
    assert context_near(1000, 4096) == 1025
    assert context_near(1, 4096) == 129
    assert context_near(9000, 4096) == 31 * 128 + 1
    assert asdict(Probe(2, 129))["output_tokens"] == 64
    assert Probe(2, 129).point == (2, 0, 161, 0)
