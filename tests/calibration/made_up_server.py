"""A made-up server: the plain loop over iterations with costs that no four coefficients describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from plain_engine import PlainEngine, Request

from llmsched_gym.backends.replay import RequestLog
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.measured_log import MeasuredLog
from llmsched_gym.cluster.latency import PS_PER_MS, LatencyProfile

COEFFICIENTS = (9.0, 0.03, 0.03, 1.5e-4)
"""What it costs but for what is odd about it."""


class _Cost:
    """Something that a number of sequences or tokens is multiplied with, and that need not be a number."""

    def __init__(self, milliseconds: Callable[[int], float]) -> None:
        self.milliseconds = milliseconds

    def __mul__(self, number: int) -> int:
        return int(self.milliseconds(number) * PS_PER_MS)


class _Costs:
    """Stands where a latency profile does: 3 % noise in each iteration, and one in 300 takes six times as long."""

    def __init__(self, rng: np.random.Generator, experts: bool) -> None:
        a, b, c, d = COEFFICIENTS
        self.name, self._a, self._rng = "made up", a, rng
        self.decode_ps = _Cost(lambda n: b * n + (6.0 * (1.0 - np.exp(-n / 12.0)) if experts else 0.0))
        self.prefill_ps = _Cost(lambda n: c * n)
        self.context_ps = _Cost(lambda n: d * n)
        self.attention_ps = _Cost(lambda n: 2e-7 * n)

    @property
    def iteration_ps(self) -> int:
        stalled = 6.0 if self._rng.random() < 1.0 / 300.0 else 1.0
        return int(self._a * stalled * PS_PER_MS * np.exp(0.03 * self._rng.standard_normal()))


def serve(
    arrival_s: np.ndarray,
    *,
    experts: bool = False,
    stall_s: float = 0.0,
    shared_tokens: int = 0,
    seed: int = 0,
    **engine: Any,
) -> MeasuredLog:
    """Let the server handle chats.

    Args:
        arrival_s: float64 (n,), sorted.
        experts: Whether the first sequences of a batch cost more than those that join, as with experts of a model.
        stall_s: How long the first tenth of the requests waits before the engine sees them.
        shared_tokens: How many tokens the prompts of each of four applications have in common, on top.
        seed: For lengths and noise.
        engine: Fields of `EngineConfig`.

    Returns:
        What clients see: up to 10 ms beside the engine's time.
    """
    rng, n = np.random.default_rng(seed), len(arrival_s)
    prompt = shared_tokens + np.clip(rng.lognormal(6.3, 0.9, n), 10, 8000).astype(np.int64)
    output = np.clip(rng.lognormal(5.0, 0.8, n), 2, 2000).astype(np.int64)
    seen = arrival_s + 0.01 * rng.random(n) + np.where(np.arange(n) < 0.1 * n, stall_s, 0.0)
    config = EngineConfig(LatencyProfile("made up", 1, 0, 0, 0), **{"kv_blocks": 1 << 16, **engine})
    object.__setattr__(config, "profile", _Costs(rng, experts))
    requests = [
        Request(round(1e9 * at), int(p), int(o), app, shared_tokens, own_from=shared_tokens)
        for at, p, o, app in zip(seen, prompt, output, rng.integers(4, size=n).tolist(), strict=True)
    ]
    PlainEngine(config).run(sorted(requests, key=lambda request: request.arrival_ns))
    first = np.array([(request.first_token_ns or 0) * 1e-9 for request in requests]) - arrival_s
    last = np.array([(request.finish_ns or 0) * 1e-9 for request in requests]) - arrival_s
    ids = [str(index) for index in range(n)]
    return MeasuredLog(RequestLog(ids, np.round(1e9 * arrival_s).astype(np.int64), prompt, output), first, last)


def poisson(rate: float, n: int = 200, seed: int = 0) -> np.ndarray:
    """Arrivals at a rate."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, n))


def bursts(n: int = 200, seed: int = 0) -> np.ndarray:
    """Arrivals in five bursts, 20 s apart."""
    rng = np.random.default_rng(seed)
    return np.sort(20.0 * rng.integers(5, size=n) + rng.random(n))
