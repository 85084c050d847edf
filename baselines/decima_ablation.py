"""Does Decima's network learn? Trained against its own untrained weights, random and FCFS, on held-out jobs.

    python baselines/decima_ablation.py [--weights FILE] [--workers N] [-o FOLDER]

Four workloads, 10 seeds of the ``eval`` split with 200 jobs each, at the scenarios' load; training saw the ``train``
split only. Per workload the table gives by how much each policy's mean JCT is below FCFS's, and by how much the trained
network's is below each policy's, with 95 % intervals paired by seed. The episodes of the shipped weights are frozen in
baselines/reference/decima.csv. No policy here reads the profiler's columns, so the profiler is off.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from campaign import freeze, run_cells
from grid import WORKLOADS, Cell

from llmsched_gym.cli.console import EpisodeProgress, print_table
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, reduction_pct

REFERENCE: Final = Path(__file__).resolve().parent / "reference" / "decima.csv"
TRAINED: Final = "decima"
RIVALS: Final = ("random", "fcfs", "decima?weights=untrained")
"""What training has to be better than."""
JOBS: Final = 200
SEEDS: Final = tuple(range(10))


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones; nothing is frozen")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/decima"), metavar="FOLDER")
    arguments = parser.parse_args()
    trained = TRAINED if arguments.weights is None else f"{TRAINED}?weights={quote(str(arguments.weights))}"
    try:
        rows = run(trained, arguments.output, arguments.workers)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    if arguments.weights is None:
        freeze(REFERENCE, rows)
    for workload in WORKLOADS:
        body = [
            (policy, f"{mean_s:.2f}", _show(below_fcfs), _show(above_trained))
            for policy, mean_s, below_fcfs, above_trained in compare(rows, workload, trained)
        ]
        print_table(f"\n{workload}", ("policy", "mean JCT s", "below fcfs %", "trained is below it by %"), body)
    return 0


def run(trained: str, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Return one row per episode.

    Raises:
        InputError: A policy is not possible.
        RunError: A policy raised an exception.
    """
    policies = (*RIVALS, trained)
    settings = [replace(Setting.make(name, jobs=JOBS), profiler=False) for name in WORKLOADS]
    cells = [Cell("decima", "", "", setting, policies, SEEDS) for setting in settings]
    with EpisodeProgress() as progress:
        return run_cells(cells, folder, workers, progress)


def compare(
    rows: Sequence[Mapping[str, Any]], workload: str, trained: str
) -> list[tuple[str, float, Interval, Interval]]:
    """Return (policy, mean JCT, reduction below FCFS, reduction of the trained network below it), best first."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["scenario"] == workload:
            values.setdefault(row["policy"], []).append(row["mean_jct_s"])
    found = [
        (policy, sum(each) / len(each), reduction_pct(values["fcfs"], each), reduction_pct(each, values[trained]))
        for policy, each in values.items()
    ]
    return sorted(found, key=lambda one: one[1])


def _show(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mid:.1f}"
    return f"{interval.mid:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
