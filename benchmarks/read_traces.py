"""How long a large trace takes to read, the first time and after that, and how much memory.

    python benchmarks/read_traces.py [--rows 10000000]

Rows are made up, in the format of Azure's traces. Each reading is a process of its own, with a cache that is empty at
first. What is wanted of ten million rows is stated beside what was measured; the exit code is 1 where it is not met.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

MOST: Final = {"first": (60.0, 2.0), "again": (1.0, 2.0)}
"""Seconds and GB allowed for ten million rows."""

_READ: Final = """
import json, resource, sys, time
started = time.perf_counter()
from llmsched_gym.workloads.traces import read_trace
imported = time.perf_counter()
trace = read_trace(sys.argv[1], "azure")
seconds = time.perf_counter() - imported
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
found = {"seconds": seconds, "gb": peak / 1e9, "rows": len(trace.arrival_ns), "last_ns": int(trace.arrival_ns[-1])}
print(json.dumps(found))
"""


def main(argv: list[str] | None = None) -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="default: 10000000")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "azure.csv"
        write(path, arguments.rows)
        print(f"{arguments.rows} rows, {path.stat().st_size / 1e6:.0f} MB")
        found = {name: read(path, Path(place) / "cache") for name in MOST}
    met = True
    for name, (seconds, gb) in MOST.items():
        one = found[name]
        met &= one["seconds"] <= seconds and one["gb"] <= gb
        print(f"{name}: {one['seconds']:.2f} s, {one['gb']:.2f} GB (wanted: {seconds:g} s, {gb:g} GB)")
    same = found["first"]["rows"] == found["again"]["rows"] == arguments.rows
    same &= found["first"]["last_ns"] == found["again"]["last_ns"]
    print("the same requests both times" if same else "not the same requests")
    return 0 if met and same else 1


def write(path: Path, rows: int) -> None:
    """Write a trace."""
    rng = np.random.default_rng(0)
    time_us = 0
    with path.open("w", encoding="ascii") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for first in range(0, rows, 500_000):
            n = min(500_000, rows - first)
            times = time_us + np.cumsum(rng.integers(1, 120_000, n))
            time_us = int(times[-1])
            stamps = (np.datetime64("2024-05-10T00:00:00.000000") + times.astype("timedelta64[us]")).astype(str)
            prompts, outputs = rng.integers(1, 8000, n), rng.integers(1, 1000, n)
            lines = (
                f"{stamp.replace('T', ' ')}+00:00,{prompt},{output}\n"
                for stamp, prompt, output in zip(stamps.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
            )
            file.writelines(lines)


def read(path: Path, cache: Path) -> dict[str, Any]:
    """Read the trace in a process of its own; return seconds, peak memory, and what was read."""
    environment = {**os.environ, "LLMSCHED_GYM_CACHE": str(cache)}
    words = [sys.executable, "-c", _READ, str(path)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
