"""Measure uncertainty_gnn against LLMSched and the oracle, and what each of its ideas is worth.

    python baselines/evaluate_uncertainty_gnn.py [--parts workloads,jobs,load,ideas] [--seeds 20]

Every episode is kept in ``baselines/reference/uncertainty_gnn.csv`` and never run again; the tables of
``docs/uncertainty_gnn.md`` are printed from that file. Parts: *workloads*: 300 jobs at the default load; *jobs* and
*load*: the same policy with other numbers of jobs and loads; both on the ``eval`` split. *ideas*: variants, on seeds of
the ``train`` split that training does not use (`IDEAS_SEED` on).
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import reduction_pct
from llmsched_gym.workloads.files import write_atomic

TABLE: Final = Path(__file__).parent / "reference" / "uncertainty_gnn.csv"
COLUMNS: tuple[str, ...] = (
    "part",
    "scenario",
    "jobs",
    "load",
    "split",
    "seed",
    "policy",
    "mean_jct_s",
    "p99_jct_s",
)
SCENARIOS: Final = ("mixed", "predefined", "chain", "planning")
OURS, BASELINE, ORACLE = "uncertainty_gnn", "llmsched", "oracle_srtf"
IDEAS: Final = (
    "llmsched_no_uncertainty",
    "srtf",
    "gittins",
    "uncertainty_gnn?index=mean&reserve_s=0",
    "uncertainty_gnn?index=median&reserve_s=0",
    "uncertainty_gnn?index=gittins&reserve_s=0",
    "uncertainty_gnn?index=blend&reserve_s=0",
    "uncertainty_gnn?index=blend&reserve_s=2.5",
    "uncertainty_gnn?index=blend&reserve_s=4",
)
IDEAS_SEED: Final = 1000


class Task(NamedTuple):
    """One episode: the first columns of the table."""

    part: str
    scenario: str
    jobs: int
    load: float
    split: str
    seed: int
    policy: str


def tasks(parts: list[str], scenarios: list[str], seeds: int) -> list[Task]:
    """List the episodes of some parts."""
    found: list[Task] = []
    both = (BASELINE, ORACLE, OURS)
    for scenario in scenarios:
        if "workloads" in parts:
            found += [Task("workloads", scenario, 300, 0.9, "eval", s, p) for s in range(seeds) for p in both]
        if "jobs" in parts:
            found += [
                Task("jobs", scenario, n, 0.9, "eval", s, p)
                for n in (100, 200, 400)
                for s in range(seeds)
                for p in both
            ]
        if "load" in parts:
            found += [
                Task("load", scenario, 300, x, "eval", s, p) for x in (0.63, 1.17) for s in range(seeds) for p in both
            ]
        if "ideas" in parts:
            first = range(IDEAS_SEED, IDEAS_SEED + seeds)
            found += [
                Task("ideas", scenario, 300, 0.9, "train", s, p)
                for s in first
                for p in (BASELINE, ORACLE, OURS, *IDEAS)
            ]
    return found


def read() -> dict[Task, dict[str, Any]]:
    """Read the episodes that were run before."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [
            {**row, "jobs": int(row["jobs"]), "load": float(row["load"]), "seed": int(row["seed"])}
            for row in csv.DictReader(file)
        ]
    return {Task(*(row[name] for name in COLUMNS[:7])): row for row in rows}


def write(done: dict[Task, dict[str, Any]]) -> None:
    """Write the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(done[task] for task in sorted(done))
    write_atomic(TABLE, text.getvalue().encode())


def run(task: Task) -> dict[str, Any]:
    """Run one episode; return its row."""
    setting = replace(Setting.make(task.scenario, jobs=task.jobs, load=task.load), split=task.split)
    metrics = run_episode(setting, task.policy, task.seed)["metrics"]
    return task._asdict() | {name: f"{metrics[name]:.5g}" for name in ("mean_jct_s", "p99_jct_s")}


def report(done: dict[Task, dict[str, Any]]) -> None:
    """Print a table per part: how far each policy is below LLMSched, and how much of the oracle's lead that is."""
    groups: dict[tuple[Any, ...], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for task, row in done.items():
        groups[task.part, task.scenario, task.jobs, task.load][task.policy][task.seed] = float(row["mean_jct_s"])
    print(
        "| part | workload | jobs | load | seeds | policy | mean JCT, s | below llmsched by, % | of the oracle's lead |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (part, scenario, jobs, load), policies in sorted(groups.items()):
        base = policies[BASELINE]
        for policy, values in sorted(policies.items(), key=lambda item: np.mean(list(item[1].values()))):
            seeds = sorted(base.keys() & values.keys() & policies[ORACLE].keys())
            if policy == BASELINE or len(seeds) < 2:
                continue
            usual, mine, best = (np.array([one[s] for s in seeds]) for one in (base, values, policies[ORACLE]))
            share = (usual.mean() - mine.mean()) / (usual.mean() - best.mean())
            below = reduction_pct(usual, mine)
            print(
                f"| {part} | {scenario} | {jobs} | {load} | {len(seeds)} | {policy} | {mine.mean():.2f} "
                f"| {below.mid:.1f} [{below.low:.1f}, {below.high:.1f}] | {100 * share:.0f} % |"
            )


def main() -> int:
    """Run what is missing and print the tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="workloads,jobs,load,ideas", help="parts, separated by commas; '' runs none")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    done = read()
    try:
        for task in tasks(given.parts.split(","), given.scenarios.split(","), given.seeds):
            if task not in done:
                done[task] = run(task)
                write(done)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
