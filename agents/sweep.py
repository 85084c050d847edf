"""Train several seeds of a recipe, each in a folder of its own: side by side on this machine, or on a Ray cluster.

    python agents/sweep.py agents/decima.py --config configs/agents/decima.yaml --seeds 0:5 -o runs/decima --workers 2
    python agents/sweep.py agents/decima.py --config configs/agents/decima.yaml --seeds 0:5 -o runs/decima --ray

What this script does not know is handed on to the recipe, any script that takes ``--seed`` and ``--output``. Seed 3
works in ``runs/decima/3``; what it prints is in ``train.log`` there. Given again, the same command goes on: the recipe
finds its checkpoint. Runs that fail are named at the end, and keep no other from being finished. The last lines say how
far each run is below other policies on its validation jobs (of the ``train`` split), and which run is best there.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from llmsched_gym.cli.console import EpisodeProgress, print_table, say
from llmsched_gym.cli.flags import parse_seeds
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.ray_tasks import check_ray, run_on_ray
from llmsched_gym.training import CURVE, Point, exit_code, read_curve
from llmsched_gym.workloads.files import make_folder

LOG: Final = "train.log"

_POLL_S: Final = 0.2

_FRAME: Final = "│|╭╮╰╯─ \r\t"
"""What boxes are drawn with, and white space."""


class Run(NamedTuple):
    """One run of the recipe.

    Attributes:
        seed: Its seed.
        folder: Where it works; absolute.
        command: What is executed.
        where: Working directory that paths in the command are relative to.
    """

    seed: int
    folder: Path
    command: tuple[str, ...]
    where: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Execute it; its output is appended to the log."""
        make_folder(self.folder)
        with (self.folder / LOG).open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, cwd=self.where)

    def points(self) -> list[Point]:
        """Return what it has measured until now; nothing if it keeps no learning curve."""
        return read_curve(self.folder)["points"] if (self.folder / CURVE).exists() else []


def train(run: Run) -> int:
    """Execute a run to its end, anywhere; return the exit code."""
    process = run.start()
    try:
        return process.wait()
    finally:
        process.terminate()


def run_here(runs: Iterable[Run], workers: int, watch: Callable[[Run], None]) -> Generator[tuple[Run, int], None, None]:
    """Execute runs on this machine; yield each with its exit code when it ends. Ends with what still runs.

    Args:
        runs: The runs.
        workers: How many go side by side.
        watch: Called now and then for each that runs.
    """
    waiting = list(reversed(list(runs)))
    playing: dict[Run, subprocess.Popen[bytes]] = {}
    try:
        while waiting or playing:
            while waiting and len(playing) < workers:
                run = waiting.pop()
                playing[run] = run.start()
            for run, process in list(playing.items()):
                watch(run)
                if (code := process.poll()) is not None:
                    del playing[run]
                    yield run, code
            time.sleep(_POLL_S)
    finally:
        for process in playing.values():
            process.terminate()
        for process in playing.values():
            process.wait()


def run_there(runs: Iterable[Run]) -> Generator[tuple[Run, int], None, None]:
    """Execute runs on a Ray cluster; yield each with its exit code when it ends."""
    with closing(run_on_ray(train, [(run,) for run in runs], lambda task: f"seed {task[0].seed}")) as finished:
        for (run,), code in finished:
            yield run, code


def sweep(runs: list[Run], workers: int, ray: bool) -> None:
    """Execute runs, and tell what they measure and how they end.

    Raises:
        RunError: Some failed; all others are finished.
    """
    failed: list[str] = []
    with EpisodeProgress("runs") as progress:
        told = {run: len(run.points()) for run in runs}

        def watch(run: Run) -> None:
            points = run.points()
            for point in points[told[run] :]:
                progress.note(f"seed {run.seed}: after {point['done']}, {_reductions(point)}")
            told[run] = max(len(points), told[run])

        progress.begin(len(runs), 0)
        with closing(run_there(runs) if ray else run_here(runs, workers, watch)) as finished:
            for run, code in finished:
                watch(run)
                if code != 0:
                    failed.append(f"seed {run.seed} (exit code {code}): {_last_line(run.folder / LOG)}")
                progress.advance(f"seed {run.seed}: {'failed' if code else 'done'}, see {run.folder / LOG}")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def report(runs: Iterable[Run]) -> None:
    """Print what the runs measured last, and which of them is best; nothing if they keep no learning curves."""
    last = {run: points[-1] for run in runs if (points := run.points())}
    if not last:
        return
    body = [(run.seed, point["done"], f"{point['cpu_s']:.0f}", _reductions(point)) for run, point in last.items()]
    print_table("", ("seed", "done", "CPU s", "mean JCT below that of others, on validation jobs"), body)
    best = best_run(last)
    say(f"best on validation jobs: seed {best.seed}, {best.folder}")


def best_run(last: dict[Run, Point]) -> Run:
    """Return the run with the greatest reduction of mean JCT, as the mean over scenarios and policies compared with."""
    return max(last, key=lambda run: _mean([value for by in last[run]["below_pct"].values() for value in by.values()]))


def _reductions(point: Point) -> str:
    return ", ".join(
        f"{scenario} {value:.1f} % below {policy}"
        for scenario, by_policy in point["below_pct"].items()
        for policy, value in by_policy.items()
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _last_line(log: Path) -> str:
    """Return the last line that says something, without the box that it may stand in."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip(_FRAME) for line in reversed(lines) if re.search(r"\w", line)), "it said nothing")


def plan(recipe: Path, handed_on: list[str], seeds: tuple[int, ...], output: Path) -> list[Run]:
    """Return the runs.

    Raises:
        InputError: There is no such recipe, or what is handed on is set here.
    """
    if not recipe.is_file():
        raise InputError("recipe", "", str(recipe), "a script that takes --seed and --output, as agents/decima.py")
    taken = next((word for word in handed_on if word.partition("=")[0] in ("--seed", "--output")), None)
    if taken is not None:
        raise InputError("recipe", "", taken, "what differs between runs from --seeds and -o")
    where, found = Path.cwd(), []
    for seed in seeds:
        folder = (output / str(seed)).resolve()
        own = ("--seed", str(seed), "--output", str(folder))
        found.append(Run(seed, folder, (sys.executable, "-u", str(recipe.resolve()), *handed_on, *own), where))
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage."""
        self.exit(2, f"error: {self.prog}: {message} (see {self.prog} --help)\n")


def main() -> int:
    """Train; return the exit code."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("recipe", type=Path, help="training script")
    parser.add_argument("--seeds", default="0:5", help="as 0:5 (0 to 4), 0,3,7 or 5; default: 0:5")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the runs' folders")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side on this machine; default: 1")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run on the Ray cluster at this address or that RAY_ADDRESS names, else on a local one",
    )
    arguments, handed_on = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated sweep ends its runs, as an interrupted one
    return exit_code(lambda: run(arguments, handed_on))


def run(arguments: argparse.Namespace, handed_on: list[str]) -> None:
    """Train as the command line says; `handed_on` is for the recipe.

    Raises:
        InputError: Something given is not usable.
        RunError: A run failed.
    """
    if arguments.workers < 1:
        raise InputError("--workers", "", arguments.workers, "a whole number >= 1")
    runs = plan(arguments.recipe, handed_on, parse_seeds(arguments.seeds), arguments.output)
    if arguments.ray is not None:
        check_ray()
        if arguments.ray:
            os.environ["RAY_ADDRESS"] = arguments.ray
    sweep(runs, arguments.workers, arguments.ray is not None)
    report(runs)


if __name__ == "__main__":
    sys.exit(main())
