"""Fits to a server's own log: true coefficients come back, and errors on what was not looked at are small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_server
import numpy as np
import pytest

from llmsched_gym.backends.replay import RequestLog, serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.latency_fit import fit_profile
from llmsched_gym.calibration.log_errors import errors
from llmsched_gym.calibration.log_fit import LogFit, Part, Plan, fit_to_log
from llmsched_gym.calibration.log_reading import read_measured
from llmsched_gym.calibration.log_settings import Setting
from llmsched_gym.calibration.measured_log import MeasuredLog
from llmsched_gym.calibration.shipped_profiles import chat_load
from llmsched_gym.cluster.latency import LatencyProfile, load_profile
from llmsched_gym.errors import InputError

TRUTH = LatencyProfile.from_ms("truth", (9.0, 0.03, 0.03, 1.5e-4))
TABLE = LatencyProfile.from_ms("table", (1.4 * 7.0, 1.4 * 0.03, 1.4 * 0.036, 1.4 * 1.4e-4))
"""A table that runs 40 % high, without 2 ms of host overhead, with dear prompts."""

PARTS: tuple[Part, ...] = ("first", "spread")
ALL: tuple[Setting, ...] = ("async_scheduling", "max_num_seqs", "kv_blocks")

TYPICAL = np.array([[1.0, 1, 0, 500], [1, 16, 0, 16_000], [1, 64, 0, 64_000], [1, 0, 1024, 0], [1, 32, 512, 32_000]])
"""Iterations: what a, b, c and d multiply."""


def measured_by_engine(config: EngineConfig, requests: RequestLog | None = None, noise: float = 0.01) -> MeasuredLog:
    """What the compiled engine would take for requests, else for the chat load, with noise on every time."""
    requests, rng = requests or chat_load(), np.random.default_rng(1)
    tasks, _ = serve(requests, config)
    first = (tasks["first_token_ns"] - tasks["start_ns"]) * 1e-9
    stream = (tasks["finish_ns"] - tasks["first_token_ns"]) * 1e-9
    first = first * np.exp(noise * rng.standard_normal(len(first)))
    return MeasuredLog(requests, first, first + stream * np.exp(noise * rng.standard_normal(len(first))))


def report(fit: LogFit) -> dict[str, Any]:
    return fit.config.profile.provenance["log_fit"]


def rest(fit: LogFit) -> dict[str, Any]:
    return report(fit)["rest"]["end_to_end"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("start", [TABLE, load_profile("llama-2-7b-h100")], ids=["table", "other"])
def test_known_coefficients_come_back(start: LatencyProfile, asynchronous: bool) -> None:
    log = measured_by_engine(EngineConfig(TRUTH, async_scheduling=asynchronous))
    fitted = fit_to_log(log, EngineConfig(start), Plan(share=0.3, own_table=start is TABLE))
    assert report(fitted)["engine"]["async_scheduling"] is asynchronous
    predicted, true = (TYPICAL @ profile.coefficients_ms for profile in (fitted.config.profile, TRUTH))
    np.testing.assert_allclose(predicted, true, rtol=0.05)
    assert rest(fitted)["mean_pct"] < 2.0
    assert report(fitted)["warnings"] == []


SERVERS = {
    "low load": lambda: made_up_server.serve(made_up_server.poisson(0.3)),
    "high load": lambda: made_up_server.serve(made_up_server.poisson(10.0), async_scheduling=True),
    "overload": lambda: made_up_server.serve(made_up_server.poisson(40.0), max_num_seqs=48, async_scheduling=True),
    "many slots": lambda: made_up_server.serve(made_up_server.poisson(40.0, 500), max_num_seqs=256),
    "bursts": lambda: made_up_server.serve(made_up_server.bursts()),
    "short of KV": lambda: made_up_server.serve(made_up_server.poisson(12.0), kv_blocks=2000),
    "experts": lambda: made_up_server.serve(made_up_server.poisson(4.0), experts=True),
    "a hundred requests": lambda: made_up_server.serve(made_up_server.poisson(4.0, 100)),
    "prompts found in the cache": lambda: made_up_server.serve(made_up_server.poisson(8.0), shared_tokens=500),
}
LIMITS: dict[str, dict[str, Any]] = {
    "overload": {"max_num_seqs": 48},
    "many slots": {"max_num_seqs": 256},
    "short of KV": {"kv_blocks": 2000},
}


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_tenth_of_a_log_predicts_the_rest(kind: str, stated: bool) -> None:
    """A server that the engine's code does not simulate, with noise, stalls, and costs that are not linear."""
    log, limits = SERVERS[kind](), LIMITS.get(kind, {})
    config = EngineConfig(TABLE, **limits if stated else {})
    fitted = fit_to_log(log, config, Plan(own_table=True, free=("async_scheduling",) if stated else ALL))
    told = report(fitted)
    assert rest(fitted)["mean_pct"] < 4.0
    low, high = rest(fitted)["interval_pct"]
    assert low < rest(fitted)["mean_pct"] < high
    for name, limit in limits.items():
        assert told["engine"][name] == pytest.approx(limit, rel=0.05)
    # The report's errors are those of a replay with the profile and the engine that it names.
    tasks, _ = serve(log.requests, replace(config, **told["engine"], profile=fitted.config.profile))
    off = np.abs((tasks["finish_ns"] - tasks["start_ns"]) * 1e-9 / log.end_to_end_s - 1.0)
    sums = [told[part]["end_to_end"] for part in ("part", "rest")]
    assert 100 * off.sum() == pytest.approx(sum(part["mean_pct"] * part["requests"] for part in sums), rel=0.02)


