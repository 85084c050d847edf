"""Draw the learning curves of several training runs: interquartile mean and 95 % interval over the runs.

    for seed in 0 1 2 3 4; do
        python agents/sb3_maskable_ppo.py --config configs/agents/maskable_ppo.yaml --seed $seed --output runs/ppo/$seed
    done
    python baselines/learning_curves.py runs/ppo/* --figure docs/figures/maskable_ppo.png \
        --table baselines/reference/maskable_ppo.csv

Each run's folder holds the ``curve.json`` that `agents/sb3_maskable_ppo.py` writes: by how many per cent mean JCT is
below that of FCFS and of Fair, on jobs of the train split that training did not see.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.statistics import Interval, bootstrap, interquartile_mean


class Curves(NamedTuple):
    """What the runs measured.

    Attributes:
        steps: int64 (points,). Decisions before each measurement.
        cpu_s: float64 (points,). CPU time of training until then, mean over the runs.
        below: For each policy compared with: float64 (runs, points), per cent.
    """

    steps: NDArray[np.int64]
    cpu_s: NDArray[np.float64]
    below: dict[str, NDArray[np.float64]]


def read(folders: list[Path]) -> Curves:
    """Read the curves of runs; those that are not at the end yet are cut to the shortest.

    Raises:
        InputError: A folder has no curve.
    """
    runs: list[list[dict[str, Any]]] = []
    for folder in folders:
        file = folder / "curve.json"
        if not file.is_file():
            raise InputError(folder, "", "no curve.json", "the folder of a training run")
        runs.append(json.loads(file.read_text(encoding="utf-8"))["curve"])
    points = min(len(run) for run in runs)
    names = runs[0][0]["below_pct"]
    return Curves(
        np.array([row["steps"] for row in runs[0][:points]]),
        np.array([[row["cpu_s"] for row in run[:points]] for run in runs]).mean(axis=0),
        {name: np.array([[row["below_pct"][name] for row in run[:points]] for run in runs]) for name in names},
    )


def intervals(values: NDArray[np.float64]) -> list[Interval]:
    """Return the interquartile mean over the runs with its interval, for each point."""
    return [bootstrap(interquartile_mean, column) for column in values.T]


def draw(curves: Curves, path: Path) -> None:
    """Draw one panel per policy compared with."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(curves.below), sharey=True), curves.below.items(), strict=True
    ):
        found = intervals(values)
        thousands = curves.steps / 1e3
        axes.plot(thousands, values.T, color="0.8", linewidth=0.8)
        axes.plot(thousands, [one.mid for one in found], color="C0")
        low, high = (
            [np.nan if end is None else end for end in ends]
            for ends in zip(*((i.low, i.high) for i in found), strict=True)
        )
        axes.fill_between(thousands, low, high, color="C0", alpha=0.25)
        axes.axhline(0.0, color="0.4", linestyle="--", linewidth=0.8)
        axes.set_ylim(-60, 60)
        axes.set_xlabel("thousand decisions")
        axes.set_ylabel(f"mean JCT below that of {name.upper() if name == 'fcfs' else name} [%]")
    figure.suptitle(
        f"MaskablePPO, {len(next(iter(curves.below.values())))} training seeds: interquartile mean, 95 % interval"
    )
    figure.savefig(path, dpi=120)


def write_table(curves: Curves, path: Path) -> None:
    """Write what is drawn as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        columns = [f"below_{name}_pct_{end}" for name in curves.below for end in ("low", "iqm", "high")]
        rows.writerow(["decisions", "cpu_s", *columns])
        found = [intervals(values) for values in curves.below.values()]
        for point, (steps, cpu_s) in enumerate(zip(curves.steps, curves.cpu_s, strict=True)):
            numbers = [end for one in found for end in (one[point].low, one[point].mid, one[point].high)]
            rows.writerow([steps, f"{cpu_s:.0f}", *("" if number is None else f"{number:.2f}" for number in numbers)])


def main() -> int:
    """Draw; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--figure", type=Path, required=True, help="PNG to draw")
    parser.add_argument("--table", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    try:
        curves = read(arguments.runs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    draw(curves, arguments.figure)
    if arguments.table is not None:
        write_table(curves, arguments.table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
