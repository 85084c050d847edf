"""Chooses the parameters of a suite's references: what tools weigh, and which tasks may take the last free one.

    python baselines/tune_references.py standard-v1 [--seeds N] [--workers N] [-o FOLDER]

The references are clairvoyant heuristics. Which form of one is the best on a scenario is found on jobs of the ``train``
split, one parameter after the other, each at the best of those before it. The sweep is frozen in
baselines/reference/references.csv; the best are printed, to be written into the suite's ``suite.yaml`` by hand.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from campaign import COLUMNS, freeze, run_cells
from grid import Cell

from llmsched_gym.cli.console import EpisodeProgress, print_table
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, relative
from llmsched_gym.suites.manifest import ScenarioEntry
from llmsched_gym.suites.suite import read_manifest, suite_folder
from llmsched_gym.training import commit

REFERENCE: Final = Path(__file__).resolve().parent / "reference" / "references.csv"
SEEDS: Final = 12
VALUES: Final = {
    "tool_weight": (0.01, 0.03, 0.1, 0.3, 0.5, 1, 2, 3, 5, 10, 20),
    "reserve_s": (0, 1, 2, 3, 4, 8),
    "fill": (0.7, 0.75, 0.8, 0.85),
}
"""Parameter → what is tried, in this order; the last one where the reference admits."""

DEFAULTS: Final = {"tool_weight": 1, "reserve_s": 0, "fill": 0.8}


def main(argv: list[str] | None = None) -> int:
    """Sweep; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="a suite that ships, or the folder of one")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of the train split; default: {SEEDS}")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/references"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    source = commit()
    try:
        entries = read_manifest(suite_folder(arguments.suite)).scenarios
        rows = tune(entries, range(arguments.seeds), arguments.output, arguments.workers)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    freeze(REFERENCE, rows, source)
    body = [[entry.name, spec, _text(ratio)] for entry in entries for spec, ratio in ranking(entry, rows)[:3]]
    print_table("three best references of each scenario", ["scenario", "reference", "over its plain form"], body)
    return 0


def tune(entries: Sequence[ScenarioEntry], seeds: Sequence[int], folder: Path, workers: int) -> list[dict[str, Any]]:
    """Run the sweeps; return one row per episode.

    Raises:
        InputError: A reference cannot be loaded.
        RunError: A reference failed.
    """
    rows: list[dict[str, Any]] = []
    for parameter, values in VALUES.items():
        cells = []
        for entry in entries:
            if parameter == "fill" and not _plain(entry).endswith("+admit"):
                continue
            best = ranking(entry, rows)[0][0] if rows else _plain(entry)
            tried = dict.fromkeys((_plain(entry), *(_with(best, parameter, value) for value in values)))
            setting = replace(Setting.make(entry.scenario, entry.jobs, entry.load), split="train")
            cells.append(Cell("references", "suite scenario", entry.name, setting, tuple(tried), tuple(seeds)))
        if cells:
            with EpisodeProgress(within=parameter) as progress:
                found = run_cells(cells, folder, workers, progress, (*COLUMNS, "makespan_s"))
            seen = {(row["value"], row["policy"], row["seed"]) for row in rows}
            rows += [row for row in found if (row["value"], row["policy"], row["seed"]) not in seen]
    return rows


def ranking(entry: ScenarioEntry, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Interval]]:
    """Return (reference, its metric over that of its plain form) of a scenario, the best first."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["value"] == entry.name:
            values.setdefault(row["policy"], []).append(row[entry.metric])
    ratios = {spec: relative(each, values[_plain(entry)]) for spec, each in values.items()}
    return sorted(ratios.items(), key=lambda one: one[1].mid)


def _plain(entry: ScenarioEntry) -> str:
    return entry.reference.partition("?")[0]


def _with(spec: str, parameter: str, value: float) -> str:
    """Return the spec with a parameter, which is left out where it is the default."""
    name, _, arguments = spec.partition("?")
    given = dict(one.split("=") for one in arguments.split("&") if one)
    given.pop(parameter, None)
    if value != DEFAULTS[parameter]:
        given[parameter] = f"{value:g}"
    return name + ("?" + "&".join(f"{key}={text}" for key, text in given.items()) if given else "")


def _text(ratio: Interval) -> str:
    return f"{ratio.mid:.3f}" + ("" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]")


if __name__ == "__main__":
    sys.exit(main())
