"""What a decision of a learned policy costs with 200 jobs present, on one thread.

    python benchmarks/learned_policies.py [--policies decima,...] [--jobs 200] [--json]

More jobs than that arrive at once and the policy schedules them; counted are the decisions while at least so many are
in the system, each with the time inside ``policy.act``. Windows are sized so that nothing is left out. "All" includes
the decisions without a choice, "choices" are those on which the network was asked. Times are CPU time of the one thread
(the machine may be shared), per decision the least of the repeats, which are equal in all but time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
from environment import all_at_once
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmsched_gym.envs.columns import System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.choices import forced
from llmsched_gym.policies.registry import learned_names, load_policy

GOAL_US: Final = 1000.0
EXTRA: Final = 60
"""Jobs that may finish while decisions are counted."""


def times(name: str, present: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int, int]:
    """Let a policy decide while enough jobs are present.

    Returns:
        int64 (n,) ns inside ``act``; bool (n,) whether there was a choice; nodes and candidates at the first decision.
    """
    policy = load_policy(name)
    env = SchedulingEnv(
        "mixed",
        workload=all_at_once(present + EXTRA),
        observation=policy.observation,
        max_candidates=None,
        max_jobs=None,
    )
    seen, info = env.reset(seed=0)
    nodes, candidates = int(seen["system"][System.NODES]), int(seen["system"][System.CANDIDATES])
    policy.reset(info)
    spent, choices = [], []
    while seen["system"][System.JOBS] >= present and len(spent) < most:
        choices.append(forced(seen) < 0)
        begin = time.thread_time_ns()
        action = policy.act(seen)
        spent.append(time.thread_time_ns() - begin)
        seen, *_ = env.step(action)
    return np.array(spent), np.array(choices), nodes, candidates


def measure(name: str, present: int, repeats: int, most: int) -> dict[str, Any]:
    """Measure one policy."""
    times(name, present, 20)  # compiles or loads, and is not counted
    runs = [times(name, present, most) for _ in range(repeats)]
    spent_us = np.min([run[0] for run in runs], axis=0) / 1e3
    _, choices, nodes, candidates = runs[0]
    return {
        "nodes": nodes,
        "candidates": candidates,
        "decisions": len(spent_us),
        "all_p50_us": float(np.percentile(spent_us, 50)),
        "all_p99_us": float(np.percentile(spent_us, 99)),
        "choices": int(choices.sum()),
        "choices_p50_us": float(np.percentile(spent_us[choices], 50)),
        "choices_p99_us": float(np.percentile(spent_us[choices], 99)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", default=",".join(learned_names()), help="default: all learned ones")
    parser.add_argument("--jobs", type=int, default=200, help="jobs present; default: 200")
    parser.add_argument("--quick", action="store_true", help="fewer decisions")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    repeats, most = (2, 300) if arguments.quick else (3, 3000)
    names = arguments.policies.split(",")
    report = {name: measure(name, arguments.jobs, repeats, most) for name in names}
    if arguments.json:
        print(json.dumps({"jobs": arguments.jobs, "policies": report}, indent=1))
        return
    console = Console(width=140)
    table = Table("policy", *next(iter(report.values())), title=f"Cost of a decision, {arguments.jobs} jobs present")
    for name, row in report.items():
        table.add_row(name, *(f"{value:,.0f}" for value in row.values()))
    console.print(table)
    console.print(f"goal: {GOAL_US:g} µs")


if __name__ == "__main__":
    main()
