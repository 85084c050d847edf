"""Hold the simulated engine against vLLM's own V1 scheduler on random loads: every time of every request, to the ns.

    make vllm
    python benchmarks/vllm_scheduler.py [--loads 500] [--async-loads 200] [--seed 0]

Per load, three engines serve the same requests: vLLM's `Scheduler` (or `AsyncScheduler`) in a process of the Python
that has vLLM (`vllm_driver.py`), the plain loop over iterations and blocks (`plain_engine.py`), and the compiled one.
Compared are first-token and finish time and preemptions of every request, and for the plain loop also the KV blocks in
use in every iteration. Exits with 1 if any load differs, and names the seeds of the first that do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plain_engine import PlainEngine
from random_loads import Load, random_load
from rich.console import Console
from rich.table import Table

from llmsched_gym.backends.replay import serve
from llmsched_gym.backends.vllm.dummy_model import dummy_model
from llmsched_gym.backends.vllm.launch_spec import find_python

TIMES = ("first_token_ns", "finish_ns", "restarts")
"""What is compared of each request."""


def content_ranges(load: Load) -> list[list[tuple[int, int, int]]]:
    """Return the tokens of each request, output included, as (number of the content, first position, position behind).

    Contents follow one rule: what the application's prefix does not cover the job's chain does up to where the task's
    own begins.
    """
    ranges: list[list[tuple[int, int, int]]] = []
    for index, request in enumerate(load.requests):
        end = request.prompt + request.output
        cuts = (0, request.app_prefix_tokens, max(request.app_prefix_tokens, min(request.own_from, end)), end)
        numbers = (1 + max(request.app_prefix, 0), 100 + max(request.job_prefix, 0), 1000 + index)
        ranges.append([(number, *cuts[k : k + 2]) for k, number in enumerate(numbers) if cuts[k] < cuts[k + 1]])
    return ranges


def as_json(load: Load) -> dict[str, Any]:
    """Write a load as `vllm_driver.py` reads it."""
    config, profile = load.config, load.config.profile
    names = ("max_num_seqs", "max_num_batched_tokens", "kv_blocks", "block_size", "watermark", "prefix_caching")
    engine = {name: getattr(config, name) for name in (*names, "async_scheduling")}
    coefficients = (profile.iteration_ps, profile.decode_ps, profile.prefill_ps, profile.context_ps)
    requests = [
        {"arrival_ns": request.arrival_ns, "output": request.output, "tokens": tokens}
        for request, tokens in zip(load.requests, content_ranges(load), strict=True)
    ]
    return {"engine": {**engine, "latency_ps": [*coefficients, profile.attention_ps]}, "requests": requests}


class VllmScheduler:
    """A process in which vLLM's scheduler serves loads; a context manager.

    Attributes:
        version: Version of vLLM.
    """

    def __init__(self, python: str) -> None:
        """Start it by the Python that has vLLM, which takes some seconds."""
        model = dummy_model("tiny")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the process has ended
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("vllm_driver.py"), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.version: str = self._read()["vllm"]

    def __enter__(self) -> VllmScheduler:
        """Return the process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate()
        self._errors.close()

    def serve(self, load: Load) -> dict[str, Any]:
        """Return vLLM's times of a load."""
        assert self._process.stdin is not None
        print(json.dumps(as_json(load)), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"vLLM's scheduler ended:\n{self._errors.read()[-2000:]}")
        return json.loads(line)


@dataclass
class Tally:
    """What came out of some loads of one kind.

    Attributes:
        loads: How many.
        requests: Their requests.
        preempting: Loads in which some request was preempted.
        preemptions: All preemptions.
        hitting: Loads in which some request found a block in the prefix cache.
        iterations: Iterations of vLLM.
        differing: Seeds of the loads in which an engine differed from vLLM, and which.
    """

    loads: int = 0
    requests: int = 0
    preempting: int = 0
    preemptions: int = 0
    hitting: int = 0
    iterations: int = 0
    differing: list[tuple[int, str]] = field(default_factory=list)

    def add(self, seed: int, load: Load, vllm: dict[str, Any]) -> None:
        """Serve a load with the plain and the compiled engine, and compare them with vLLM."""
        plain = PlainEngine(load.config)
        requests = load.requests
        plain.run(requests)
        tasks, _ = serve(load.log, load.config)
        expected = [tuple(row[name] for name in TIMES) for row in vllm["times"]]
        plain_times = [tuple(getattr(request, name) for name in TIMES) for request in requests]
        compiled_times = [tuple(int(row[name]) for name in TIMES) for row in tasks]
        if plain_times != expected or plain.used != vllm["used"]:
            self.differing.append((seed, "plain"))
        if compiled_times != expected:
            self.differing.append((seed, "compiled"))
        restarts = sum(row["restarts"] for row in vllm["times"])
        self.loads += 1
        self.requests += len(requests)
        self.preempting += restarts > 0
        self.preemptions += restarts
        self.hitting += any(request.cached for request in requests)
        self.iterations += len(vllm["used"])


def compare(process: VllmScheduler, first_seed: int, loads: int, *, asynchronous: bool) -> Tally:
    """Compare the engines on random loads."""
    tally = Tally()
    for seed in range(first_seed, first_seed + loads):
        load = random_load(seed).scheduled(asynchronous=asynchronous)
        tally.add(seed, load, process.serve(load))
    return tally


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=500, help="loads with synchronous scheduling")
    parser.add_argument("--async-loads", type=int, default=200, help="loads with asynchronous scheduling")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first load; those that follow count on")
    arguments = parser.parse_args()

    start = time.perf_counter()
    with VllmScheduler(find_python()) as process:
        tallies = {
            "synchronous": compare(process, arguments.seed, arguments.loads, asynchronous=False),
            "asynchronous": compare(process, arguments.seed, arguments.async_loads, asynchronous=True),
        }
        version = process.version
    columns = ("loads", "requests", "iterations", "with cache hits", "with preemptions", "preemptions", "equal")
    table = Table("scheduling", *columns, title=f"Engine against the scheduler of vLLM {version}")
    for name, tally in tallies.items():
        equal = tally.loads - len({seed for seed, _ in tally.differing})
        counts = (tally.loads, tally.requests, tally.iterations, tally.hitting, tally.preempting, tally.preemptions)
        table.add_row(name, *(f"{count:,}" for count in (*counts, equal)))
    console = Console()
    console.print(table)
    console.print(f"{time.perf_counter() - start:.0f} s")
    for name, tally in tallies.items():
        for seed, engine in tally.differing[:10]:
            console.print(f"{name} load of seed {seed}: the {engine} engine differs")
    sys.exit(any(tally.differing for tally in tallies.values()))


if __name__ == "__main__":
    main()
