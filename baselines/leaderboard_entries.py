"""Makes the leaderboard's first entries: the policies of this package, handed in as anybody's are.

    python baselines/leaderboard_entries.py small-v1                          # all heuristics
    python baselines/leaderboard_entries.py small-v1 --policies fcfs,srtf

Each goes to leaderboard/submissions/SUITE/DATE_POLICY; those that are there are passed over.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path
from typing import Final

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, RunError, suggest
from llmsched_gym.leaderboard.drafting import Draft
from llmsched_gym.leaderboard.preparing import prepare
from llmsched_gym.suites.suite import load_suite

PLACE: Final = Path("leaderboard/submissions")
RESULTS: Final = Path("results/leaderboard")
"""Where finished episodes are kept."""

ABOUT: Final = {
    "random": (
        "A free slot goes to any ready stage that can use it, with equal probability: what no scheduler "
        "should be below."
    ),
    "fcfs": (
        "A free slot goes to the job that arrived first, as serving systems do by default. It knows nothing "
        "of how long jobs take."
    ),
    "sjf": (
        "A free slot goes to the job whose application has the smallest mean work among past jobs, whatever "
        "it has done already."
    ),
    "fair": (
        "A free slot goes to the job with the fewest running tasks, so that all jobs get about equal shares "
        "of the executors."
    ),
    "las": (
        "A free slot goes to the job that has received the least slot time so far, after Autellix (NSDI "
        "2026), without queues."
    ),
    "srtf": (
        "A free slot goes to the job with the smallest expected remaining work, by means of past jobs and "
        "what is revealed."
    ),
    "critical_path": (
        "A free slot goes to the stage with the longest expected path to the end of its job: classical list scheduling."
    ),
    "argus": (
        "A free slot goes to the stage with the largest influence on those that follow, counted by children "
        "(Argus, IPDPS 2021)."
    ),
    "carbyne": (
        "Fair shares, given up where a job can wait; what is left over goes to the shortest job (Carbyne, OSDI 2016)."
    ),
    "gittins": "A free slot goes to the job with the smallest Gittins index of the posterior of its remaining work.",
    "justitia": (
        "A free slot goes to the job that fair sharing would finish first: its virtual finish time is set on arrival "
        "by the expected work of its application, and never changes."
    ),
    "llmsched": (
        "A coin decides between the stage that tells most about its job and the job with the least expected "
        "work (LLMSched)."
    ),
    "llmsched_no_bn": (
        "LLMSched without its Bayesian network: means and intervals of past jobs take the place of posteriors."
    ),
    "llmsched_no_uncertainty": (
        "A free slot goes to the job with the smallest posterior mean of its remaining work: LLMSched that "
        "never explores."
    ),
    "oracle_srtf": (
        "As srtf, but by the true remaining work, which no scheduler can know: what knowing everything would be worth."
    ),
}
"""How each of them decides."""


def draft(policy: str, date: str) -> Draft:
    """Return what is said of a policy."""
    profiled = policy.startswith("llmsched") or policy == "gittins"
    return Draft(
        name=policy,
        date=date,
        authors=["The llmsched_gym developers"],
        about=ABOUT[policy],
        training="Profiles are fitted to jobs of the split profile." if profiled else "Nothing is trained.",
        tuning="Parameters are the defaults of the package; none was chosen on the seeds of a suite.",
        compute="Two cores of a server; no accelerator.",
        code="in this package",
        license="Apache-2.0",
    )


def main(argv: list[str] | None = None) -> int:
    """Make the entries; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="a suite that ships, or the folder of one")
    parser.add_argument("--policies", default=",".join(ABOUT), help="separated by commas; default: all heuristics")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("-o", "--output", type=Path, default=PLACE, metavar="FOLDER")
    arguments = parser.parse_args(argv)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        suite = load_suite(arguments.suite)
        for policy in arguments.policies.split(","):
            if policy not in ABOUT:
                raise InputError("--policies", "", policy, suggest(policy, ABOUT))
            if any((arguments.output / suite.name).glob(f"20??-??-??_{policy}")):
                note(f"{policy}: is there already")
                continue
            place = arguments.output / suite.name / f"{date}_{policy}"
            kept = RESULTS / suite.name / policy
            prepare(
                suite,
                [policy],
                draft(policy, date),
                place,
                arguments.workers,
                lambda name, policy=policy: EpisodeProgress(within=f"{policy}, {name}"),
                kept,
            )
            note(f"{policy}: {place}")
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
