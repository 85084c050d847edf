"""What a decision costs with 300 jobs present: the policy itself, and the profiler behind its observation.

    python benchmarks/decisions.py [--quick] [--json]

More than 300 jobs of the mixed workload arrive at once and a policy schedules them; counted are the decisions while at
least 300 are in the system. Windows are sized so that nothing is left out. The profiler's share is the difference
between `env.step` with it and without it on the same actions, decision by decision; policies that read none of its
columns are charged nothing for it. Inference starts with an empty cache. Times are CPU time of the one thread (the
machine may be shared), per decision the least of the repeats.

Then the throughput of `env.step` with the profiler on and off, as one process of a comparison has it: ten episodes of
the mixed workload with a seed each, first come first served, and a cache that is empty before the first of them. Last,
the compiled inference beside pgmpy's (`inference.py` has more).
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
from llmsched_gym.profiler.profiler import load_profiler
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.scenario import load_scenario
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
    forget()
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


def forget() -> None:
    """Empty the cache of evidence."""
    profiler = load_profiler(True)
    assert profiler is not None
    cache = profiler.inference.cache
    cache.apps[:] = -1
    cache.counts[:] = 0


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


def throughput(episodes: int) -> dict[str, Any]:
    """Step through episodes of the mixed scenario as `compare` runs them, each with the profiler and without.

    Returns:
        Steps per second without (``off``) and with (``on``), their ratio (``share``), and those of each episode.
    """
    scenario = load_scenario("mixed")
    policy = load_policy("fcfs")
    *workloads, uncounted = (scenario.build("eval", seed) for seed in range(episodes + 1))
    for profiler in (False, True):  # compile, or load what is compiled
        episode_ns(uncounted, policy, profiler)
    forget()
    rows = []
    for workload in workloads:
        (steps, off_ns), (_, on_ns) = (episode_ns(workload, policy, profiler) for profiler in (False, True))
        rows.append({"steps": steps, "off": steps / off_ns * 1e9, "on": steps / on_ns * 1e9, "share": off_ns / on_ns})
    steps = sum(row["steps"] for row in rows)
    off, on = (steps / sum(row["steps"] / row[state] for row in rows) for state in ("off", "on"))
    return {"off": off, "on": on, "share": on / off, "episodes": rows}


def episode_ns(workload: Workload, policy: Policy, profiler: bool) -> tuple[int, int]:
    """Play an episode; return its steps and the time (ns) inside ``step``."""
    env = make_env(workload, policy, profiler)
    seen, info = env.reset(seed=0)
    policy.reset(info)
    steps, spent, terminated = 0, 0, False
    clock = time.thread_time_ns
    while not terminated:
        action = policy.act(seen)
        begin = clock()
        seen, _, terminated, _, _ = env.step(action)
        spent += clock() - begin
        steps += 1
    return steps, spent


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
    steps = throughput(2 if arguments.quick else 10)
    profiles = [load_profile(name) for name in APPLICATIONS]
    inference = [] if arguments.quick else [measure(profiles, app, 100, 5) for app in range(len(profiles))]
    report = {"jobs": PRESENT, "policies": policies, "steps_per_s": steps, "inference": inference}
    if arguments.json:
        print(json.dumps(_short(report), indent=1))
        return
    console = Console(width=140)
    table = Table("policy", *next(iter(policies.values())), title=f"Cost of a decision, {PRESENT} jobs present")
    for name, row in policies.items():
        table.add_row(name, *(f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    console.print(table)
    console.print(f"goals for llmsched: mean {MEAN_GOAL_US:g} µs, p99 {P99_GOAL_US:g} µs")
    for row in (*steps["episodes"], steps):
        name = f"episode of {row['steps']:,} steps" if "steps" in row else "all of them"
        console.print(f"{name}: {row['off']:,.0f}/s without profiler, {row['on']:,.0f}/s with ({row['share']:.0%})")
    for row in inference:
        ours, theirs = row["posterior_us"], row["pgmpy_posterior_us"]
        console.print(
            f"{row['application']}: {ours:.2f} µs per posterior, pgmpy {theirs:,.0f}: {row['times_faster']:,.0f}×, "
            f"{row['times_faster_alone']:,.0f}× for a lone one"
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
