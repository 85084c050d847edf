"""How full a KV cache the placement `admit` should fill: the sweep on the `train` split behind its default.

python baselines/admission.py [--jobs N] [--seeds N] [--workers N] [-o FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from llmsched_gym.cli.console import EpisodeProgress, print_table
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.runner import compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import relative

BASE: Final = "srtf"
FILLS: Final = (0.6, 0.7, 0.8, 0.9, 1.0)
WINDOWS_S: Final = (10, 30, 100)
SPECS: Final = (
    BASE,
    *(f"srtf+admit?fill={fill}" for fill in FILLS),
    *(f"srtf+admit?window_s={window}" for window in WINDOWS_S),
)


def main(argv: list[str] | None = None) -> int:
    """Run the sweep and print it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="jobs per episode; default: 100")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of the train split; default: 10")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/admission"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    try:
        setting = replace(Setting.make("memory_bound", arguments.jobs), split="train")
        with EpisodeProgress() as progress:
            found = compare(setting, SPECS, range(arguments.seeds), arguments.output, arguments.workers, progress)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    values = {one.spec: found.metric(one, "mean_jct_s") for one in found.contestants}
    preempted = {one.spec: mean(found.metric(one, "preemptions")) for one in found.contestants}
    rows = []
    for spec, each in values.items():
        ratio = relative(each, values[BASE])
        interval = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
        rows.append((spec, f"{ratio.mid:.3f}{interval}", preempted[spec]))
    title = f"memory_bound, {arguments.jobs} jobs, {arguments.seeds} seeds of the train split"
    print_table(title, ("policy", f"mean JCT over {BASE}'s", "preemptions"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
