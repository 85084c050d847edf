"""How long recorded agents take to become a workload, and whether export and import give it back.

    python benchmarks/import_traces.py [--runs 100] [--agents helper,writer,coder] [--seed 0] [--write FILE] [--json]

The runs are made up (`agent_recordings.py`), OTLP/JSON lines as a collector writes them. ``--write`` keeps the file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from agent_recordings import random_runs, write
from rich.console import Console
from rich.table import Table

from llmsched_gym.workloads.importing.otel_exact import write_otel
from llmsched_gym.workloads.importing.workload import import_workload

TARGET_S = 10.0


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="agent runs in the file (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs (default 0)")
    parser.add_argument("--agents", default="helper,writer,coder", help="whose runs (default helper,writer,coder)")
    parser.add_argument("--write", type=Path, help="keep the recording in this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    runs = random_runs(given.seed, given.runs, given.agents.split(","))
    with tempfile.TemporaryDirectory() as folder:
        recording = write(given.write or Path(folder) / "recording.jsonl", *runs)
        began = time.perf_counter()
        first = import_workload([recording])
        took = time.perf_counter() - began
        write_otel(first.workload, Path(folder) / "exported.jsonl")
        again = import_workload([Path(folder) / "exported.jsonl"])
        spans = sum(line.count('"spanId"') for line in recording.read_text(encoding="utf-8").splitlines())
        found = {
            "runs": given.runs,
            "spans": spans,
            "bytes": recording.stat().st_size,
            "stages": len(first.workload.stages),
            "seconds": took,
            "target_seconds": TARGET_S,
            "digest": first.workload.digest,
            "digest_again": again.workload.digest,
        }
    if given.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("what", "value", title="importing an OpenTelemetry trace")
    for name, value in found.items():
        table.add_row(name.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
