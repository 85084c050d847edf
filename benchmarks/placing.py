"""What it costs to choose a stage and an executor, for every policy that does.

    python benchmarks/placing.py [--stages 100] [--executors 8] [--json]

Observations are drawn at random: so many ready stages, two thirds of them of one of seven models, every executor serves
each model, and half of the pairs may start now. Times are CPU time of the one thread inside ``act``.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmsched_gym.envs.columns import Candidate, Executor, Job, Placement, Residency, System
from llmsched_gym.policies.registry import joint_names, load_policy, placement_names

MODELS: Final = 7
GOAL_US: Final = 200.0


def draw(stages: int, executors: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return an observation with so many ready stages."""
    kinds = (np.arange(stages) % 3 == 2).astype(np.float32)  # LLM, LLM, regular
    llm = np.arange(executors) % 4 < 3
    serves = (kinds[:, None] == 0) == llm
    candidates = rng.random((stages, len(Candidate)), np.float32)
    candidates[:, Candidate.JOB] = np.arange(stages)
    candidates[:, Candidate.KIND] = kinds
    candidates[:, Candidate.PROMPT_TOKENS] = np.where(kinds == 0, 1000, 0)
    placements = rng.random((stages, executors, len(Placement)), np.float32)
    legal = serves & (rng.random((stages, executors)) < 0.5)
    placements[..., Placement.LEGAL] = legal
    placements[..., Placement.SERVES] = serves
    placements[..., Placement.WAIT_S] *= ~legal
    models = np.where(kinds == 0, rng.integers(0, MODELS, stages), -1)[:, None]
    placements[..., Placement.MODEL] = np.where(serves, models, -1)
    placements *= serves[..., None] | (np.arange(len(Placement)) == Placement.MODEL)
    executor_rows = rng.integers(0, 9, (executors, len(Executor))).astype(np.float32)
    executor_rows[:, Executor.KV_USED] /= 9
    return {
        "candidates": candidates,
        "jobs": rng.random((stages, len(Job)), np.float32),
        "executors": executor_rows,
        "system": np.array(
            [{System.CANDIDATES: stages, System.JOBS: stages, System.JOB_ROWS: stages}.get(one, 0) for one in System],
            np.float32,
        ),
        "action_mask": np.append(legal.ravel(), True).astype(np.int8),
        "placements": placements,
        "models": (rng.random((executors, MODELS, len(Residency))) < 0.4).astype(np.float32),
    }


def measure(name: str, observations: list[dict[str, NDArray[Any]]], repeats: int) -> NDArray[np.int64]:
    """Return int64 (n,) ns per decision, of each observation the least of the repeats."""
    policy, clock = load_policy(name), time.thread_time_ns
    policy.reset({"policy_seed": 0})
    spent = np.zeros((repeats, len(observations)), np.int64)
    for repeat in range(repeats):
        for i, seen in enumerate(observations):
            begin = clock()
            policy.act(seen)
            spent[repeat, i] = clock() - begin
    return spent.min(axis=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=100)
    parser.add_argument("--executors", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    observations = [draw(arguments.stages, arguments.executors, rng) for _ in range(200)]
    names = (*placement_names(), "mct?wait=true", "srtf+mct", *joint_names(), "min_min?state=blind")
    report = {name: measure(name, observations, 5) / 1e3 for name in names}
    rows = {
        name: {"p50_us": float(np.median(us)), "p99_us": float(np.percentile(us, 99))} for name, us in report.items()
    }
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    title = f"{arguments.stages} ready stages, {arguments.executors} executors; goal: {GOAL_US:g} µs"
    table = Table("policy", "p50 µs", "p99 µs", title=title)
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
