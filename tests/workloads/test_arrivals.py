"""Arrival processes have the rates, variations and correlations that they promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.arrivals import Arrivals, Diurnal, Gamma, MarkovModulated, Poisson, Trace

N = 60_000
PROCESSES = [
    Poisson(),
    Gamma(cv=0.3),
    Gamma(cv=1.0),
    Gamma(cv=3.0),
    MarkovModulated(ratios=(1.0, 8.0), dwell_s=(30.0, 10.0)),
    MarkovModulated(ratios=(0.0, 1.0, 4.0), dwell_s=(5.0, 20.0, 5.0)),
    Diurnal(amplitude=0.9, period_s=600.0, phase=0.3),
]


def gaps(process: Arrivals, rate: float, n: int = N, seed: int = 0) -> np.ndarray:
    return np.diff(process.sample(n, rate, np.random.default_rng(seed))) / 1e9


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("rate", [0.05, 20.0])
def test_times_ascend_from_zero_at_the_rate_asked_for(process: Arrivals, rate: float) -> None:
    times = process.sample(N, rate, np.random.default_rng(1))
    assert times.dtype == np.int64
    assert times.shape == (N,)
    assert times[0] >= 0
    assert np.all(np.diff(times) >= 0)
    # At 20 per second the last state of an MMPP covers a few per cent of the run; at 0.05 it averages out.
    tolerance = 0.15 if isinstance(process, MarkovModulated) and rate > 1.0 else 0.03
    assert N / (times[-1] / 1e9) == pytest.approx(rate, rel=tolerance)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_seed_decides(process: Arrivals) -> None:
    first, again, other = (process.sample(50, 1.0, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_poisson_gaps_are_exponential_and_independent() -> None:
    gap = gaps(Poisson(), 4.0)
    assert stats.kstest(gap, stats.expon(scale=0.25).cdf).statistic < 0.007  # 5 % critical value at this n: 0.0055
    assert abs(np.corrcoef(gap[1:], gap[:-1])[0, 1]) < 0.015


@pytest.mark.parametrize("cv", [0.3, 0.9, 1.0, 2.0, 5.0])
def test_gamma_gaps_have_the_distribution_of_their_cv(cv: float) -> None:
    gap = gaps(Gamma(cv=cv), 2.0)
    assert gap.std() / gap.mean() == pytest.approx(cv, rel=0.05)
    shape = 1.0 / cv**2
    assert stats.kstest(gap[gap > 1e-6], _above(stats.gamma(shape, scale=0.5 / shape), 1e-6)).statistic < 0.009
    assert abs(np.corrcoef(gap[1:], gap[:-1])[0, 1]) < 0.015


def _above(distribution: Any, low: float) -> Callable[[np.ndarray], np.ndarray]:
    """Distribution function given a value above `low`; below it, nanosecond rounding shows."""
    base = distribution.cdf(low)
    return lambda x: (distribution.cdf(x) - base) / (1.0 - base)


def test_mmpp_is_bursty_and_correlated_over_its_dwell_times() -> None:
    times = MarkovModulated(ratios=(1.0, 8.0), dwell_s=(30.0, 10.0)).sample(N, 2.0, np.random.default_rng(2)) / 1e9
    counts = np.bincount((times / 5.0).astype(np.int64))
    assert np.corrcoef(counts[1:], counts[:-1])[0, 1] > 0.5
    assert abs(np.corrcoef(counts[40:], counts[:-40])[0, 1]) < 0.1
    # Rates 2 · 40 / (30 + 80) = 0.727 and 5.818 per second, three quarters and one quarter of the time.
    assert np.quantile(counts, 0.3) / 5.0 == pytest.approx(0.73, abs=0.25)
    # Index of dispersion over t = 5 s: 1 + 2 (l1 - l2)^2 p1 p2 / (l s) (1 - (1 - e^(-s t)) / (s t)), s = 1/30 + 1/10.
    s = 1 / 30 + 1 / 10
    shape = 1.0 - (1.0 - np.exp(-5.0 * s)) / (5.0 * s)
    expected = 1.0 + 2.0 * (5.818 - 0.727) ** 2 * 0.75 * 0.25 / (2.0 * s) * shape
    assert counts.var() / counts.mean() == pytest.approx(expected, rel=0.1)


def test_mmpp_state_without_arrivals_leaves_gaps() -> None:
    gap = gaps(MarkovModulated(ratios=(0.0, 1.0), dwell_s=(50.0, 50.0)), 2.0)
    assert np.mean(gap > 10.0) * len(gap) == pytest.approx(N / 2.0 / 100.0 * np.exp(-0.2), rel=0.25)


def test_diurnal_rate_follows_the_sine() -> None:
    process = Diurnal(amplitude=0.8, period_s=1000.0, phase=0.25)
    times = process.sample(N, 10.0, np.random.default_rng(3)) / 1e9
    whole = times[times < 5000.0]
    counts, _ = np.histogram(whole % 1000.0, bins=20, range=(0.0, 1000.0))
    middle = (np.arange(20) + 0.5) / 20 + 0.25
    assert counts / counts.mean() == pytest.approx(1.0 + 0.8 * np.sin(2 * np.pi * middle), abs=0.1)


def test_diurnal_without_amplitude_is_poisson() -> None:
    plain, flat = Poisson(), Diurnal(amplitude=0.0, period_s=100.0)
    assert flat.sample(500, 3.0, np.random.default_rng(4)) == pytest.approx(
        plain.sample(500, 3.0, np.random.default_rng(4)), abs=2
    )


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    times = np.cumsum(np.random.default_rng(0).exponential(0.5, 400)).tolist()
    path.write_text("t_s,in_tokens,out_tokens\n" + "".join(f"{t!r},10,20\n" for t in times))
    return path


def test_trace_is_stretched_to_the_rate_or_kept(trace_file: Path) -> None:
    rng = np.random.default_rng(0)
    rescaled = Trace(path=str(trace_file), format="csv").sample(400, 5.0, rng)
    assert rescaled[0] == 0
    assert 399 / (rescaled[-1] / 1e9) == pytest.approx(5.0)
    kept = Trace(path=str(trace_file), format="csv", rescale=False).sample(400, 5.0, rng)
    recorded = np.array([float(line.split(",")[0]) for line in trace_file.read_text().splitlines()[1:]])
    assert kept / 1e9 == pytest.approx(recorded - recorded[0], abs=2e-9)
    assert kept / kept[-1] == pytest.approx(rescaled / rescaled[-1], abs=1e-9)


def test_trace_window_starts_anywhere(trace_file: Path) -> None:
    process = Trace(path=str(trace_file), format="csv", rescale=False)
    whole = process.sample(400, 1.0, np.random.default_rng(0))
    starts = set()
    for seed in range(5):
        window = process.sample(100, 1.0, np.random.default_rng(seed))
        matches = [k for k in range(301) if np.array_equal(whole[k : k + 100] - whole[k], window)]
        assert len(matches) == 1
        starts.add(matches[0])
    assert len(starts) > 1


@pytest.mark.parametrize("rescale", [True, False])
def test_windows_near_the_rate(tmp_path: Path, rescale: bool) -> None:
    path = tmp_path / "trace.csv"
    gaps = np.repeat([0.1, 1.0, 10.0], 200)  # busy, as asked for, idle
    times = np.cumsum(gaps)
    rows = "".join(f"{time:.3f},5,5\n" for time in times)
    path.write_text(f"t_s,in_tokens,out_tokens\n{rows}")
    mean_rate = (len(times) - 1) / (times[-1] - times[0])
    asked = 3.0 if rescale else 1.0
    any_window, near = (
        [
            Trace(path=str(path), format="csv", rescale=rescale, window=window).sample(
                50, asked, np.random.default_rng(s)
            )
            for s in range(40)
        ]
        for window in ("any", "rate")
    )
    rates = [[49e9 / (each[-1] - each[0]) / asked for each in found] for found in (any_window, near)]
    assert min(rates[0]) < 0.5
    assert max(rates[0]) > 2.0
    assert all(0.9 <= rate <= 1.1 for rate in rates[1]), mean_rate
    assert len({round(rate, 6) for rate in rates[1]}) > 1 or not rescale


def test_the_closest_window_where_none_is_near(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,in_tokens,out_tokens\n" + "".join(f"{time},5,5\n" for time in (0, 1, 3, 7, 15)))
    process = Trace(path=str(path), format="csv", rescale=False, window="rate")
    found = process.sample(2, 9.0, np.random.default_rng(0))
    assert found.tolist() == [0, 1_000_000_000], "one job per second is as close as it gets"


def test_trace_too_short_or_without_duration_is_refused(trace_file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"trace\.csv: requests: got 400; expected at least 401"):
        Trace(path=str(trace_file), format="csv").sample(401, 1.0, rng)
    still = tmp_path / "still.csv"
    still.write_text("t_s,in_tokens,out_tokens\n1,1,1\n1,1,1\n")
    with pytest.raises(InputError, match="spans some time"):
        Trace(path=str(still), format="csv").sample(2, 1.0, rng)


def test_processes_are_read_by_kind() -> None:
    adapter: TypeAdapter[Arrivals] = TypeAdapter(Arrivals)
    assert adapter.validate_python({"kind": "gamma", "cv": 2.0}) == Gamma(cv=2.0)
    for process in PROCESSES:
        assert adapter.validate_json(process.model_dump_json()) == process


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "poison"},
        {"kind": "gamma", "cv": 0.0},
        {"kind": "gamma", "cv": float("nan")},
        {"kind": "gamma"},
        {"kind": "poisson", "rate": 3},
        {"kind": "mmpp", "ratios": [1.0, 2.0], "dwell_s": [1.0]},
        {"kind": "mmpp", "ratios": [0.0, 0.0], "dwell_s": [1.0, 1.0]},
        {"kind": "mmpp", "ratios": [1.0, -1.0], "dwell_s": [1.0, 1.0]},
        {"kind": "diurnal", "amplitude": 1.5},
        {"kind": "trace"},
        {"kind": "trace", "path": "x", "format": "parquet"},
    ],
    ids=str,
)
def test_bad_processes_are_refused(bad: dict[str, object]) -> None:
    adapter: TypeAdapter[Arrivals] = TypeAdapter(Arrivals)
    with pytest.raises(ValidationError):
        adapter.validate_python(bad)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), True, "2", 1e-12])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(InputError, match="workload: rate: got"):
        Poisson().sample(3, rate, np.random.default_rng(0))
