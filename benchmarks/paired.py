"""Speed of this checkout relative to that of another one, in alternating slices of live processes.

    python benchmarks/paired.py OTHER_CHECKOUT [--only TEXT] [--slices 20] [--seconds 0.5] [--busy] [--json]

Machines change their speed from minute to minute, so both checkouts run in processes of their own that take turns, a
slice each, and what is shown is the median of the ratios slice by slice. Random legal actions on the mixed workload,
with and without the profiler's columns, and on `LLMSched/Hetero8-v0`; only calls of `step` are timed. ``--busy`` keeps
a process per core busy meanwhile, and compares this checkout's default with the same and one thread as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
EPISODES: Final = 64
APART: Final = 300
"""Steps between the first resets of groups of sub-environments, so that their episodes do not end together."""

CASES: Final[dict[str, dict[str, Any]]] = {
    "env.step, profiler's columns": {"profiler": True},
    "env.step": {"profiler": False},
    "64 native, 1 thread, profiler's columns": {"profiler": True, "num_envs": EPISODES, "threads": 1},
    "64 native, 1 thread": {"profiler": False, "num_envs": EPISODES, "threads": 1},
    "64 native, 1 thread, copy=False, profiler's columns": {
        "profiler": True,
        "num_envs": EPISODES,
        "threads": 1,
        "copy": False,
    },
    "64 native, 1 thread, copy=False": {"profiler": False, "num_envs": EPISODES, "threads": 1, "copy": False},
    "64 native, default threads, profiler's columns": {"profiler": True, "num_envs": EPISODES},
    "Hetero8, env.step": {"name": "LLMSched/Hetero8-v0"},
    "Hetero8, 64 native, 1 thread": {"name": "LLMSched/Hetero8-v0", "num_envs": EPISODES, "threads": 1},
}


def serve(settings: dict[str, Any]) -> None:
    """Step one environment for as many seconds as each line of standard input says; print decisions per second."""
    import gymnasium as gym

    import llmsched_gym

    gym.register_envs(llmsched_gym)
    rng = np.random.default_rng(0)
    many, name = "num_envs" in settings, settings.pop("name", "LLMSched/Mixed-v0")
    if many:
        envs: Any = gym.make_vec(name, vectorization_mode="vector_entry_point", **settings)
        observation, _ = envs.reset(seed=0)
        for group in range(8):
            chosen = np.arange(envs.num_envs) % 8 == group
            observation, _ = envs.reset(options={"reset_mask": chosen})
            for _ in range(APART):
                mask = observation["action_mask"]
                observation = envs.step((rng.random(mask.shape, np.float32) * mask).argmax(axis=1))[0]
    else:
        envs = gym.make(name, **settings)
        observation, _ = envs.reset(seed=0)
    print("ready", flush=True)
    for line in sys.stdin:
        until, spent, decisions = time.perf_counter() + float(line), 0.0, 0
        while time.perf_counter() < until:
            mask, over = observation["action_mask"], False
            if many:
                actions: Any = (rng.random(mask.shape, np.float32) * mask).argmax(axis=1)
            else:
                legal = np.flatnonzero(mask)
                actions = int(legal[int(rng.random() * len(legal))])
            before = time.perf_counter()
            observation, _, over, _, _ = envs.step(actions)
            spent += time.perf_counter() - before
            decisions += EPISODES if many else 1
            if not many and over:
                observation, _ = envs.reset()
        print(decisions / spent, flush=True)


class CannotRun(Exception):
    """A checkout lacks what a case is about."""


class Runner:
    """A process that steps an environment of a checkout when it is asked to."""

    def __init__(self, checkout: Path, settings: dict[str, Any]) -> None:
        program = [sys.executable, str(Path(__file__).resolve()), "--serve", json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            program, env=environment, cwd=checkout, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._line() != "ready":
            self.end()
            raise CannotRun(f"{checkout.name} cannot run {settings}")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def rate(self, seconds: float) -> float:
        """Return the decisions per second of one slice."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._line())

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(pair: list[tuple[Path, dict[str, Any]]], slices: int, seconds: float) -> dict[str, float]:
    """Return the median rates of two settings, and the quartiles of the ratios of the first to the second."""
    runners: list[Runner] = []
    try:
        for checkout, settings in pair:
            runners.append(Runner(checkout, settings))
    except CannotRun:
        for runner in runners:
            runner.end()
        raise
    rates = np.zeros((slices, 2))
    for number in range(slices):
        for which in (0, 1) if number % 2 else (1, 0):
            rates[number, which] = runners[which].rate(seconds)
    for runner in runners:
        runner.end()
    low, middle, high = np.quantile(rates[:, 0] / rates[:, 1], (0.25, 0.5, 0.75)).tolist()
    ours, theirs = np.median(rates, axis=0).tolist()
    return {"here_per_s": ours, "other_per_s": theirs, "ratio": middle, "ratio_low": low, "ratio_high": high}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(json.loads(arguments.serve))
        return
    other = arguments.checkout.resolve()
    if not (other / "llmsched_gym" / "__init__.py").is_file():
        parser.error(f"checkout: got {arguments.checkout}; expected a checkout of this project")
    cases = {name: [(ROOT, settings), (other, settings)] for name, settings in CASES.items()}
    if arguments.busy:
        plain = CASES["64 native, default threads, profiler's columns"]
        cases["default threads over threads=1, here"] = [(ROOT, plain), (ROOT, {**plain, "threads": 1})]
    cases = {name: pair for name, pair in cases.items() if arguments.only in name}
    if not cases:
        parser.error(f"--only: got {arguments.only!r}; expected a part of one of: {'; '.join(CASES)}")
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range((os.cpu_count() or 1) if arguments.busy else 0)
    ]
    try:
        watched = Console(stderr=True)
        rows: dict[str, dict[str, float]] = {}
        for name, pair in track(cases.items(), "measuring", console=watched):
            try:
                rows[name] = compare(pair, arguments.slices, arguments.seconds)
            except CannotRun as error:
                watched.print(f"{name} is left out: {error}")
    finally:
        for process in busy:
            process.kill()
    if arguments.json:
        print(json.dumps(rows))
        return
    load = "beside a busy process per core" if arguments.busy else "as idle as the machine is"
    table = Table(title=f"Decisions per second, here over {other.name}, {load}")
    for head in ("case", "here", "other", "ratio", "quartiles of the ratio"):
        table.add_column(head, justify="left" if head == "case" else "right")
    for name, row in rows.items():
        quartiles = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        table.add_row(name, f"{row['here_per_s']:,.0f}", f"{row['other_per_s']:,.0f}", f"{row['ratio']:.2f}", quartiles)
    Console().print(table)


if __name__ == "__main__":
    main()
