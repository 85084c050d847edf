"""How busy clusters really are at the operating points, and what separates there; fills in docs/scenarios.md.

    python baselines/operating_points.py [--scenario NAME ...] [--seeds N] [--workers N] [-o FOLDER]
    python baselines/operating_points.py --report            # the tables again from the frozen results

Finished episodes are kept in FOLDER and never run again. Results are frozen in baselines/reference/.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from campaign import COLUMNS, commits, freeze, run_cells, thaw
from claims import per_seed
from grid import Cell
from page_tables import fill, table

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import relative
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.training import commit

ROOT: Final = Path(__file__).resolve().parents[1]
FROZEN: Final = ROOT / "baselines" / "reference"
PAGE: Final = ROOT / "docs" / "scenarios.md"

SCENARIOS: Final = (
    "mixed",
    "mixed_heavy",
    "mixed_burst",
    "mixed_bursty",
    "planning_heavy",
    "agents",
    "agents_bursty",
    "memory_bound",
    "probe",
)
"""The first is there for comparison."""

REFERENCE: Final = "oracle_srtf"
POLICIES: Final = ("fcfs", "sjf", "srtf", "las", "gittins", "llmsched", "critical_path")
ADMITTING: Final = ("srtf+admit", "oracle_srtf+admit", "fcfs+admit")
"""What also plays where memory is short."""

SHORT_OF_MEMORY: Final = "memory_bound"

SEEDS: Final = 10
_KEPT: Final = (*COLUMNS, "p95_jct_s", "makespan_s", "preemptions")
_BUSY: Final = "fcfs"
"""The policy whose utilisation is shown: what arrives decides it, hardly the order."""


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: all of them")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of the eval split; default: {SEEDS}")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("--report", action="store_true", help="only fill in the page, from what is frozen")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/operating_points"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    source, asked = commit(), arguments.scenario or SCENARIOS
    try:
        if not arguments.report:
            cells = [
                Cell(
                    "operating_points",
                    "",
                    "",
                    Setting.make(name),
                    _players(name),
                    tuple(range(arguments.seeds)),
                )
                for name in asked
            ]
            with EpisodeProgress() as progress:
                found = run_cells(cells, arguments.output, arguments.workers, progress, _KEPT)
            for name in asked:
                freeze(FROZEN / _file(name), [row for row in found if row["scenario"] == name], source)
        write_page(FROZEN, PAGE)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    note(f"results in {FROZEN}/operating_*.csv, tables in {PAGE}")
    return 0


def _file(name: str) -> str:
    return f"operating_{name}.csv"


def _label(frozen: Path, names: Iterable[str]) -> str:
    """Say which commits the numbers are of."""
    sources = dict.fromkeys(commits(frozen)[_file(name)] for name in names)
    where = "commit" if len(sources) == 1 else "commits"
    return f"*`python baselines/operating_points.py`, {where} {', '.join(f'`{source}`' for source in sources)}.*"


def _players(name: str) -> tuple[str, ...]:
    return (REFERENCE, *POLICIES, *(ADMITTING if name == SHORT_OF_MEMORY else ()))


def write_page(frozen: Path, page: Path) -> None:
    """Fill in the tables of the page from frozen results.

    Raises:
        InputError: There are no results, or the page cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for name in SCENARIOS:
        found = thaw(frozen / _file(name))
        if not found:
            raise InputError(frozen / _file(name), "", Plain("no results"), f"run --scenario {name} first")
        rows += found
    makers = {
        "operating_points": partial(_busy, rows, _label(frozen, SCENARIOS)),
        "operating_ratios": partial(_separation, rows, _label(frozen, SCENARIOS)),
        "admission": partial(_admission, rows, _label(frozen, (SHORT_OF_MEMORY,))),
    }
    write_text(page, fill(page.read_text(encoding="utf-8"), makers))


def _busy(rows: Sequence[Mapping[str, Any]], label: str) -> Iterable[str]:
    """What is asked for and what is measured."""
    head = ["scenario", "jobs", "nominal load", "LLM slots busy", "tools busy", "preemptions", "makespan, s", "JCT, s"]
    body = []
    for name in SCENARIOS:
        first = next(row for row in rows if row["scenario"] == name)
        shown = {column: mean(per_seed(rows, column, policy=_BUSY, scenario=name)) for column in _MEASURED}
        load = "–" if first["load"] is None else f"{first['load']:g}"
        measured = (form.format(shown[column]) for column, form in _MEASURED.items())
        body.append([f"`{name}`", f"{first['jobs']:.0f}", load, *measured])
    return [*table(head, body), "", f"Measured under `{_BUSY}`, means over the seeds. {label}"]


_MEASURED: Final = {
    "llm_utilisation": "{:.2f}",
    "regular_utilisation": "{:.2f}",
    "preemptions": "{:.0f}",
    "makespan_s": "{:.0f}",
    "mean_jct_s": "{:.1f}",
}


def _separation(rows: Sequence[Mapping[str, Any]], label: str) -> Iterable[str]:
    """Mean JCT relative to the reference."""
    body = []
    for name in SCENARIOS:
        base = per_seed(rows, policy=REFERENCE, scenario=name)
        found = [relative(per_seed(rows, policy=policy, scenario=name), base) for policy in POLICIES]
        body.append([f"`{name}`", *(f"{one.mid:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in found)])
    seeds = len(per_seed(rows, policy=REFERENCE, scenario=SCENARIOS[0]))
    title = f"mean JCT relative to `{REFERENCE}`, {seeds} seeds"
    return [*table([title, *(f"`{policy}`" for policy in POLICIES)], body), "", label]


def _admission(rows: Sequence[Mapping[str, Any]], label: str) -> Iterable[str]:
    """What holding tasks back does to each order, where memory is short."""
    body = []
    for policy in ADMITTING:
        order = policy.partition("+")[0]
        held, free = (per_seed(rows, policy=one, scenario=SHORT_OF_MEMORY) for one in (policy, order))
        found = relative(held, free)
        counts = [mean(per_seed(rows, "preemptions", policy=one, scenario=SHORT_OF_MEMORY)) for one in (policy, order)]
        ratio = f"{found.mid:.2f} [{found.low:.2f}, {found.high:.2f}]"
        body.append([f"`{policy}` beside `{order}`", ratio, " / ".join(f"{count:.0f}" for count in counts)])
    return [*table([f"`{SHORT_OF_MEMORY}`", "mean JCT", "preemptions"], body), "", label]


if __name__ == "__main__":
    sys.exit(main())
