"""Speed of the engine beside the same model as a plain Python loop over iterations, in one run.

    python benchmarks/engine.py [--requests 200000] [--plain-requests 3000] [--repeats 5]

Chat-like requests (about 1,000 prompt and 250 output tokens). Times are process CPU time; the best of the repeats
counts. The two loops' finish times are compared on the requests that both serve.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from plain_engine import PlainEngine, Request
from rich.console import Console
from rich.table import Table

from llmsched_gym.backends.replay import RequestLog, serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.cluster.latency import LatencyProfile

PROFILE = LatencyProfile.from_ms("test", (8.0, 0.08, 0.09, 0.00028))
"""The test formula of the reference cases."""


@dataclass(frozen=True)
class Case:
    """One load."""

    name: str
    rate: float
    max_num_seqs: int


CASES = (Case("chat, cap 128", 2.0, 128), Case("chat, cap 16, full", 8.0, 16), Case("chat, cap 128, full", 16.0, 128))


def chat(rate: float, n: int, seed: int = 0) -> RequestLog:
    """Poisson arrivals; skewed lengths with means of 1,000 prompt and 250 output tokens."""
    rng = np.random.default_rng(seed)
    arrival_ns = np.round(1e9 * np.cumsum(-np.log1p(-rng.random(n)) / rate)).astype(np.int64)
    prompt = 1 + (4000.0 * rng.random((n, 2)).prod(axis=1)).astype(np.int64)
    output = 1 + (1000.0 * rng.random((n, 2)).prod(axis=1)).astype(np.int64)
    return RequestLog([str(index) for index in range(n)], arrival_ns, prompt, output)


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Least CPU time of some calls."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return float(best)


def plain_finish_ns(log: RequestLog, config: EngineConfig) -> list[int | None]:
    """Finish times of the plain loop."""
    requests = [
        Request(int(arrival), int(prompt), int(output))
        for arrival, prompt, output in zip(log.arrival_ns, log.prompt_tokens, log.output_tokens, strict=True)
    ]
    PlainEngine(config).run(requests)
    return [request.finish_ns for request in requests]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="requests for the engine")
    parser.add_argument("--plain-requests", type=int, default=3_000, help="requests for the plain loop")
    parser.add_argument("--repeats", type=int, default=5, help="repeats; the best counts")
    arguments = parser.parse_args()

    start = time.perf_counter()
    serve(chat(1.0, 10), EngineConfig(PROFILE))
    warm = time.perf_counter() - start
    table = Table("case", "engine req/s", "iterations/s", "plain req/s", "ratio", "same times")
    for case in CASES:
        config = EngineConfig(PROFILE, max_num_seqs=case.max_num_seqs, kv_blocks=7424)
        log = chat(case.rate, arguments.requests)
        small = chat(case.rate, arguments.plain_requests)
        iterations = int(serve(log, config)[1]["iterations"].sum())
        seconds = cpu_seconds(lambda log=log, config=config: serve(log, config), arguments.repeats)
        plain = cpu_seconds(lambda small=small, config=config: plain_finish_ns(small, config), 1)
        equal = serve(small, config)[0]["finish_ns"].tolist() == plain_finish_ns(small, config)
        fast, slow = arguments.requests / seconds, arguments.plain_requests / plain
        cells = (f"{fast:,.0f}", f"{iterations / seconds:,.0f}", f"{slow:,.0f}", f"{fast / slow:,.0f}x")
        table.add_row(case.name, *cells, "yes" if equal else "NO")
    console = Console()
    console.print(table)
    console.print(f"first call, compiling or loading compiled code: {warm:.1f} s")


if __name__ == "__main__":
    main()
