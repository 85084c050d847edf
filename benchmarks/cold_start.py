"""What the first step on a fresh machine costs: time, processor time, and the functions that take most of it.

    python benchmarks/cold_start.py [--processes 1,2] [--functions 20] [--json]

The twelve lines of the README run in a fresh process with an empty cache; then once more, with what is there. With one
process all is compiled there, function by function, and each is timed without those that it calls. The machine should
be idle: processor time, too, is longer where others share the cores.
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

from rich.console import Console
from rich.table import Table

TARGET_WALL_S = 45.0
TARGET_CPU_S = 60.0

FIRST_STEP = """
import json, sys, time
helpers = int(sys.argv[1])
from llmsched_gym._code import ahead
from llmsched_gym._code.dispatch import Compiled
from llmsched_gym._code.progress import progress
from numba.core import event

ahead.announced.helpers = helpers

class Timer(event.Listener):
    def __init__(self):
        self.open, self.rows = [], []
    def on_start(self, event):
        self.open.append([time.process_time(), 0.0])
    def on_end(self, event):
        began, inner = self.open.pop()
        seconds = time.process_time() - began
        if self.open:
            self.open[-1][1] += seconds
        made = event.data["dispatcher"]
        if isinstance(made, Compiled):
            function = f"{made.py_func.__module__}.{made.py_func.__qualname__}".removeprefix("llmsched_gym.")
            self.rows.append((function, type(made).__name__.strip("_").lower(), seconds - inner))
        elif self.open:
            self.open[-1][1] -= seconds  # what Numba compiles for a function is the function's

timer = Timer()
event.register("numba:compile", timer)
import gymnasium as gym
import llmsched_gym

env = gym.make("LLMSched/Mixed-v0", jobs=100, load=0.9)
observation, info = env.reset(seed=0)
action = env.action_space.sample(mask=info["action_mask"])
observation, reward, terminated, truncated, info = env.step(action)
print(json.dumps({"functions": progress.functions, "rows": timer.rows}))
"""


def first_step(cache: str, helpers: int) -> dict[str, Any]:
    """Make the first step in a fresh process.

    Returns:
        ``wall_s``, ``cpu_s`` of it and of all that help it, ``functions`` compiled, ``rows`` of those compiled in the
        process itself: name, form, seconds.
    """
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, str(helpers)],
        env={**os.environ, "LLMSCHED_GYM_CACHE": cache, "LLMSCHED_GYM_QUIET": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    after, wall = os.times(), time.perf_counter() - began
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall, "cpu_s": cpu, **json.loads(done.stdout)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="1,2", help="numbers of processes that compile (default: 1,2)")
    parser.add_argument("--functions", type=int, default=20, help="how many functions are listed (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"target_wall_s": TARGET_WALL_S, "target_cpu_s": TARGET_CPU_S, "cold": {}, "warm": {}}
    for processes in map(int, arguments.processes.split(",")):
        with tempfile.TemporaryDirectory() as cache:
            report["cold"][processes] = first_step(cache, processes)
            report["warm"][processes] = first_step(cache, processes)
    if arguments.json:
        print(json.dumps(report))
        return
    console = Console()
    table = Table("processes", "cache", "seconds", "CPU s", "functions compiled", title="First step of the README")
    for processes, cold in report["cold"].items():
        for name, row in (("empty", cold), ("full", report["warm"][processes])):
            cells = f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", str(row["functions"])
            table.add_row(str(processes), name, *cells)
    console.print(table)
    console.print(f"target on two idle cores: {TARGET_WALL_S:.0f} s, {TARGET_CPU_S:.0f} s of CPU")
    rows = next((cold["rows"] for processes, cold in report["cold"].items() if processes == 1), [])
    if not rows:
        return
    sums: dict[tuple[str, str], list[float]] = {}
    for function, form, seconds in rows:
        sums.setdefault((function, form), []).append(seconds)
    table = Table("function", "form", "signatures", "CPU s", title="Functions, without those that they call")
    for (function, form), seconds in sorted(sums.items(), key=lambda item: -sum(item[1]))[: arguments.functions]:
        table.add_row(function, form, str(len(seconds)), f"{sum(seconds):.2f}")
    console.print(table)
    forms = {form: sum(seconds for _, kind, seconds in rows if kind == form) for form in ("kernel", "part")}
    console.print(f"called from Python: {forms['kernel']:.1f} s; called by them: {forms['part']:.1f} s")


if __name__ == "__main__":
    main()
