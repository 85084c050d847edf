"""Reproduces the claims of LLMSched (ICDCS 2025); writes docs/reproduction.md and tables of other pages.

    python baselines/reproduce_llmsched.py [--quick] [--part NAME ...] [--workers N] [-o FOLDER]

Finished episodes are kept in FOLDER and never run again, so an interrupted run goes on where it stopped. A full run
freezes its results in baselines/reference/, draws the pictures in docs/figures/, writes the page, and fills in the
tables of README.md, docs/results.md and docs/vllm.md; a quick one, with few jobs and seeds, writes its page in FOLDER.
``--part report`` only draws and writes, from what is frozen. The parts bins and two_jobs fit profiles, which needs
pgmpy. How long each part took is told at the end of the page.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from calibration import calibrate
from campaign import commits, freeze, run_cells, thaw
from grid import BIN_COUNTS, FULL, PARTS, QUICK, Cell, Scale, cells
from ordering import orderings
from page_tables import fill
from reproduction_figures import draw_all
from reproduction_report import report
from results_tables import makers

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import read_json, write_json, write_text
from llmsched_gym.profiler.fit import BINS, fit_profile
from llmsched_gym.profiler.store import save_profile
from llmsched_gym.training import commit
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.toy import TOY_APPLICATIONS

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "baselines" / "reference"
ALL_PARTS: Final = (*PARTS, "two_jobs", "calibration", "ordering")
CALIBRATION_JOBS: Final = 2000
ORDERED_JOBS: Final = 200


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few jobs and seeds, everything inside FOLDER")
    parser.add_argument("--part", action="append", choices=(*ALL_PARTS, "report"), help="default: all of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/reproduction"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    parts = tuple(arguments.part or ALL_PARTS)
    try:
        reproduce(parts, arguments.quick, arguments.workers, arguments.output)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def reproduce(parts: tuple[str, ...], quick: bool, workers: int, folder: Path) -> None:
    """Run parts, freeze their results, and write the page and its pictures from all that is frozen.

    Raises:
        InputError: A file cannot be read or written.
        RunError: A policy failed, or pgmpy is missing for the parts that fit profiles.
    """
    frozen = folder / "reference" if quick else REFERENCE
    docs = folder / "docs" if quick else ROOT / "docs"
    scale, source = QUICK if quick else Scale(), commit()
    versions = Setting.make("mixed").describe()["versions"]
    manifest = read_json(frozen / "manifest.json") if (frozen / "manifest.json").exists() else {"parts": {}}
    for part in parts:
        if part != "report":
            started = time.perf_counter()
            freeze(frozen / f"{part}.csv", run_part(part, scale, workers, folder), source)
            seconds = round(time.perf_counter() - started, 1)
            manifest["parts"][part] = {"seconds": seconds, "workers": workers, "versions": versions}
            manifest |= {"scale": vars(scale), "policy": FULL}
            write_json(frozen / "manifest.json", manifest)
    write_page(frozen, docs)
    note(f"results in {frozen}, page in {docs / 'reproduction.md'}")


def run_part(part: str, scale: Scale, workers: int, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one part."""
    if part == "calibration":
        return calibrate(CALIBRATION_JOBS if scale != QUICK else scale.jobs)
    if part == "ordering":
        return orderings(ORDERED_JOBS if scale != QUICK else scale.jobs)
    if part == "two_jobs":
        todo = _two_jobs(folder / "profiles" / "two_jobs", scale)
    else:
        if part == "bins":
            fit_bins(folder / "profiles")
        todo = cells((part,), scale, folder / "profiles")
    with EpisodeProgress() as progress:
        return run_cells(todo, folder / "episodes", workers, progress)


def fit_bins(folder: Path) -> None:
    """Fit the profiles of all applications with each number of bins, unless they are there."""
    for bins in BIN_COUNTS:
        for app in APPLICATIONS:
            path = folder / f"bins_{bins}" / f"{app}.json"
            if bins != BINS and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                save_profile(fit_profile(app, bins=bins), path)
                note(f"fitted {app} with {bins} bins")


def _two_jobs(profiles: Path, scale: Scale) -> list[Cell]:
    """Return the worked example, with profiles fitted to its two applications."""
    profiles.mkdir(parents=True, exist_ok=True)
    for app in TOY_APPLICATIONS:
        past = generate(app, {app: 1.0}, Poisson(), 1.0, 1000, "profile", 0, applications=TOY_APPLICATIONS)
        save_profile(fit_profile(app, [past], latency="one-second-per-token"), profiles / f"{app}.json")
    setting = Setting(Setting.make("two_jobs").scenario, profiler=str(profiles))
    policies = ("sjf", FULL, f"{FULL}?epsilon=1.0")
    return [Cell("two_jobs", "", "", setting, policies, tuple(range(scale.seeds)))]


def write_page(frozen: Path, docs: Path) -> None:
    """Draw the pictures and write the page from frozen results; in the checkout, fill in the tables of other pages too.

    Raises:
        InputError: There are no results, or a file cannot be written.
    """
    results = {part: thaw(frozen / f"{part}.csv") for part in ALL_PARTS}
    if not results["workloads"]:
        raise InputError(frozen / "workloads.csv", "", Plain("no results"), "run --part workloads first")
    facts: dict[str, Any] = {"manifest": read_json(frozen / "manifest.json"), "commits": commits(frozen)}
    if (frozen / "decisions.json").exists():
        facts["decisions"] = read_json(frozen / "decisions.json")
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    pictures = draw_all(results, docs / "figures")
    write_text(docs / "reproduction.md", report(results, facts, pictures))
    if docs.parent == ROOT:
        for page in (ROOT / "README.md", docs / "results.md", docs / "vllm.md"):
            write_text(page, fill(page.read_text(encoding="utf-8"), makers(frozen)))


if __name__ == "__main__":
    sys.exit(main())
