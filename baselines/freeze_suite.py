"""Makes the files of a suite that are not written by hand, in its folder in llmsched_gym/suites/.

    python baselines/freeze_suite.py light-v1                 # workloads.csv: digests of the jobs
    python baselines/freeze_suite.py light-v1 --references    # reference.csv as well: runs the reference policies
    python baselines/freeze_suite.py small-v1 --best-known    # best_known.csv as well: two searches of every instance

A suite that was published is never frozen again under its name: another manifest is another version.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.suites.best_known import BEST_KNOWN
from llmsched_gym.suites.freezing import freeze_best_known, freeze_references, freeze_workloads
from llmsched_gym.suites.suite import REFERENCE, WORKLOADS, load_suite, suite_folder


def main(argv: list[str] | None = None) -> int:
    """Freeze; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="a suite that ships, or the folder of one")
    parser.add_argument("--references", action="store_true", help="also run the references")
    parser.add_argument("--best-known", action="store_true", help="also search the instances")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/suites"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    try:
        folder = suite_folder(arguments.suite)
        note(f"{freeze_workloads(folder)} workloads in {folder / WORKLOADS}")
        if arguments.references:
            (folder / REFERENCE).unlink(missing_ok=True)  # of other jobs, it would be refused
            suite = load_suite(arguments.suite)
            results = arguments.output / suite.name
            count = freeze_references(suite, results, arguments.workers, lambda name: EpisodeProgress(within=name))
            note(f"{count} values in {folder / REFERENCE}")
        if arguments.best_known:
            with EpisodeProgress("instances") as progress:
                count = freeze_best_known(load_suite(arguments.suite), arguments.workers, progress)
            note(f"{count} schedules in {folder / BEST_KNOWN}")
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
