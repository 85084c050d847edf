"""Speed of the whole simulator with the compiled FCFS beside the same model as a plain Python event loop, in one run.

    python benchmarks/simulator.py [--quick] [--json]

Workloads of the mixed scenario at its default load. Times are process CPU time, without drawing the workload; the
best of the repeats counts. The plain loop's start and finish times are compared with the simulator's on the smallest
workload. The time to compile from nothing, and to load the compiled code, is taken in fresh processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from plain_simulator import PlainSimulator
from rich.console import Console
from rich.table import Table

from llmsched_gym.backends.simulator import loop
from llmsched_gym.scenario import Scenario, load_scenario

TARGET_PER_S = 300_000
FIRST_CALLS = """
import time
start = time.perf_counter()
import gymnasium
import llmsched_gym
env = gymnasium.make("LLMSched/Toy-v0")
observation, _ = env.reset(seed=0)
env.step(int(observation["action_mask"].argmax()))
print(time.perf_counter() - start)
"""


def dispatches_per_s(scenario: Scenario, jobs: int, repeats: int) -> dict[str, Any]:
    """Measure the compiled loop on one workload."""
    workload = scenario.replaced(jobs=jobs).build("train", 0)
    best, dispatches = float("inf"), 0
    for _ in range(repeats):
        state, simulation = loop.start(workload, scenario.cluster)
        start = time.process_time()
        dispatches = loop.run_fcfs(state, simulation)
        best = min(best, time.process_time() - start)
    return {"jobs": jobs, "dispatches": dispatches, "seconds": best, "dispatches_per_s": dispatches / best}


def plain_dispatches_per_s(scenario: Scenario, jobs: int) -> tuple[float, bool]:
    """Measure the plain loop on one workload; also tells whether it and the simulator agree on every time."""
    workload = scenario.replaced(jobs=jobs).build("train", 0)
    plain = PlainSimulator(workload, scenario.cluster)
    start = time.process_time()
    start_ns, finish_ns = plain.run()
    seconds = time.process_time() - start
    state, simulation = loop.start(workload, scenario.cluster)
    loop.run_fcfs(state, simulation)
    tasks = state.tasks
    equal = tasks["start_ns"].tolist() == start_ns and tasks["finish_ns"].tolist() == finish_ns
    return plain.dispatches / seconds, equal


def first_step_seconds() -> tuple[float, float]:
    """Seconds from a fresh process's imports to its first step: compiling everything, and with the cache."""
    with tempfile.TemporaryDirectory() as cache:
        runs = [
            subprocess.run(
                [sys.executable, "-c", FIRST_CALLS],
                env={**os.environ, "LLMSCHED_GYM_CACHE": cache},
                check=True,
                capture_output=True,
                text=True,
            )
            for _ in range(2)
        ]
    cold, cached = (float(run.stdout) for run in runs)
    return cold, cached


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller workloads, no compile times")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()

    scenario = load_scenario("mixed")
    sizes, repeats = ((100, 300), 2) if arguments.quick else ((100, 300, 1_000, 3_000, 10_000), 5)
    dispatches_per_s(scenario, 10, 1)  # compiles or loads
    rows = [dispatches_per_s(scenario, jobs, repeats) for jobs in sizes]
    plain, equal = plain_dispatches_per_s(scenario, sizes[0])
    report: dict[str, Any] = {
        "target_dispatches_per_s": TARGET_PER_S,
        "compiled": rows,
        "plain": {"jobs": sizes[0], "dispatches_per_s": plain, "same_times": equal},
    }
    if not arguments.quick:
        report["first_step_s"] = dict(zip(("compiling", "cached"), first_step_seconds(), strict=True))
    if arguments.json:
        print(json.dumps(report))
        return
    table = Table("jobs", "dispatches", "dispatches/s", "over plain Python", title="Compiled FCFS, mixed scenario")
    for row in rows:
        ratio = row["dispatches_per_s"] / plain
        table.add_row(f"{row['jobs']:,}", f"{row['dispatches']:,}", f"{row['dispatches_per_s']:,.0f}", f"{ratio:,.0f}x")
    console = Console()
    console.print(table)
    same = "the same times" if equal else "DIFFERENT TIMES"
    console.print(f"plain Python: {plain:,.0f} dispatches/s on {sizes[0]} jobs, {same}; target: {TARGET_PER_S:,}/s")
    if "first_step_s" in report:
        first = report["first_step_s"]
        console.print(
            f"first step: {first['compiling']:.1f} s compiling everything, {first['cached']:.1f} s with the cache"
        )


if __name__ == "__main__":
    main()
