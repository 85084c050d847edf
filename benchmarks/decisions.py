"""What a decision costs with 300 jobs present: the policy itself, and the profiler behind its observation.

    python benchmarks/decisions.py [--quick] [--json]

More than 300 jobs of the mixed workload arrive at once and a policy schedules them; counted are the decisions while at
least 300 are in the system. Windows are sized so that nothing is left out. The profiler's share is the difference
between `env.step` with it and without it on the same actions, decision by decision; policies that read none of its
columns are charged nothing for it. Inference starts with an empty cache. Times are CPU time of the one thread (the
machine may be shared), per decision the least of the repeats.

Then the throughput of `env.step` with the profiler on and off, and the compiled inference beside pgmpy's
(`inference.py` has more).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

import numpy as np
from environment import all_at_once
from inference import measure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.profiler.profiler import shipped_profiler
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.workload import Workload

PRESENT: Final = 300
EXTRA: Final = 60
"""Jobs that may finish while decisions are counted."""

POLICIES: Final = {
    "fcfs": False,
    "sjf": False,
    "fair": False,
    "srtf": False,
    "carbyne": False,
    "gittins": True,
    "llmsched_no_bn": True,
    "llmsched_no_uncertainty": True,
    "llmsched": True,
}
"""Policy -> whether it reads the profiler's columns."""

MEAN_GOAL_US: Final = 150.0
P99_GOAL_US: Final = 2000.0

Times = NDArray[np.int64]


def make_env(workload: Workload, policy: Policy, profiler: bool) -> SchedulingEnv:
    """Return an environment that hides nothing."""
    return SchedulingEnv(
        "mixed",
        workload=workload,
        observation=policy.observation,
        max_candidates=None,
        max_jobs=None,
        profiler=profiler,
    )


def play(workload: Workload, policy: Policy, profiler: bool, most: int) -> tuple[list[int], Times, Times]:
    """Let a policy decide while enough jobs are present.

    Returns:
        Actions; int64 (n,) ns inside ``act``; int64 (n,) ns inside ``step``.
    """
    cache = shipped_profiler().inference.cache
    cache.apps[:] = -1
    cache.counts[:] = 0
    env = make_env(workload, policy, profiler)
    seen, info = env.reset(seed=0)
    policy.reset(info)
    clock = time.thread_time_ns
    actions, deciding, stepping = [], [], []
    while seen["system"][1] >= PRESENT and len(actions) < most:
        begin = clock()
        action = policy.act(seen)
        middle = clock()
        seen, _, _, _, _ = env.step(action)
        stepping.append(clock() - middle)
        deciding.append(middle - begin)
        actions.append(action)
    return actions, np.array(deciding), np.array(stepping)


def replay(workload: Workload, policy: Policy, actions: list[int]) -> Times:
    """Repeat actions without the profiler; return int64 (n,) ns inside ``step``."""
    env = make_env(workload, policy, profiler=False)
    env.reset(seed=0)
    clock = time.thread_time_ns
    stepping = []
    for action in actions:
        begin = clock()
        env.step(action)
        stepping.append(clock() - begin)
    return np.array(stepping)


def overhead(workload: Workload, name: str, repeats: int, most: int) -> dict[str, Any]:
    """Measure one policy."""
    reads = POLICIES[name]
    runs = [play(workload, load_policy(name), reads, most) for _ in range(repeats)]
    act = np.min([deciding for _, deciding, _ in runs], axis=0)
    beliefs = np.zeros_like(act)
    if reads:
        on = np.min([stepping for _, _, stepping in runs], axis=0)
        off = np.min([replay(workload, load_policy(name), runs[0][0]) for _ in range(repeats)], axis=0)
        beliefs = np.maximum(on - off, 0)
    total = act + beliefs
    return {
        "decisions": len(act),
        "act_us": float(act.mean()) / 1e3,
        "beliefs_us": float(beliefs.mean()) / 1e3,
        "mean_us": float(total.mean()) / 1e3,
        "p50_us": float(np.percentile(total, 50)) / 1e3,
        "p99_us": float(np.percentile(total, 99)) / 1e3,
        "worst_us": float(total.max()) / 1e3,
    }


def steps_per_s(profiler: bool, episodes: int) -> float:
    """Step through whole episodes of the mixed scenario, first come first served, with the default windows."""
    env = SchedulingEnv("mixed", profiler=profiler)
    steps = spent = 0
    for seed in range(-1, episodes):  # the first one compiles or loads, and is not counted
        seen, _ = env.reset(seed=seed + 1)
        terminated = False
        while not terminated:
            action = int(seen["action_mask"].argmax())
            begin = time.thread_time_ns()
            seen, _, terminated, _, _ = env.step(action)
            if seed >= 0:
                spent += time.thread_time_ns() - begin
                steps += 1
    return steps / spent * 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer decisions, no pgmpy")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    repeats, most = (2, 500) if arguments.quick else (3, 4000)

    workload = all_at_once(PRESENT + EXTRA)
    for name in POLICIES:  # compile, or load what is compiled
        overhead(workload, name, 1, 20)
    policies = {name: overhead(workload, name, repeats, most) for name in POLICIES}
    throughput = {state: steps_per_s(state == "on", 1 if arguments.quick else 4) for state in ("off", "on")}
    profiles = [load_profile(name) for name in APPLICATIONS]
    inference = [] if arguments.quick else [measure(profiles, app, 100, 5) for app in range(len(profiles))]
    report = {"jobs": PRESENT, "policies": policies, "steps_per_s": throughput, "inference": inference}
    if arguments.json:
        print(json.dumps(_short(report), indent=1))
        return
    console = Console(width=140)
    table = Table("policy", *next(iter(policies.values())), title=f"Cost of a decision, {PRESENT} jobs present")
    for name, row in policies.items():
        table.add_row(name, *(f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    console.print(table)
    console.print(f"goals for llmsched: mean {MEAN_GOAL_US:g} µs, p99 {P99_GOAL_US:g} µs")
    share = throughput["on"] / throughput["off"]
    console.print(
        f"env.step: {throughput['off']:,.0f}/s without profiler, {throughput['on']:,.0f}/s with ({share:.0%})"
    )
    for row in inference:
        ours, theirs = row["posterior_us"], row["pgmpy_posterior_us"]
        console.print(
            f"{row['application']}: {ours:.2f} µs per posterior, pgmpy {theirs:,.0f}: {row['times_faster']:,.0f}×"
        )


def _short(value: Any) -> Any:
    """Round all numbers of a report to four digits."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