def test_real_server_within_five_per_cent(shared: Path) -> None:
    path = shared / "reference" / "real_vllm" / "rtxpro6000_llama-3.1-8b.csv"
    table = fit_profile(
        shared / "reference" / "llama31_8b_rtxpro6000_iteration_time.csv", path, EngineConfig(TRUTH), "rtx"
    )
    log, _ = read_measured(path)
    engine = EngineConfig(table)
    assert rest(fit_to_log(log, engine, Plan(own_table=True)))["mean_pct"] < 2.0
    assert rest(fit_to_log(log, engine, Plan(own_table=True, part="first")))["mean_pct"] < 5.0
    unknown = fit_to_log(log, replace(engine, max_num_seqs=64), Plan(own_table=True, free=ALL))
    assert rest(unknown)["mean_pct"] < 2.0
    assert unknown.config.max_num_seqs == pytest.approx(128, rel=0.05)
    bare = log._replace(first_token_s=np.full(300, np.nan))
    assert rest(fit_to_log(bare, engine, Plan(own_table=True)))["mean_pct"] < 5.0
    assert rest(fit_to_log(log, EngineConfig(load_profile("llama-2-7b-h100")), Plan()))["mean_pct"] < 5.0


@pytest.fixture(scope="module")
def log() -> MeasuredLog:
    return made_up_server.serve(made_up_server.poisson(6.0))


@pytest.mark.parametrize("part", PARTS)
def test_times_of_the_rest_are_not_looked_at(part: Part, log: MeasuredLog) -> None:
    plan = Plan(part=part, free=ALL)
    order = np.arange(200)
    chosen = order < 20 if part == "first" else order % 10 == 5
    other = log._replace(
        first_token_s=np.where(chosen, log.first_token_s, 1.7 * log.first_token_s),
        end_to_end_s=np.where(chosen, log.end_to_end_s, 1.7 * log.end_to_end_s),
    )
    first, second = (fit_to_log(each, EngineConfig(TABLE), plan) for each in (log, other))
    settings = ("max_num_seqs", "kv_blocks", "async_scheduling")
    assert [getattr(first.config, name) for name in settings] == [getattr(second.config, name) for name in settings]
    assert first.config.profile.coefficients_ms == second.config.profile.coefficients_ms
    assert rest(second)["mean_pct"] > 30.0


def test_row_order_does_not_matter(log: MeasuredLog) -> None:
    mixed = np.random.default_rng(0).permutation(200)
    requests = log.requests
    columns = (requests.arrival_ns[mixed], requests.prompt_tokens[mixed], requests.output_tokens[mixed])
    shuffled = MeasuredLog(
        requests._replace(
            ids=[requests.ids[row] for row in mixed],
            **dict(zip(("arrival_ns", "prompt_tokens", "output_tokens"), columns, strict=True)),
        ),
        log.first_token_s[mixed],
        log.end_to_end_s[mixed],
    )
    for part in PARTS:
        plan = Plan(part=part)
        first, second = (fit_to_log(each, EngineConfig(TABLE), plan) for each in (shuffled, log))
        assert first.config == second.config
        assert mixed[first.rest].tolist() == second.rest.tolist()


def test_requests_without_times_are_served_all_the_same(log: MeasuredLog) -> None:
    """Of a third nobody knows the end, of others the first token: they fill batches, and count for nothing."""
    some = np.random.default_rng(0).random(200)
    holes = log._replace(
        first_token_s=np.where(some < 0.6, np.nan, log.first_token_s),
        end_to_end_s=np.where(some < 0.3, np.nan, log.end_to_end_s),
    )
    told = report(fit_to_log(holes, EngineConfig(TABLE), Plan(own_table=True, share=0.2)))
    assert told["rest"]["end_to_end"]["mean_pct"] < 4.0
    ends, firsts = (told["rest"][name]["requests"] for name in ("end_to_end", "first_token"))
    assert ends + told["part"]["end_to_end"]["requests"] == (some >= 0.3).sum()
    assert firsts < ends


