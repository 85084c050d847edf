"""Runs comparisons, several at once, on `llmsched_gym.evaluation`; finished episodes are kept and never run again."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from grid import Cell

from llmsched_gym.evaluation.episode import announce_episodes, warm_up
from llmsched_gym.evaluation.report import rows, to_csv
from llmsched_gym.evaluation.runner import Progress, compare
from llmsched_gym.evaluation.store import read_json, write_json, write_text
from llmsched_gym.evaluation.workers import run_tasks

COLUMNS: Final = (
    "scenario",
    "jobs",
    "load",
    "policy",
    "privileged",
    "seed",
    "mean_jct_s",
    "p50_jct_s",
    "p99_jct_s",
    "mean_slowdown",
    "llm_utilisation",
    "regular_utilisation",
    "lower_bound_mean_jct_s",
    "workload_digest",
    "episode_digest",
)
"""What is kept of an episode, beside its part, factor and value."""

_DIGITS: Final = 5

_COMMITS: Final = "commits.json"


def run_cells(
    cells: Sequence[Cell], folder: Path, workers: int, progress: Progress, columns: Sequence[str] = COLUMNS
) -> list[dict[str, Any]]:
    """Run comparisons; return one row per episode, in the order of the cells.

    One task is all policies on one seed of a cell, so that a worker draws its jobs once.

    Args:
        cells: The comparisons.
        folder: Where finished episodes are kept.
        workers: Processes.
        progress: Told of each task.
        columns: What to keep of an episode.

    Raises:
        InputError: A policy or setting is not possible.
        RunError: A policy raised an exception.
    """
    announce_episodes(cells[0].setting, cells[0].policies, workers)
    for policy in cells[0].policies:
        warm_up(policy)  # compiled once here, and loaded from the cache by every worker
    # The longest first, so that no worker is left alone with one at the end.
    tasks = [(cell, seed, folder) for cell in cells for seed in cell.seeds]
    tasks.sort(key=lambda task: -task[0].setting.n_jobs * len(task[0].policies))
    progress.begin(len(tasks), 0)
    with closing(run_tasks(_run, tasks, workers, _name)) as finished:
        for (cell, seed, _), seconds in finished:
            where = f"{cell.setting.name} {cell.factor} {cell.value}".strip()
            progress.advance(f"{cell.part}: {where}, seed {seed}: {len(cell.policies)} episodes, {seconds:.1f} s")
    table: list[dict[str, Any]] = []
    for cell in cells:
        comparison = compare(cell.setting, cell.policies, cell.seeds, folder / cell.folder, workers=1)
        head = {"part": cell.part, "factor": cell.factor, "value": cell.value}
        specs = [contestant.spec for contestant in comparison.contestants for _ in comparison.seeds]
        for spec, row in zip(specs, rows(comparison), strict=True):
            kept = {name: _short(row[name]) for name in columns} | {"policy": spec}
            per_application = {}
            if cell.part == "workloads":
                per_application = {name: _short(row[name]) for name in row if name.startswith("mean_jct_s_")}
            table.append(head | kept | per_application)
    return table


def _name(task: tuple[Any, ...]) -> str:
    cell, seed, _ = task
    return f"{cell.part}: {cell.setting.name} {cell.factor} {cell.value}, seed {seed}"


def _run(cell: Cell, seed: int, folder: Path) -> float:
    started = time.perf_counter()
    compare(cell.setting, cell.policies, [seed], folder / cell.folder, workers=1)
    return time.perf_counter() - started


def _short(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value


def freeze(path: Path, table: Iterable[Mapping[str, Any]], commit: str) -> None:
    """Write rows that may have different columns as CSV, and note beside it which commit they are from.

    Args:
        path: CSV file.
        table: The rows.
        commit: That of the sources when the run began.

    Raises:
        InputError: A file cannot be written.
    """
    table = list(table)
    columns = list(dict.fromkeys(name for row in table for name in row))
    write_text(path, to_csv([{name: row.get(name) for name in columns} for row in table]))
    write_json(path.parent / _COMMITS, dict(sorted({**commits(path.parent), path.name: commit}.items())))


def commits(folder: Path) -> dict[str, str]:
    """Return the commit that each file of frozen rows was made with."""
    path = folder / _COMMITS
    return read_json(path) if path.exists() else {}


def thaw(path: Path) -> list[dict[str, Any]]:
    """Read rows back: numbers as numbers, empty fields as None; none if the file is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(name: str, text: str) -> Any:
    if name in ("part", "factor", "value", "workload_digest", "episode_digest"):
        return text
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    try:
        return float(text)
    except ValueError:
        return text
