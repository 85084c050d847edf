"""What asynchronous scheduling changes: the same chat-like requests on one engine with it and without.

    python benchmarks/async_scheduling.py [--requests 20000] [--json]

vLLM schedules asynchronously by default where it can, which is on GPUs. Time to first token is from arrival; so is end
to end. The cost of scheduling itself, which asynchronous scheduling hides, is in neither: only its rules differ here.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
from engine import CASES, PROFILE, chat
from rich.console import Console
from rich.table import Table

from llmsched_gym.backends.replay import RequestLog, serve
from llmsched_gym.backends.simulator.state import EngineConfig


def mean_ms(log: RequestLog, config: EngineConfig) -> tuple[float, float]:
    """Mean time to first token and end to end."""
    tasks, _ = serve(log, config)
    first, end = ((tasks[column] - tasks["start_ns"]).mean() / 1e6 for column in ("first_token_ns", "finish_ns"))
    return float(first), float(end)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="requests per case")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()

    rows: list[dict[str, object]] = []
    table = Table("case", "first token, ms", "with async", "change", "end to end, ms", "with async", "change")
    for case in CASES:
        config = EngineConfig(PROFILE, max_num_seqs=case.max_num_seqs, kv_blocks=7424)
        log = chat(case.rate, arguments.requests)
        sync = np.array(mean_ms(log, config))
        later = np.array(mean_ms(log, replace(config, async_scheduling=True)))
        change = 100.0 * (later / sync - 1.0)
        rows.append({"case": case.name, "sync_ms": sync.tolist(), "async_ms": later.tolist()})
        cells = [cell for k in range(2) for cell in (f"{sync[k]:,.1f}", f"{later[k]:,.1f}", f"{change[k]:+.1f} %")]
        table.add_row(case.name, *cells)
    if arguments.json:
        print(json.dumps(rows))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()
