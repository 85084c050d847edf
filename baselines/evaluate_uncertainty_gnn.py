r"""Measure uncertainty_gnn against LLMSched and the oracle, elsewhere than trained, and what its ideas are worth.

    python baselines/evaluate_uncertainty_gnn.py [--part workloads,jobs,load,ideas] [--workers N] [-o FOLDER]
    python baselines/evaluate_uncertainty_gnn.py --part report      # page and picture again from the frozen results

*workloads*: 300 jobs at the default load; *jobs* and *load*: the same weights with other numbers of jobs and at 0.7 and
1.3 times that load; all on the ``eval`` split. *ideas*: variants, on seeds of the ``train`` split that training does
not use. Where a workload's noise is large and its episodes are cheap it is given more seeds (`SEEDS`).

Results are frozen in ``baselines/reference/uncertainty_gnn.csv``, with commit and weights in ``uncertainty_gnn.json``
beside it; the tables of ``docs/uncertainty_gnn.md`` and its picture are made from them. Finished episodes are kept in
FOLDER; an interrupted run goes on where it stopped.

The loss table is frozen from the first round of training runs that differ in what the network sees:

    recipe="python agents/uncertainty_gnn.py --config configs/agents/uncertainty_gnn.yaml"
    $recipe --output runs/all
    $recipe --output runs/without_graph --rounds 1 --refine 0 --no-graph
    $recipe --output runs/without_prompts --rounds 1 --refine 0 --no-prompts
    python baselines/evaluate_uncertainty_gnn.py --losses runs/all runs/without_graph runs/without_prompts
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from campaign import freeze, run_cells, thaw
from grid import FULL, ORACLE, OURS, WORKLOADS, Cell
from uncertainty_report import draw, fill_page

from llmsched_gym.cli.console import EpisodeProgress
from llmsched_gym.errors import InputError, Plain, RunError, suggest
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.policies.learned import WEIGHTS, read_card
from llmsched_gym.training import commit
from llmsched_gym.workloads.files import write_atomic

HERE: Final = Path(__file__).resolve().parent
ROWS: Final = HERE / "reference" / "uncertainty_gnn.csv"
LOSSES: Final = HERE / "reference" / "uncertainty_gnn_losses.csv"
FACTS: Final = HERE / "reference" / "uncertainty_gnn.json"
DOCS: Final = HERE.parent / "docs"

PARTS: Final = ("workloads", "jobs", "load", "ideas")
SEEDS: Final = {"mixed": 30, "predefined": 20, "chain": 100, "planning": 100}
ELSEWHERE_SEEDS: Final = {"mixed": 20, "predefined": 10, "chain": 50, "planning": 50}
"""Of other numbers of jobs and loads."""
IDEA_SEEDS: Final = {"mixed": 6, "predefined": 0, "chain": 20, "planning": 20}
"""None where all indices and reserves come to nearly the same."""
FIRST_IDEA_SEED: Final = 1000
"""Of the ``train`` split; the recipe uses seeds from 100,000 on."""
JOBS: Final = (100, 200, 400)
LOADS: Final = (0.63, 1.17)
BOTH: Final = (FULL, ORACLE, OURS)
IDEAS: Final = (
    *BOTH,
    "llmsched_no_uncertainty",
    "srtf",
    "gittins",
    *(f"{OURS}?index={index}&reserve_s=0" for index in ("mean", "median", "gittins", "blend")),
    *(f"{OURS}?index=blend&reserve_s={reserve_s}" for reserve_s in (2.5, 4, 10)),
)


def cells(parts: Sequence[str]) -> list[Cell]:
    """Return what some parts run."""
    found: list[Cell] = []
    for name in WORKLOADS:
        if "workloads" in parts:
            found.append(Cell("workloads", "", "", Setting.make(name, jobs=300), BOTH, tuple(range(SEEDS[name]))))
        seeds = tuple(range(ELSEWHERE_SEEDS[name]))
        if "jobs" in parts:
            found += [Cell("jobs", "jobs", f"{n}", Setting.make(name, jobs=n), BOTH, seeds) for n in JOBS]
        if "load" in parts:
            found += [Cell("load", "load", f"{x}", Setting.make(name, jobs=300, load=x), BOTH, seeds) for x in LOADS]
        if "ideas" in parts and IDEA_SEEDS[name]:
            seeds = tuple(range(FIRST_IDEA_SEED, FIRST_IDEA_SEED + IDEA_SEEDS[name]))
            setting = replace(Setting.make(name, jobs=300), split="train")
            found.append(Cell("ideas", "split", "train", setting, IDEAS, seeds))
    return found


def measure(parts: Sequence[str], workers: int, folder: Path) -> None:
    """Run some parts and freeze them; those of others stay.

    Raises:
        InputError: A policy is not possible.
        RunError: A policy raised an exception.
    """
    facts = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    weights = read_card(WEIGHTS / f"{OURS}.safetensors", OURS).digest
    source, table = commit(), [row for row in thaw(ROWS) if row["part"] not in parts]
    for part in parts:
        with EpisodeProgress() as progress:
            table += run_cells(cells([part]), folder, workers, progress)
        facts[part] = {"commit": source, "weights": weights}
    freeze(ROWS, table, source)
    write_text(FACTS, json.dumps(facts, indent=1) + "\n")


def freeze_losses(folders: Sequence[Path]) -> None:
    """Freeze the last losses of the first round of training runs, by the names of their folders.

    Raises:
        InputError: A folder has no losses.
    """
    table: list[dict[str, Any]] = []
    for folder in folders:
        rows = [row for row in thaw(folder / "losses.csv") if row["round"] == 1]
        if not rows:
            raise InputError(folder, "losses.csv", Plain("nothing"), "the folder of a training run")
        last = max(row["epoch"] for row in rows)
        table += [{"part": folder.name} | row for row in rows if row["epoch"] == last]
    freeze(LOSSES, table, commit())


def report() -> None:
    """Write the page's tables and its picture from what is frozen."""
    rows = thaw(ROWS)
    write_atomic(DOCS / "figures" / "uncertainty_gnn.png", draw(rows))
    page = DOCS / "uncertainty_gnn.md"
    facts = json.loads(FACTS.read_text())
    text = fill_page(page.read_text(encoding="utf-8"), rows, thaw(LOSSES), facts)
    write_text(page, text)


def main() -> int:
    """Run, freeze and report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), metavar="NAMES", help="parts, or report; default: all")
    parser.add_argument("--losses", type=Path, nargs="+", metavar="FOLDER", help="runs whose losses are to be frozen")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/uncertainty_gnn"), metavar="FOLDER")
    arguments = parser.parse_args()
    parts = [part for part in arguments.part.split(",") if part != "report"]
    try:
        for part in parts:
            if part not in PARTS:
                raise InputError("--part", "", part, suggest(part, (*PARTS, "report")))
        if arguments.losses:
            freeze_losses(arguments.losses)
        elif parts:
            measure(parts, arguments.workers, arguments.output)
        report()
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
