"""Holds FATE-style planning against other placements on clusters of several models; fills in docs/fate.md.

    python baselines/reproduce_fate.py [--quick] [--part NAME ...] [--workers N] [-o FOLDER]

Finished episodes are kept in FOLDER and never run again, so an interrupted run goes on where it stopped. A full run
freezes its results in baselines/reference/ and fills in the tables of docs/fate.md; a quick one, with few jobs and
seeds, does both in FOLDER. ``--part report`` only writes, from what is frozen. Needs the extra ``plan`` (OR-Tools).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import fate_sweeps
import numpy as np
from campaign import COLUMNS, commits, freeze, run_cells, thaw
from grid import Cell
from page_tables import fill, table

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.evaluation.runner import NORMALISER
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, relative
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.training import commit

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "baselines" / "reference"
PAGE: Final = ROOT / "docs" / "fate.md"

ORDERS: Final = ("fcfs", "srtf+mct")
PLACEMENTS: Final = ("round_robin", "least_loaded", "static", "sticky", "mct", "prefix_aware", "kv_router")
JOINT: Final = ("min_min", "max_min", "sufferage", "etf", "heft", "cpop", "peft", "plas")
LIGHT: Final = (*ORDERS, *PLACEMENTS, *JOINT)
"""All heuristics but `halo`, whose search takes longer than all others together where many stages are known."""
HEURISTICS: Final = (*LIGHT, "halo")
FATE: Final = "fate"
ABLATIONS: Final = ("fate?planner=greedy", "fate?horizon=0")
OURS: Final = "foresight"


@dataclass(frozen=True)
class Part:
    """A table.

    Attributes:
        scenario: Scenario.
        policies: What plays.
        rate: Jobs per second; None: the scenario's load.
    """

    scenario: str
    policies: tuple[str, ...]
    rate: float | None = None

    def cell(self, name: str, jobs: int, seeds: Sequence[int]) -> Cell:
        """Return the comparison."""
        return Cell(name, "", "", Setting.make(self.scenario, jobs, rate=self.rate), self.policies, tuple(seeds))


BATCH_RATE: Final = 20.0
"""Jobs per second of a closed batch: forty are there after two seconds."""

PARTS: Final = {
    "real_dag": Part("real_dag", (*LIGHT, FATE, OURS)),
    "real_dag_batch": Part("real_dag", (*LIGHT, ABLATIONS[0]), BATCH_RATE),
    "hetero8": Part("hetero8", (*HEURISTICS, FATE, OURS)),
    "hetero4": Part("hetero4", (*HEURISTICS, FATE, *ABLATIONS, OURS)),
    "prefix_reuse": Part("prefix_reuse", (*HEURISTICS, FATE, OURS)),
}
"""By name."""
SWEEPS: Final = "sweeps"

METRICS: Final = {"makespan_s": "makespan", "p95_jct_s": "P95 JCT", "mean_jct_s": "mean JCT"}
KEPT: Final = (*COLUMNS, "p95_jct_s", "makespan_s")
JOBS: Final = 40
SEEDS: Final = 20
SWEEP_JOBS: Final = 30
SWEEP_SEEDS: Final = 10


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few jobs and seeds, everything inside FOLDER")
    parser.add_argument("--part", action="append", choices=(*PARTS, SWEEPS, "report"), help="default: all of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/fate"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    frozen = arguments.output / "reference" if arguments.quick else REFERENCE
    page = arguments.output / "fate.md" if arguments.quick else PAGE
    jobs, seeds = (10, 2) if arguments.quick else (JOBS, SEEDS)
    sweep_jobs, sweep_seeds = (6, 2) if arguments.quick else (SWEEP_JOBS, SWEEP_SEEDS)
    source = commit()
    try:
        for part in arguments.part or (*PARTS, SWEEPS):
            if part == "report":
                continue
            if part == SWEEPS:
                cells = fate_sweeps.cells(sweep_jobs, range(sweep_seeds))
            else:
                cells = [PARTS[part].cell(part, jobs, range(seeds))]
            with EpisodeProgress() as progress:
                found = run_cells(cells, arguments.output / "episodes", arguments.workers, progress, KEPT)
            freeze(frozen / f"fate_{part}.csv", found, source)
        write_page(frozen, page)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    note(f"results in {frozen}, tables in {page}")
    return 0


def write_page(frozen: Path, page: Path) -> None:
    """Fill in the tables of the page from frozen results.

    Raises:
        InputError: There are no results of some part, or a file cannot be written.
    """
    makers: dict[str, Callable[[], Iterable[str]]] = {}
    for part, given in PARTS.items():
        rows, source = _frozen(frozen, part)
        makers[f"fate_{part}"] = partial(_ratios, part, rows, given.policies, source)
        if part == "hetero4":
            makers["fate_ablations"] = partial(_beside, rows, FATE, ABLATIONS, source, part)
        makers[f"foresight_{part}"] = partial(_beside, rows, FATE, (OURS,), source, part)
    rows, source = _frozen(frozen, SWEEPS)
    makers["fate_variants"] = partial(_variants, rows, source)
    fate_sweeps.draw(rows, page.parent / "figures" / "fate_sweeps.png")
    write_text(page, fill(PAGE.read_text(encoding="utf-8"), makers))


def _frozen(folder: Path, part: str) -> tuple[list[dict[str, Any]], str]:
    """Return the frozen rows of a part, and the commit that they are from."""
    path = folder / f"fate_{part}.csv"
    rows = thaw(path)
    absent = set(PARTS[part].policies if part in PARTS else ()) - {row["policy"] for row in rows}
    if not rows or absent:
        found = Plain(f"no results of {', '.join(sorted(absent))}") if rows else Plain("no results")
        raise InputError(path, "", found, f"run --part {part} first")
    return rows, commits(folder)[path.name]


def _variants(rows: Sequence[dict[str, Any]], source: str) -> list[str]:
    """Return a table of what the parameters of planning are worth, by scenario."""
    here = [row for row in rows if row["factor"] == "variant"]
    scenarios = list(dict.fromkeys(row["value"] for row in here))
    variants = [name for name in dict.fromkeys(row["policy"] for row in here) if "&" in name]
    body = []
    for name in variants:
        cells = [
            _text(fate_sweeps.beside(here, "variant", scenario, name, fate_sweeps.PLANNED, metric))
            for scenario in scenarios
            for metric in ("makespan_s", "mean_jct_s")
        ]
        body.append([f"`{name}`", *cells])
    heads = [f"{scenario}: {head}" for scenario in scenarios for head in ("makespan", "mean JCT")]
    return [*table(["policy", *heads], body), "", _label(SWEEPS, here, source)]


def _values(rows: Sequence[dict[str, Any]], policy: str, metric: str) -> np.ndarray[Any, Any]:
    """Return a metric of a policy by seed."""
    found = sorted((row["seed"], row[metric]) for row in rows if row["policy"] == policy)
    return np.array([value for _, value in found])


def _ratios(part: str, rows: Sequence[dict[str, Any]], policies: Sequence[str], source: str) -> list[str]:
    """Return a table of all policies relative to the normaliser, the shortest makespan first."""
    found: dict[str, list[Interval]] = {
        policy: [relative(_values(rows, policy, name), _values(rows, NORMALISER, name)) for name in METRICS]
        for policy in policies
    }
    order = sorted(policies, key=lambda policy: found[policy][0].mid)
    seconds = {name: _values(rows, NORMALISER, name).mean() for name in METRICS}
    body = [[f"`{policy}`", *map(_text, found[policy])] for policy in order]
    heads = [f"{head} ({NORMALISER}: {seconds[name]:.3g} s)" for name, head in METRICS.items()]
    return [*table(["policy", *heads], body), "", _label(part, rows, source)]


def _beside(
    rows: Sequence[dict[str, Any]], reference: str, policies: Sequence[str], source: str, part: str
) -> list[str]:
    """Return a table of policies relative to a reference on the same jobs; above 1 they are worse."""
    body = [
        [f"`{policy}`", *(_text(relative(_values(rows, policy, n), _values(rows, reference, n))) for n in METRICS)]
        for policy in policies
    ]
    heads = [f"{head} over that of `{reference}`" for head in METRICS.values()]
    return [*table(["policy", *heads], body), "", _label(part, rows, source)]


def _text(found: Interval) -> str:
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.mid:.3f}{ends}"


def _label(part: str, rows: Sequence[dict[str, Any]], source: str) -> str:
    seeds = len({row["seed"] for row in rows})
    load = rows[0]["load"]
    pace = f"at {BATCH_RATE:g} jobs per second" if load is None else f"at nominal load {load:g}"
    what = f"{part}: {rows[0]['jobs']:.0f} jobs {pace}, {seeds} seeds"
    return f"*{what}; geometric means with 95 % intervals paired by seed. Commit `{source}`: `--part {part}`.*"


if __name__ == "__main__":
    sys.exit(main())
