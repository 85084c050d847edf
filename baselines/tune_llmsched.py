"""Chooses LLMSched's parameters that are not public: epsilon, sampling ratio, form of the score, interval.

    python baselines/tune_llmsched.py [--workers N] [-o FOLDER]

Only jobs of the ``train`` split are used, so nothing that is evaluated has been looked at. First epsilon and the
sampling ratio on a grid, then the other two at the best of these. A candidate's score is the mean over the four
workloads of the logarithm of its mean JCT over that of posterior SRTF (epsilon = 0). The sweep is frozen in
baselines/reference/tuning.csv; the best one is printed, to be written into ``policies/llmsched.py`` by hand.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import expm1, log
from pathlib import Path
from typing import Any, Final

from campaign import freeze, run_cells
from grid import FULL, WORKLOADS, Cell

from llmsched_gym.cli.console import EpisodeProgress, print_table
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.training import commit

REFERENCE: Final = Path(__file__).resolve().parent / "reference" / "tuning.csv"
JOBS: Final = {"mixed": 200, "predefined": 60, "chain": 300, "planning": 300}
SEEDS: Final = tuple(range(48))
EPSILONS: Final = (0.02, 0.05, 0.1, 0.2)
RATIOS: Final = (0.1, 0.3, 1.0)
SCORES: Final = ("sum", "product")
INTERVALS: Final = (0.3, 0.9)
NO_EXPLORING: Final = f"{FULL}?epsilon=0.0"


def main() -> int:
    """Sweep; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/tuning"), metavar="FOLDER")
    arguments = parser.parse_args()
    source = commit()
    try:
        rows = tune(arguments.output, arguments.workers)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    freeze(REFERENCE, rows, source)
    found = scores(rows)
    body = [[spec, *(f"{expm1(value) * 100:+.2f} %" for value in (total, *each))] for spec, total, each in found]
    print_table("mean JCT against epsilon = 0", ["parameters", "together", *WORKLOADS], body)
    return 0


def tune(folder: Path, workers: int) -> list[dict[str, Any]]:
    """Run both sweeps; return one row per episode.

    Raises:
        InputError: A policy or setting is not possible.
        RunError: A policy raised an exception.
    """
    grid = [f"{FULL}?epsilon={epsilon}&sampling_ratio={ratio}" for epsilon in EPSILONS for ratio in RATIOS]
    rows = _sweep(grid, folder, workers)
    best = next(spec for spec, _, _ in scores(rows) if spec != NO_EXPLORING)
    forms = [f"{best}&score={score}&interval={interval}" for score in SCORES for interval in INTERVALS]
    return rows + [row for row in _sweep(forms, folder, workers) if row["policy"] != NO_EXPLORING]


def _sweep(specs: Sequence[str], folder: Path, workers: int) -> list[dict[str, Any]]:
    policies = (NO_EXPLORING, *specs)
    settings = [replace(Setting.make(name, jobs=JOBS[name]), split="train") for name in WORKLOADS]
    cells = [Cell("tuning", "", "", setting, policies, SEEDS) for setting in settings]
    with EpisodeProgress() as progress:
        return run_cells(cells, folder, workers, progress)


def scores(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, list[float]]]:
    """Return (policy, score, score per workload) of every policy, best first."""
    found = []
    for spec in dict.fromkeys(row["policy"] for row in rows):
        each = [log(_mean(rows, spec, name) / _mean(rows, NO_EXPLORING, name)) for name in WORKLOADS]
        found.append((spec, mean(each), each))
    return sorted(found, key=lambda one: one[1])


def _mean(rows: Sequence[Mapping[str, Any]], spec: str, scenario: str) -> float:
    return mean([row["mean_jct_s"] for row in rows if row["policy"] == spec and row["scenario"] == scenario])


if __name__ == "__main__":
    sys.exit(main())
