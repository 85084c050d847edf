"""When jobs arrive: Poisson, Gamma, Markov-modulated, diurnal, or as in a recorded trace.

Every process has a long-run mean rate equal to the one asked for, and returns int64 nanoseconds. Random variates are
made from uniforms with `detmath` only, so that a seed gives the same times on every machine.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmsched_gym.complaints import refused
from llmsched_gym.config import Config, Real
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.traces import TraceFormat, read_trace, refuse_turns
from llmsched_gym.workloads.workload import MAX_ARRIVAL_NS

Nanoseconds = NDArray[np.int64]
Floats = NDArray[np.float64]

_NS: Final = 1e9
_LEAST_RATE: Final = 1e-12
"""Jobs per second; below it, times could overflow before they are found too late."""

_NEAR: Final = 0.1
"""How far the rate of a window may be from the one wanted, over that."""

_MOST_VISITS: Final = 1e7
"""Visits of the states of a Markov-modulated process that are drawn at most: some seconds' work."""


class Poisson(Config):
    """Independent arrivals: exponential gaps."""

    kind: Literal["poisson"] = "poisson"

    def sample(self, n: int, rate_per_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return `n` arrival times, ascending, as int64 ns."""
        return _to_ns(np.cumsum(_exponential(rng, n)) / check_rate(rate_per_s))


class Gamma(Config):
    """Independent Gamma gaps with a given coefficient of variation.

    Attributes:
        cv: Standard deviation over mean of the gaps; 1 is Poisson, above is burstier.
    """

    kind: Literal["gamma"] = "gamma"
    cv: Real = Field(ge=1e-3, le=20.0)

    def sample(self, n: int, rate_per_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return `n` arrival times, ascending, as int64 ns."""
        shape = 1.0 / (self.cv * self.cv)
        return _to_ns(np.cumsum(_gamma(rng, n, shape)) / shape / check_rate(rate_per_s))


class MarkovModulated(Config):
    """Poisson arrivals whose rate jumps between states, visited in turn, each for an exponential time.

    Attributes:
        ratios: Relative rate of each state; only their proportions count.
        dwell_s: Mean time in each state, in seconds.
    """

    kind: Literal["mmpp"] = "mmpp"
    ratios: tuple[Annotated[Real, Field(ge=0.0, le=1e9)], ...] = Field(default=(1.0, 5.0), min_length=2)
    dwell_s: tuple[Annotated[Real, Field(ge=1e-6, le=1e9)], ...] = Field(default=(60.0, 15.0), min_length=2)

    @model_validator(mode="after")
    def _states_match(self) -> Self:
        if len(self.ratios) != len(self.dwell_s):
            raise refused("dwell_s", list(self.dwell_s), f"one time per state, {len(self.ratios)} of them")
        if not any(ratio > 0.0 for ratio in self.ratios):
            raise refused("ratios", list(self.ratios), "a state with a ratio > 0")
        return self

    def sample(self, n: int, rate_per_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return `n` arrival times, ascending, as int64 ns. The first state is drawn from the stationary shares."""
        rate = check_rate(rate_per_s)
        target = np.cumsum(_exponential(rng, n))
        cycle_s = np.cumsum(self.dwell_s)
        visits = n / rate / float(cycle_s[-1]) * len(cycle_s)
        if visits > _MOST_VISITS:
            allowed = f"longer times, for a rate of {rate:g} jobs/s: states are visited {_MOST_VISITS:g} times at most"
            raise InputError("arrivals", "dwell_s", list(self.dwell_s), allowed)
        per_cycle = sum(ratio * dwell for ratio, dwell in zip(self.ratios, self.dwell_s, strict=True))
        rates = np.array(self.ratios) * (rate * float(cycle_s[-1]) / per_cycle)
        state = int(np.searchsorted(cycle_s, rng.random() * cycle_s[-1], side="right"))
        time, expected = [np.zeros(1)], [np.zeros(1)]
        while n and expected[-1][-1] <= target[-1]:
            states = (state + np.arange(256)) % len(rates)
            state = (state + 256) % len(rates)
            dwell = _exponential(rng, 256) * np.array(self.dwell_s)[states]
            time.append(time[-1][-1] + np.cumsum(dwell))
            expected.append(expected[-1][-1] + np.cumsum(dwell * rates[states]))
        return _to_ns(detmath.interpolate(target, np.concatenate(expected), np.concatenate(time)))


class Diurnal(Config):
    """Poisson arrivals with rate proportional to 1 + amplitude · sin(2π (t / period + phase)).

    Attributes:
        amplitude: Relative swing of the rate, 0 to 1.
        period_s: Length of a day, in seconds.
        phase: Where in the period time zero lies; 0 is the mean rate, rising.
    """

    kind: Literal["diurnal"] = "diurnal"
    amplitude: Real = Field(default=0.5, ge=0.0, le=1.0)
    period_s: Real = Field(default=86_400.0, ge=1e-3, le=1e9)
    phase: Real = Field(default=0.0, ge=0.0, lt=1.0)

    def sample(self, n: int, rate_per_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return `n` arrival times, ascending, as int64 ns."""
        target = np.cumsum(_exponential(rng, n)) / (check_rate(rate_per_s) * self.period_s)  # in periods' expectations
        share = np.linspace(0.0, 1.0, 2049)
        turn = share + self.phase
        cosine = _cosine_of_turns(turn - np.floor(turn))
        expected = share + self.amplitude / (2.0 * np.pi) * (cosine[0] - cosine)
        expected[-1] = 1.0  # whole turns cancel but for rounding
        whole = np.floor(target)
        return _to_ns((whole + detmath.interpolate(target - whole, expected, share)) * self.period_s)


class Trace(Config):
    """Arrival times of a recorded trace: a window of it that starts at a random request.

    Attributes:
        path: The user's trace file.
        format: As in `workloads.traces`.
        rescale: Stretch time so that the whole trace has the rate asked for; if False, keep the recorded times and
            ignore the rate.
        window: Which windows there are to choose from. "any": all, whose own rates may be far from that of the trace.
            "rate": those whose own rate is within a tenth of that of the trace (of the rate asked for, if time is not
            stretched); if there are none, the closest.
    """

    kind: Literal["trace"] = "trace"
    path: str
    format: TraceFormat = "azure"
    rescale: bool = True
    window: Literal["any", "rate"] = "any"

    def sample(self, n: int, rate_per_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return `n` arrival times, ascending, as int64 ns; the first is 0.

        Raises:
            InputError: An unreadable trace, one with fewer than `n` requests, or one without duration.
        """
        trace = read_trace(self.path, self.format)
        refuse_turns(self.path, trace)
        times = trace.arrival_ns
        if n > len(times):
            raise InputError(self.path, "requests", len(times), f"at least {n}, one per job")
        first = self._first(times, n, rate_per_s, rng)
        window = times[first : first + n] - times[first : first + 1]
        if not self.rescale:
            return window
        return _to_ns(window.astype(np.float64) * (self._recorded_rate(times) / check_rate(rate_per_s) / _NS))

    def _first(self, times: Nanoseconds, n: int, rate_per_s: float, rng: np.random.Generator) -> int:
        """Draw the request that a window of `n` begins with."""
        if self.window == "any" or n < 2:
            return int(rng.integers(0, len(times) - n + 1))
        wanted = self._recorded_rate(times) if self.rescale else check_rate(rate_per_s)
        spans_s = np.maximum(times[n - 1 :] - times[: len(times) - n + 1], 1) / _NS
        off = np.abs((n - 1) / spans_s / wanted - 1.0)
        near = np.flatnonzero(off <= max(_NEAR, off.min()))
        return int(near[rng.integers(0, len(near))])

    def _recorded_rate(self, times: Nanoseconds) -> float:
        span = int(times[-1] - times[0])
        if span <= 0:
            raise InputError(self.path, "timestamps", Plain("equal ones"), "a trace that spans some time")
        return (len(times) - 1) / (span / _NS)


Arrivals = Annotated[Poisson | Gamma | MarkovModulated | Diurnal | Trace, Field(discriminator="kind")]
"""Any arrival process; the field ``kind`` tells which."""


def check_rate(rate_per_s: Any) -> float:
    """Return `rate_per_s` as a float.

    Raises:
        InputError: It is not a finite number of at least 1e-12.
    """
    allowed = f"jobs per second, a number >= {_LEAST_RATE:g}"
    rate = real_number(rate_per_s)
    if rate is None or rate < _LEAST_RATE:
        raise InputError("workload", "rate", rate_per_s, allowed)
    return rate


def _to_ns(seconds: Floats) -> Nanoseconds:
    if len(seconds) and not seconds[-1] <= MAX_ARRIVAL_NS / _NS:
        last = Plain(f"a last arrival at {seconds[-1]:.3g} s")
        raise InputError("workload", "rate", last, "a rate that ends within 1e9 s")
    return np.rint(seconds * _NS).astype(np.int64)


def _exponential(rng: np.random.Generator, n: int) -> Floats:
    return -detmath.log(1.0 - rng.random(n))


def _gamma(rng: np.random.Generator, n: int, shape: float) -> Floats:
    """Gamma variates of unit scale, by Marsaglia and Tsang's rejection (ACM TOMS 26, 2000)."""
    if shape < 1.0:  # their boost: Gamma(k) = Gamma(k + 1) · U^(1/k)
        boost = detmath.exp(np.maximum(detmath.log(1.0 - rng.random(n)) / shape, -690.0))
        return _gamma(rng, n, shape + 1.0) * boost
    d = shape - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    variates = np.empty(n)
    missing = np.arange(n)
    while len(missing):
        z = detmath.normal_quantile(np.maximum(rng.random(len(missing)), 2.0**-54))
        accept_below = detmath.log(1.0 - rng.random(len(missing)))
        root = 1.0 + c * z
        cube = root * root * root
        valid = cube > 0.0
        bound = 0.5 * z * z + d - d * cube + d * detmath.log(np.where(valid, cube, 1.0))
        accepted = valid & (accept_below < bound)
        variates[missing[accepted]] = d * cube[accepted]
        missing = missing[~accepted]
    return variates


def _cosine_of_turns(turn: Floats) -> Floats:
    """Cosine of 2π `turn` for 0 <= turn <= 1, by its power series (error below 1e-12)."""
    x = 2.0 * np.pi * (turn - 0.5)  # within ±π; cos(x + π) = -cos x
    square = x * x
    series = np.ones_like(x)
    for k in range(30, 0, -2):
        series = 1.0 - square / (k * (k - 1)) * series
    return -series
