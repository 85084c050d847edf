"""All heuristics on standard-v1, and whether it does what it is for; fills in docs/suites.md.

    python baselines/suite_report.py [--workers N] [-o FOLDER]
    python baselines/suite_report.py --report            # the tables again, and the checks, from the frozen results

It is for telling policies apart: on every scenario the reference has to be a tenth or more below the best online
policy, and at most three of these may share the first rank. The exit code is 1 where that does not hold. Results are
frozen in baselines/reference/suite_standard.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from campaign import commits, freeze, thaw
from page_tables import fill, table

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.statistics import Interval, ranks, relative
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.policies.registry import policy_names
from llmsched_gym.suites import Suite, load_suite
from llmsched_gym.suites.best_known import quality, read_best_known
from llmsched_gym.suites.running import run_suite
from llmsched_gym.training import commit

ROOT: Final = Path(__file__).resolve().parents[1]
FROZEN: Final = ROOT / "baselines" / "reference" / "suite_standard.csv"
PAGE: Final = ROOT / "docs" / "suites.md"

LEAST_TO_GAIN: Final = 0.9
"""Largest ratio of the reference to the best online policy."""
MOST_FIRST: Final = 3

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""Scenario → policy → its metric per seed."""


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("--report", action="store_true", help="only fill in the page, from what is frozen")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/suite_standard"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    source, suite = commit(), load_suite("standard-v1")
    try:
        if not arguments.report:
            started = time.perf_counter()
            rows = _run(suite, arguments.output, arguments.workers)
            freeze(FROZEN, rows, source)
            note(f"{len(rows)} episodes in {(time.perf_counter() - started) / 60:.1f} min, less what was there already")
        found = [*separations(suite, read_values(suite, thaw(FROZEN)))]
        makers = {"separation": partial(_separation, found), "best_known": partial(_best_known, load_suite("small-v1"))}
        write_text(PAGE, fill(PAGE.read_text(encoding="utf-8"), makers))
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    failed = [one.scenario for one in found if not one.holds]
    for name in failed:
        note(f"{name} does not separate")
    return 1 if failed else 0


def _run(suite: Suite, folder: Path, workers: int) -> list[dict[str, Any]]:
    specs = policy_names()
    run = run_suite(suite, specs, folder, workers, lambda name: EpisodeProgress(within=name))
    rows: list[dict[str, Any]] = []
    for scenario in suite.scenarios:
        comparison = run.comparisons[scenario.name]
        for contestant in comparison.contestants:
            if contestant.spec in specs and not contestant.privileged:
                values = comparison.metric(contestant, scenario.metric)
                rows += [
                    {"scenario": scenario.name, "policy": contestant.spec, "seed": seed, "metric_value": value}
                    for seed, value in zip(scenario.seeds, values, strict=True)
                ]
    return rows


def read_values(suite: Suite, rows: Iterable[Mapping[str, Any]]) -> Values:
    """Return frozen results by scenario and policy, seeds ascending."""
    values: dict[str, dict[str, list[float]]] = {scenario.name: {} for scenario in suite.scenarios}
    for row in sorted(rows, key=lambda one: one["seed"]):
        values[row["scenario"]].setdefault(row["policy"], []).append(row["metric_value"])
    return values


class Separation(NamedTuple):
    """What a scenario tells apart.

    Attributes:
        scenario: Its name in the suite.
        reference: The clairvoyant policy.
        first: Online policies that share the first rank, the best first.
        to_gain: The reference over the best of them.
        others: The other online policies, each over the best, in that order.
    """

    scenario: str
    reference: str
    first: list[str]
    to_gain: Interval
    others: dict[str, Interval]

    @property
    def holds(self) -> bool:
        """Whether the scenario is one to rank policies by."""
        return self.to_gain.mid <= LEAST_TO_GAIN and len(self.first) <= MOST_FIRST


def separations(suite: Suite, values: Values) -> Iterable[Separation]:
    """Yield what each scenario tells apart."""
    for scenario in suite.scenarios:
        online = values[scenario.name]
        reference = [scenario.reference_values[seed] for seed in scenario.seeds]
        over = {policy: relative(each, reference).mid for policy, each in online.items()}
        order = sorted(online, key=lambda policy: over[policy])
        rank = ranks({policy: [*each] for policy, each in online.items()})
        first = [policy for policy in order if rank[policy] == 1]
        best = online[order[0]]
        others = {policy: relative(online[policy], best) for policy in order if policy not in first}
        yield Separation(scenario.name, scenario.reference, first, relative(reference, best), others)


def _separation(found: Sequence[Separation]) -> Iterable[str]:
    body = [
        (
            f"`{one.scenario}`",
            f"`{one.reference}`",
            _text(one.to_gain),
            ", ".join(f"`{policy}`" for policy in one.first),
            ", ".join(f"`{policy}` {ratio.mid:.2f}" for policy, ratio in [*one.others.items()][:3]),
        )
        for one in found
    ]
    head = ("scenario", "reference", "reference over the best online policy", "first rank", "next, over the best")
    yield from table(head, body)
    yield ""
    yield f"30 seeds. *`python baselines/suite_report.py`, commit `{commits(FROZEN.parent)[FROZEN.name]}`.*"


def _best_known(suite: Suite) -> Iterable[str]:
    body = [
        (f"`{name}`", *("" if one is None else _text(one) for one in found))
        for name, found in quality(suite, read_best_known(suite)).items()
    ]
    yield from table(("scenario", "`oracle_srtf` / best known", "best known / bound", "second search / first"), body)
    yield ""
    yield "30 seeds. *`llmsched-gym suite show small-v1`*"


def _text(found: Interval) -> str:
    return f"{found.mid:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