def test_what_the_log_does_not_tell_is_named(log: MeasuredLog) -> None:
    short = log.requests._replace(output_tokens=np.full(200, 2))
    lonely = measured_by_engine(EngineConfig(TRUTH), requests=short._replace(arrival_ns=np.arange(200) * 10**10))
    told = [
        report(fit_to_log(each, EngineConfig(TABLE), Plan(own_table=True)))["hardly_told"] for each in (log, lonely)
    ]
    assert told[0] == []
    assert "context" in told[1]


def test_wrong_settings_are_suspected() -> None:
    log = made_up_server.serve(made_up_server.poisson(12.0), kv_blocks=1500)
    doubts = report(fit_to_log(log, EngineConfig(TABLE), Plan(own_table=True)))["warnings"]
    seen = next(doubt for doubt in doubts if "other settings" in doubt)
    blocks = int(seen.rpartition("with ")[2].split()[0])
    assert blocks == pytest.approx(1500, rel=0.1)
    log = made_up_server.serve(made_up_server.poisson(20.0), max_num_seqs=64)
    with pytest.raises(InputError, match=r"64 requests that decode at once; expected .*: at least 64"):
        fit_to_log(log, EngineConfig(TABLE, max_num_seqs=32), Plan())


def test_found_limits_are_told() -> None:
    log = made_up_server.serve(made_up_server.poisson(12.0), kv_blocks=1500)
    told: list[str] = []
    fitted = fit_to_log(log, EngineConfig(TABLE), Plan(own_table=True, free=ALL), tell=told.append)
    assert told[-1].startswith(f"kv_blocks {fitted.config.kv_blocks} ")
    assert report(fitted)["found"] == list(ALL)


def test_a_part_that_does_not_stand_for_the_rest_is_suspected() -> None:
    """The first tenth knows nothing of the KV cache, which runs short later."""
    log = made_up_server.serve(made_up_server.poisson(12.0), kv_blocks=2000)
    first, spread = (fit_to_log(log, EngineConfig(TABLE), Plan(part=part, own_table=True, free=ALL)) for part in PARTS)
    assert any("does not stand for the rest" in doubt for doubt in report(first)["warnings"])
    assert report(spread)["warnings"] == []
    assert rest(spread)["mean_pct"] < 5.0 < rest(first)["mean_pct"]


def test_a_stall_in_the_first_part_is_suspected() -> None:
    log = made_up_server.serve(made_up_server.poisson(4.0), stall_s=5.0)
    first, spread = (fit_to_log(log, EngineConfig(TABLE), Plan(part=part, own_table=True)) for part in PARTS)
    assert any("even where it was fitted" in doubt for doubt in report(first)["warnings"])
    assert rest(spread)["median_pct"] < 4.0


def test_prompts_that_lie_in_the_prefix_cache_are_suspected() -> None:
    log = made_up_server.serve(made_up_server.poisson(8.0), shared_tokens=4000)
    doubts = report(fit_to_log(log, EngineConfig(TABLE), Plan(own_table=True)))["warnings"]
    assert any("prefix cache" in doubt for doubt in doubts)


def test_too_few_requests_are_refused(log: MeasuredLog) -> None:
    few = np.arange(200) < 5
    short = log._replace(end_to_end_s=np.where(few, log.end_to_end_s, np.nan))
    with pytest.raises(InputError, match="5 requests with a measured end: 1 to fit to; expected at least 10"):
        fit_to_log(short, EngineConfig(TABLE), Plan(), "some.csv")
    with pytest.raises(InputError, match="200 requests with a measured end: 2 to tell the error on"):
        fit_to_log(log, EngineConfig(TABLE), Plan(share=0.99), "some.csv")


def test_errors_by_hand() -> None:
    told = errors(np.array([0.1, -0.3]))
    assert (told["mean_pct"], told["bias_pct"], told["requests"]) == (20.0, -10.0, 2)
    assert told["interval_pct"] == [10.0, 30.0]


def test_what_runs_at_once_by_hand(log: MeasuredLog) -> None:
    requests = log.requests._replace(
        ids=["a", "b", "c"],
        arrival_ns=np.zeros(3, np.int64),
        prompt_tokens=np.array([100, 50, 9]),
        output_tokens=np.array([10, 20, 9]),
    )
    # The second takes the first one's slot; the third's first token is not known.
    seen = MeasuredLog(requests, np.array([1.0, 2.0, np.nan]), np.array([2.0, 3.0, 9.0]))
    assert seen.decoding_at_once() == 1
    assert seen.tokens_at_once() == 110
    both = seen._replace(first_token_s=np.array([1.0, 1.5, np.nan]))
    assert both.decoding_at_once() == 2
    assert both.tokens_at_once() == 110 + 50 + 6
