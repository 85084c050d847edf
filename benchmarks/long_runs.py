"""What long episodes under overload cost: CPU seconds of one episode per policy, and by how much more jobs cost more.

    python benchmarks/long_runs.py [--jobs 10000,30000] [--policies fcfs,srtf,las] [--load 1.2]

Jobs queue up while they arrive faster than they can be served, so that a decision sees about as many of them as a sixth
of those that have come. Drawing the jobs and compiling are not counted.
"""

from __future__ import annotations

import argparse
import sys
import time

from llmsched_gym.cli.console import print_table
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.episode import run_episode, warm_up
from llmsched_gym.evaluation.setting import Setting


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default="10000,30000", help="jobs of an episode, with commas; default: 10000,30000")
    parser.add_argument("--policies", default="fcfs,srtf,las", help="with commas; default: fcfs,srtf,las")
    parser.add_argument("--load", type=float, default=1.2, help="offered work over capacity; default: 1.2")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    try:
        numbers = [int(number) for number in arguments.jobs.split(",")]
        for number in numbers:
            setting = Setting.make("mixed", jobs=number, load=arguments.load)
            setting.workload(0)
            for policy in arguments.policies.split(","):
                warm_up(policy)
                begin = time.process_time()
                run_episode(setting, policy, 0)
                seconds.setdefault(policy, []).append(time.process_time() - begin)
                print(f"{number} jobs, {policy}: {seconds[policy][-1]:.1f} s", file=sys.stderr)
    except (InputError, RunError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [(policy, *taken, taken[-1] / taken[0]) for policy, taken in seconds.items()]
    heads = [f"{number} jobs, CPU s" for number in numbers]
    print_table(f"mixed at load {arguments.load:g}, seed 0", ("policy", *heads, "last over first"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
