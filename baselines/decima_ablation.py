"""Does Decima's network learn? Trained against its own untrained weights, random and FCFS, on held-out jobs.

    python baselines/decima_ablation.py [--weights FILE] [--workers N] [-o FOLDER]

Four workloads of 200 jobs at the scenarios' load, on seeds of the ``eval`` split; training saw the ``train`` split
only. Mean JCT depends far more on the jobs of a seed than on the policy, so that intervals of the mean say little. The
table therefore gives each policy's mean JCT relative to that of the clairvoyant `oracle_srtf` on the same jobs
(geometric mean over the seeds) with a 95 % interval; and by how much it is below FCFS's, and the trained network's
below it, with intervals paired by seed. Episodes of the shipped weights are frozen in baselines/reference/decima.csv,
and docs/figures/decima_ablation.png is drawn. No policy here reads the profiler's columns, so the profiler is off.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from campaign import freeze, run_cells, thaw
from grid import ORACLE, WORKLOADS, Cell
from matplotlib.figure import Figure

from llmsched_gym.cli.console import EpisodeProgress, print_table, say
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, reduction_pct, relative
from llmsched_gym.training import commit

REFERENCE: Final = Path(__file__).resolve().parent / "reference" / "decima.csv"
FIGURE: Final = Path(__file__).resolve().parents[1] / "docs" / "figures" / "decima_ablation.png"
TRAINED: Final = "decima"
UNTRAINED: Final = "decima?weights=untrained"
RIVALS: Final = ("random", "fcfs", UNTRAINED)
"""What training has to be better than."""
JOBS: Final = 200
SEEDS: Final = {"mixed": 30, "predefined": 20, "chain": 40, "planning": 60}
"""Seeds per workload: more where they are cheap and policies close together."""


class Line(NamedTuple):
    """What is told of a policy on one workload.

    Attributes:
        policy: Its name.
        mean_s: Mean JCT over the seeds.
        to_oracle: Mean JCT over the oracle's on the same jobs.
        below_fcfs: By how many per cent mean JCT is below FCFS's.
        above_trained: By how many per cent the trained network's is below it.
    """

    policy: str
    mean_s: float
    to_oracle: Interval
    below_fcfs: Interval
    above_trained: Interval


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones; nothing is frozen or drawn")
    parser.add_argument("--frozen", action="store_true", help="table and picture again from the frozen results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/decima"), metavar="FOLDER")
    arguments = parser.parse_args()
    trained = TRAINED if arguments.weights is None else f"{TRAINED}?weights={quote(str(arguments.weights))}"
    source = commit()
    try:
        rows = thaw(REFERENCE) if arguments.frozen else run(trained, arguments.output, arguments.workers)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    found = {workload: compare(rows, workload, trained) for workload in WORKLOADS}
    if arguments.weights is None:
        if not arguments.frozen:
            freeze(REFERENCE, rows, source)
        draw(found, FIGURE)
    columns = ("policy", "mean JCT s", "relative to the oracle", "below fcfs %", "trained is below it by %")
    for workload, lines in found.items():
        body = [
            (one.policy, f"{one.mean_s:.2f}", _show(one.to_oracle, 3), _show(one.below_fcfs), _show(one.above_trained))
            for one in lines
        ]
        print_table(f"\n{workload}, {SEEDS[workload]} seeds", columns, body)
        meeting = [one.policy for one in lines if one.policy in RIVALS and not apart(lines, trained, one.policy)]
        verdict = (
            f"overlaps with that of {', '.join(meeting)}" if meeting else f"ends below those of {', '.join(RIVALS)}"
        )
        say(f"the trained network's interval {verdict}")
    return 0


def run(trained: str, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Return one row per episode.

    Raises:
        InputError: A policy is not possible.
        RunError: A policy raised an exception.
    """
    policies = (*RIVALS, trained, ORACLE)
    cells = []
    for name in WORKLOADS:
        setting = replace(Setting.make(name, jobs=JOBS), profiler=False)
        cells.append(Cell("decima", "", "", setting, policies, tuple(range(SEEDS[name]))))
    with EpisodeProgress() as progress:
        return run_cells(cells, folder, workers, progress)


def compare(rows: Sequence[Mapping[str, Any]], workload: str, trained: str) -> list[Line]:
    """Return what is told of each policy on a workload, best first."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["scenario"] == workload:
            values.setdefault(row["policy"], []).append(row["mean_jct_s"])
    found = [
        Line(
            policy,
            sum(each) / len(each),
            relative(each, values[ORACLE]),
            reduction_pct(values["fcfs"], each),
            reduction_pct(each, values[trained]),
        )
        for policy, each in values.items()
    ]
    return sorted(found, key=lambda one: one.to_oracle.mid)


def apart(lines: Sequence[Line], better: str, worse: str) -> bool:
    """Return whether the interval of one policy, relative to the oracle, ends below that of another."""
    ends = {one.policy: one.to_oracle for one in lines}
    high, low = ends[better].high, ends[worse].low
    return high is not None and low is not None and high < low


def draw(found: Mapping[str, Sequence[Line]], path: Path) -> None:
    """Draw a panel per workload: each policy's mean JCT relative to the oracle's, with its interval."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    names = {TRAINED: "Decima", UNTRAINED: "Decima,\nuntrained", "fcfs": "FCFS", "random": "random"}
    for axes, (workload, lines) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
        shown = [one for policy in names for one in lines if one.policy == policy]
        for height, one in enumerate(shown):
            mid = one.to_oracle.mid
            low, high = (mid if end is None else end for end in (one.to_oracle.low, one.to_oracle.high))
            color = "C0" if one.policy == TRAINED else "0.45"
            axes.errorbar(mid, height, xerr=[[mid - low], [high - mid]], fmt="o", color=color, capsize=3)
            if one.policy == TRAINED:
                axes.axvspan(low, high, color="C0", alpha=0.12)
        axes.set_yticks(range(len(shown)), [names[one.policy] for one in shown], fontsize=9)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_title(f"{workload}, {SEEDS[workload]} seeds", fontsize=10)
    label = "mean JCT relative to that of the clairvoyant SRTF on the same jobs, with 95 % interval"
    figure.supxlabel(label, fontsize=10)
    figure.savefig(path, dpi=120)


def _show(interval: Interval, digits: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mid:.{digits}f}"
    return f"{interval.mid:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
