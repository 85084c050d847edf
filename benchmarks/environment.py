"""Speed of the environment: steps per second through `gymnasium.make`, and the cost of a decision by jobs present.

    python benchmarks/environment.py [--quick] [--json]

The first part takes random legal actions in whole episodes of every drawn scenario with the default observation; only
`env.step` is timed. In the second part all jobs arrive at once and the windows are sized to the workload, so that
nothing is left out of the observation; decisions are first come first served. Times are wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.workload import Workload

TARGET_PER_S = 40_000
PLACING_TARGET_PER_S = 20_000
ENVIRONMENTS = ("LLMSched/Mixed-v0", "LLMSched/Predefined-v0", "LLMSched/Chain-v0", "LLMSched/Planning-v0")
PLACING = ("LLMSched/Hetero8-v0", "LLMSched/Hetero4-v0", "LLMSched/RealDag-v0", "LLMSched/PrefixReuse-v0")
"""Environments in which the action chooses the executor; all tables are shown."""


def steps_per_s(name: str, observation: str, episodes: int) -> dict[str, Any]:
    """Step through whole episodes with random legal actions."""
    env = gym.make(name, observation=observation)
    rng = np.random.default_rng(0)
    steps, in_step = 0, 0
    clock = time.perf_counter_ns
    for episode in range(-1, episodes):  # the first one compiles or loads, and is not counted
        seen, _ = env.reset(seed=episode + 1)
        terminated = False
        while not terminated:
            legal = np.flatnonzero(seen["action_mask"])
            action = int(legal[int(rng.random() * len(legal))])
            before = clock()
            seen, _, terminated, _, _ = env.step(action)
            if episode >= 0:
                in_step += clock() - before
                steps += 1
    return {"environment": name, "observation": observation, "steps": steps, "steps_per_s": steps / in_step * 1e9}


def all_at_once(jobs: int) -> Workload:
    """Return a workload of the mixed scenario whose jobs all arrive at time 0."""
    workload = load_scenario("mixed").replaced(jobs=jobs).build("train", 0)
    rows = workload.jobs.copy()
    rows["arrival_ns"] = 0
    return replace(workload, jobs=rows)


def decision_cost(jobs: int, observation: str, decisions: int) -> dict[str, Any]:
    """Time the first decisions with that many jobs present."""
    env = gym.make(
        "LLMSched/Mixed-v0", workload=all_at_once(jobs), observation=observation, max_candidates=None, max_jobs=None
    )
    seen, info = env.reset(seed=0)
    spent = np.zeros(decisions, np.int64)
    for k in range(decisions):
        action = int(seen["action_mask"].argmax())
        before = time.perf_counter_ns()
        seen, _, _, _, info = env.step(action)
        spent[k] = time.perf_counter_ns() - before
    assert info["hidden_candidates"] == 0
    present, ready = int(seen["system"][1]), int(seen["system"][2])
    mean_us, p99_us = float(spent.mean() / 1e3), float(np.percentile(spent, 99) / 1e3)
    return {"jobs": jobs, "present": present, "candidates": ready, "mean_us": mean_us, "p99_us": p99_us}


def growth(rows: list[dict[str, Any]]) -> float:
    """Exponent of the growth of the mean cost with the jobs, from the smallest to the largest; 1 is linear."""
    first, last = rows[0], rows[-1]
    return float(np.log(last["mean_us"] / first["mean_us"]) / np.log(last["jobs"] / first["jobs"]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one environment, fewer jobs")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()

    names, episodes = (ENVIRONMENTS[:1], 1) if arguments.quick else (ENVIRONMENTS + PLACING, 3)
    sizes, decisions = ((100, 300, 1_000), 200) if arguments.quick else ((100, 300, 1_000, 3_000, 10_000), 500)
    speeds = [steps_per_s(name, observation, episodes) for name in names for observation in ("table", "graph")]
    costs = {mode: [decision_cost(jobs, mode, decisions) for jobs in sizes] for mode in ("table", "graph")}
    exponents = {mode: growth(rows) for mode, rows in costs.items()}
    if arguments.json:
        report = {
            "target_steps_per_s": TARGET_PER_S,
            "placing_target": PLACING_TARGET_PER_S,
            "steps": speeds,
            "decisions": costs,
            "growth": exponents,
        }
        print(json.dumps(report))
        return
    console = Console()
    targets = f"targets {TARGET_PER_S:,}/s, where they choose executors {PLACING_TARGET_PER_S:,}/s"
    table = Table("environment", "observation", "steps", "steps/s", title=f"Random legal actions ({targets})")
    for row in speeds:
        table.add_row(row["environment"], row["observation"], f"{row['steps']:,}", f"{row['steps_per_s']:,.0f}")
    console.print(table)
    for mode, rows in costs.items():
        table = Table(
            "jobs present", "candidates", "mean, µs", "p99, µs", title=f"Cost of a decision, {mode} observation"
        )
        for row in rows:
            cells = (f"{row['present']:,}", f"{row['candidates']:,}", f"{row['mean_us']:,.1f}", f"{row['p99_us']:,.1f}")
            table.add_row(*cells)
        console.print(table)
        console.print(f"grows with the jobs to the power of {exponents[mode]:.2f}")


if __name__ == "__main__":
    main()
