"""Draw the learning curves of several training runs: mean and 95 % interval over the runs.

    python agents/sweep.py agents/sb3_maskable_ppo.py --config configs/agents/maskable_ppo.yaml --seeds 0:8 -o runs/ppo
    python baselines/learning_curves.py runs/ppo/* --figure docs/figures/maskable_ppo.png \
        --table baselines/reference/maskable_ppo.csv

    python agents/sweep.py agents/decima.py --config configs/agents/decima.yaml --seeds 0:5 -o runs/decima
    python baselines/learning_curves.py runs/decima/* --figure docs/figures/decima.png \
        --table baselines/reference/decima_curves.csv

Each run's folder holds the ``curve.json`` that recipes write: by how many per cent mean JCT is below that of other
policies, on jobs of the ``train`` split that training did not see. There is a panel for each scenario and policy.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.statistics import Interval, mean_interval
from llmsched_gym.training import CURVE, Curve, read_curve

Floats = NDArray[np.float64]
Panel = tuple[str, str]
"""Scenario, and policy compared with."""

_MARGIN: Final = 0.1
"""Of the axis, above and below what is drawn."""


class Curves(NamedTuple):
    """What the runs measured.

    Attributes:
        policy: What was trained.
        unit: Of `done`.
        done: int64 (points,). Iterations or decisions before each measurement.
        cpu_s: float64 (points,). CPU time of training until then, mean over the runs.
        below: For each panel float64 (runs, points), per cent.
    """

    policy: str
    unit: str
    done: NDArray[np.int64]
    cpu_s: Floats
    below: dict[Panel, Floats]

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(next(iter(self.below.values())))


def read(folders: list[Path]) -> Curves:
    """Read the curves of runs that differ by their seeds alone; if some are not at the end yet, cut to the shortest.

    Raises:
        InputError: A folder has no curve, or one of a run with other settings.
    """
    runs = [read_curve(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if _kind(run) != _kind(runs[0]):
            raise InputError(folder / CURVE, "settings", Plain("others"), f"those of {folders[0]}, but for the seed")
    points = [run["points"][: min(len(run["points"]) for run in runs)] for run in runs]
    panels = [(scenario, policy) for scenario, by in points[0][0]["below_pct"].items() for policy in by]
    return Curves(
        runs[0]["policy"],
        runs[0]["unit"],
        np.array([point["done"] for point in points[0]]),
        np.array([[point["cpu_s"] for point in run] for run in points]).mean(axis=0),
        {
            (scenario, policy): np.array([[point["below_pct"][scenario][policy] for point in run] for run in points])
            for scenario, policy in panels
        },
    )


def _kind(run: Curve) -> tuple[str, Mapping[str, Any]]:
    return run["policy"], {name: value for name, value in run["settings"].items() if name != "seed"}


def intervals(values: Floats) -> list[Interval]:
    """Return the mean over the runs with its interval, for each point."""
    return [mean_interval(column) for column in values.T]


def draw(curves: Curves, path: Path) -> None:
    """Draw one panel per scenario and policy compared with."""
    columns = min(len(curves.below), 2)
    rows = -(-len(curves.below) // columns)
    figure = Figure(figsize=(9.0, 0.6 + 3.0 * rows), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, ((scenario, policy), values) in zip(panels, curves.below.items(), strict=False):
        _draw_panel(axes, curves, values)
        axes.set_title(f"{scenario}, against {policy}", fontsize=10)
        axes.set_ylabel("mean JCT below it [%]", fontsize=9)
    for axes in panels[len(curves.below) :]:
        axes.remove()
    figure.suptitle(f"{curves.policy}, {curves.n_runs} training seeds: mean, 95 % interval")
    figure.savefig(path, dpi=120)


def _draw_panel(axes: Axes, curves: Curves, values: Floats) -> None:
    """Draw the runs, and their mean and interval; the axis fits what comes after the untrained policy."""
    found = intervals(values)
    thousands = curves.done[-1] >= 10_000
    done = curves.done / (1e3 if thousands else 1.0)
    axes.plot(done, values.T, color="0.75", linewidth=0.8)
    axes.plot(done, [one.mid for one in found], color="C0")
    low, high = np.array([[np.nan if end is None else end for end in (one.low, one.high)] for one in found]).T
    axes.fill_between(done, low, high, color="C0", alpha=0.25)
    axes.axhline(0.0, color="0.4", linestyle="--", linewidth=0.8)
    shown = np.concatenate((values[:, 1:].ravel(), low[1:], high[1:], [0.0]))
    least, most = np.nanmin(shown), np.nanmax(shown)
    room = _MARGIN * max(most - least, 1.0)
    axes.set_ylim(least - 3.0 * room, most + room)
    axes.set_xlim(0.0, done[-1])
    axes.set_xlabel(f"thousand {curves.unit}" if thousands else curves.unit, fontsize=9)


def write_table(curves: Curves, path: Path) -> None:
    """Write what is drawn as CSV: a row per panel and measurement."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scenario", "below", curves.unit, "cpu_s", "runs", "low_pct", "mean_pct", "high_pct"])
        for (scenario, policy), values in curves.below.items():
            for done, cpu_s, one in zip(curves.done, curves.cpu_s, intervals(values), strict=True):
                ends = ("" if number is None else f"{number:.2f}" for number in (one.low, one.mid, one.high))
                rows.writerow([scenario, policy, done, f"{cpu_s:.0f}", curves.n_runs, *ends])


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
