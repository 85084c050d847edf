"""Speed of the native vector environment beside Gymnasium's over processes, with random legal actions.

    python benchmarks/vector_environment.py [--num-envs 64] [--async-envs 8] [--threads 2] [--seconds 5] [--json]

The observation is the default one, which is also what learners get: tables with windows of 64 candidates and 64 jobs,
on `LLMSched/Mixed-v0` with 300 jobs per episode at load 0.9, with the profiler's columns and without. More
sub-environments share out what a step costs beside its decisions, fewer read less memory: about 64 were fastest.

An episode takes about 18,000 random decisions. The native environments first play that long, and a sixteenth of the
sub-environments is reset every thousand steps: their episodes are then spread evenly from begin to end, as they are in
long runs, and resets come as often. All contenders then play in alternating slices of time, and the median slice
counts, so that a busy machine slows all alike. A rate is decisions per second of `step`, resets included, without the
choice of actions. CPU time is that of all processes, per decision, with the choice.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import llmsched_gym

gym.register_envs(llmsched_gym)

ID = "LLMSched/Mixed-v0"
TARGET_PER_S = 500_000
TARGET_RATIO = 10.0
SLICES = 5
BATCH = 20  # steps between looks at the clock
GROUPS, APART = 16, 1000  # groups of sub-environments, and steps from the reset of one to that of the next


@dataclass
class Contender:
    """One environment and what was measured of it."""

    name: str
    envs: Any
    observation: dict[str, np.ndarray] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    """Decisions per second, one number per slice."""
    cpu_us: list[float] = field(default_factory=list)
    """CPU time per decision, likewise."""


def random_legal(observation: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Choose an action for each sub-environment."""
    mask = observation["action_mask"]
    return (rng.random(mask.shape, np.float32) * mask).argmax(axis=1)


def spread(contender: Contender, rng: np.random.Generator) -> None:
    """Spread the episodes of a native environment over their length."""
    envs = contender.envs
    for group in range(GROUPS):
        chosen = np.arange(envs.num_envs) % GROUPS == group
        contender.observation, _ = envs.reset(options={"reset_mask": chosen})
        for _ in range(APART):
            contender.observation = envs.step(random_legal(contender.observation, rng))[0]


def play(contender: Contender, seconds: float, rng: np.random.Generator) -> None:
    """Step for some time with random legal actions, and note how fast that was."""
    envs, observation = contender.envs, contender.observation
    begun, in_step, cpu, decisions = time.perf_counter(), 0.0, 0.0, 0
    while time.perf_counter() - begun < seconds:
        before_cpu = cpu_seconds(envs)
        for _ in range(BATCH):
            actions = random_legal(observation, rng)
            before = time.perf_counter()
            observation = envs.step(actions)[0]
            in_step += time.perf_counter() - before
        decisions += BATCH * envs.num_envs
        cpu += cpu_seconds(envs) - before_cpu
    contender.observation = observation
    contender.rates.append(decisions / in_step)
    contender.cpu_us.append(cpu / decisions * 1e6)


def cpu_seconds(envs: Any) -> float:
    """CPU time of this process and, on Linux, of the processes behind an asynchronous environment."""
    ticks = 0
    for process in getattr(envs, "processes", ()):
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():
            ticks += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(num_envs: int, async_envs: int, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Measure all contenders in alternation."""
    rng = np.random.default_rng(0)
    contenders = []
    for profiler in (False, True):
        columns = "profiler's columns" if profiler else "columns of 0"
        variants: tuple[tuple[str, dict[str, Any]], ...] = (
            (f"native, {threads} threads", {"threads": threads}),
            (f"native, {threads} threads, copy=False", {"threads": threads, "copy": False}),
            ("native, 1 thread", {"threads": 1}),
        )
        for name, options in variants:
            envs = gym.make_vec(ID, num_envs, "vector_entry_point", **options, profiler=profiler)
            contenders.append(Contender(f"{name}, {columns}", envs))
        envs = gym.make_vec(ID, async_envs, "async", profiler=profiler)
        contenders.append(Contender(f"async, {async_envs} processes, {columns}", envs))
    watched = Console(stderr=True)
    for contender in track(contenders, "spreading episodes", console=watched):
        contender.observation, _ = contender.envs.reset(seed=0)
        play(contender, 0.1, rng)  # compiles or loads
        if contender.name.startswith("native"):
            spread(contender, rng)
        for numbers in (contender.rates, contender.cpu_us):
            numbers.clear()
    for _ in track(range(SLICES), "measuring", console=watched):
        for contender in contenders:
            play(contender, seconds / SLICES, rng)
    for contender in contenders:
        contender.envs.close()
    return [
        {"environment": one.name, "per_s": float(np.median(one.rates)), "cpu_us": float(np.median(one.cpu_us))}
        for one in contenders
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=64, help="sub-environments of the native environment")
    parser.add_argument("--async-envs", type=int, default=8, help="processes of the asynchronous environment")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each contender")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    rows = measure(arguments.num_envs, arguments.async_envs, arguments.threads, arguments.seconds)
    half = len(rows) // 2
    ratios = {
        f"profiler {state}": {
            "wall": part[0]["per_s"] / part[-1]["per_s"],
            "cpu": part[-1]["cpu_us"] / part[0]["cpu_us"],
        }
        for state, part in (("off", rows[:half]), ("on", rows[half:]))
    }
    load = os.getloadavg()[0]
    if arguments.json:
        targets = {"per_s": TARGET_PER_S, "ratio": TARGET_RATIO}
        print(json.dumps({"targets": targets, "load_average": load, "rows": rows, "native_over_async": ratios}))
        return
    title = f"{ID}, random legal actions (targets: {TARGET_PER_S:,}/s, {TARGET_RATIO:.0f} x async)"
    table = Table("environment", "decisions/s", "CPU µs per decision", title=title)
    for row in rows:
        table.add_row(row["environment"], f"{row['per_s']:,.0f}", f"{row['cpu_us']:.2f}")
    console = Console()
    console.print(table)
    for state, ratio in ratios.items():
        console.print(
            f"{state}: native over async {ratio['wall']:.1f} x by wall time, {ratio['cpu']:.1f} x by CPU time"
        )
    console.print(f"load average of the machine: {load:.1f}")


if __name__ == "__main__":
    main()
