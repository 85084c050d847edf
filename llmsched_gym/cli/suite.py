"""The verbs ``suite list``, ``show``, ``run`` and ``verify``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import EpisodeProgress, print_json, print_table, say
from llmsched_gym.cli.flags import parse_names
from llmsched_gym.cli.options import Json, Output, Text, Workers
from llmsched_gym.errors import RunError

if TYPE_CHECKING:
    from llmsched_gym.evaluation.statistics import Interval
    from llmsched_gym.suites.best_known import Quality
    from llmsched_gym.suites.running import SuiteRun
    from llmsched_gym.suites.suite import Suite

_Name = Annotated[Positional[str], tyro.conf.arg(metavar="NAME|FOLDER")]


@dataclass(frozen=True)
class List:
    """List the suites that come with the package.

    Attributes:
        as_json: Print one JSON object.
    """

    as_json: Json = False

    def run(self) -> int:
        """Print their names and what they hold."""
        from llmsched_gym.suites.suite import SUITES, load_suite

        found = [load_suite(name) for name in SUITES]
        if self.as_json:
            print_json({"suites": [_described(suite) for suite in found]})
            return 0
        rows = [
            (suite.name, len(suite.scenarios), len(suite.seeds), suite.split, suite.frozen, suite.about)
            for suite in found
        ]
        print_table("", ("name", "scenarios", "seeds", "split", "references frozen", "about"), rows)
        return 0


@dataclass(frozen=True)
class Show:
    """Show one suite: its scenarios, metrics and references.

    Attributes:
        suite: Suite that comes with the package, or the folder of one.
        as_json: Print one JSON object.
    """

    suite: _Name
    as_json: Json = False

    def run(self) -> int:
        """Print it."""
        from llmsched_gym.suites.best_known import quality, read_best_known
        from llmsched_gym.suites.suite import load_suite

        suite = load_suite(self.suite)
        found = quality(suite, read_best_known(suite))
        if self.as_json:
            told = {
                name: {field: value and value.as_list() for field, value in one._asdict().items()}
                for name, one in found.items()
            }
            print_json(_described(suite) | {"best_known": told})
            return 0
        first, last = suite.seeds[0], suite.seeds[-1]
        rows = [
            (one.name, one.scenario, one.setting.n_jobs, one.setting.load, one.metric, one.reference, one.frozen)
            for one in suite.scenarios
        ]
        columns = ("name", "scenario", "jobs", "load", "metric", "reference", "frozen")
        print_table(f"{suite.name}: seeds {first} to {last} of the {suite.split} split", columns, rows)
        say(suite.about)
        if found:
            say("")
            _print_quality(found)
        return 0


@dataclass(frozen=True)
class Run:
    """Run policies on every scenario and seed of a suite, and score them beside its references.

    Every finished episode is kept in the output folder: a run that was interrupted goes on where it stopped when the
    same command is given again. The folder then holds scores.csv, summary.json, and one folder of compare per scenario.

    Attributes:
        suite: Suite that comes with the package, or the folder of one.
        policies: Policies separated by commas: short names, module:factory or path.py:factory; default: all short
            names.
        output: Folder for the results; default: results/, named after the suite.
        workers: Worker processes; default: one per core.
        ray: Run the episodes on the Ray cluster that RAY_ADDRESS names, else on a local one.
        as_json: Print one JSON object.
    """

    writes: ClassVar = ("scores.csv", "summary.json")

    suite: _Name
    policies: Text = None
    output: Output = None
    workers: Workers = None
    ray: bool = False
    as_json: Json = False

    def run(self) -> int:
        """Run, write the results, and print the scores."""
        from llmsched_gym.evaluation.ray_tasks import check_ray
        from llmsched_gym.evaluation.report import write_report
        from llmsched_gym.evaluation.runner import find_contestants
        from llmsched_gym.policies.registry import policy_names
        from llmsched_gym.suites.running import run_suite, summary, write_scores
        from llmsched_gym.suites.suite import load_suite
        from llmsched_gym.user_code.ending import contain_exit

        suite = load_suite(self.suite)
        if self.ray:
            check_ray()
        specs = policy_names() if self.policies is None else parse_names("--policies", self.policies)
        find_contestants(specs)
        folder = self.output or Path("results") / suite.name
        try:
            found = run_suite(
                suite, specs, folder, self.workers, lambda name: EpisodeProgress(within=name), ray=self.ray
            )
        except KeyboardInterrupt:
            kept = f"finished episodes are kept in {folder}; the same command goes on from there"
            raise KeyboardInterrupt(kept) from None
        contain_exit()
        for name, comparison in found.comparisons.items():
            write_report(comparison, folder / name, sys.argv)
        write_scores(found, folder)
        if self.as_json:
            print_json(summary(found))
        else:
            _print_scores(found, folder)
        return 0


@dataclass(frozen=True)
class Verify:
    """Draw the jobs of a suite again, and name the first that are not those it was made with.

    Where best known schedules come with the suite, they are played again, too.

    Attributes:
        suite: Suite that comes with the package, or the folder of one.
        as_json: Print one JSON object.
    """

    suite: _Name
    as_json: Json = False

    def run(self) -> int:
        """Draw and compare."""
        from llmsched_gym.suites.best_known import played_again, read_best_known
        from llmsched_gym.suites.suite import load_suite
        from llmsched_gym.suites.verifying import draw_all

        suite = load_suite(self.suite)
        known = read_best_known(suite)
        total, same = len(suite.scenarios) * len(suite.seeds), 0
        with EpisodeProgress("workloads") as progress:
            progress.begin(total, 0)
            for drawn in draw_all(suite):
                if not drawn.same:
                    where = f"suite {suite.name}: scenario {drawn.scenario}, seed {drawn.seed}"
                    raise RunError(f"{where}: workload digest {drawn.digest}; the suite has {drawn.expected}")
                if known:
                    best = known[drawn.scenario, drawn.seed]
                    played_s = played_again(suite, drawn.scenario, drawn.seed, best)
                    if played_s != best.best_s:
                        where = f"suite {suite.name}: scenario {drawn.scenario}, seed {drawn.seed}"
                        raise RunError(f"{where}: the best known schedule takes {played_s} s, not {best.best_s} s")
                same += 1
                progress.advance(f"{drawn.scenario}, seed {drawn.seed}: {drawn.digest}")
        if self.as_json:
            print_json({"suite": suite.name, "workloads": same, "same": True, "schedules": len(known)})
        else:
            say(f"suite {suite.name}: all {same} workloads are those that it was made with")
            if known:
                say(f"all {len(known)} best known schedules are as good as it says")
        return 0


def _described(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "about": suite.about,
        "split": suite.split,
        "seeds": list(suite.seeds),
        "frozen": suite.frozen,
        "scenarios": [
            {
                "name": one.name,
                "scenario": one.scenario,
                "jobs": one.setting.n_jobs,
                "load": one.setting.load,
                "metric": one.metric,
                "reference": one.reference,
                "digests": {str(seed): digest for seed, digest in one.digests.items()},
                "reference_values": {str(seed): value for seed, value in one.reference_values.items()},
            }
            for one in suite.scenarios
        ],
    }


def _print_quality(found: Mapping[str, Quality]) -> None:
    rows = [(name, *map(_interval_or_dash, one)) for name, one in found.items()]
    columns = ("scenario", "reference / best known", "best known / lower bound", "second search / first")
    print_table("mean JCT, geometric means over the seeds [95\N{NO-BREAK SPACE}%]", columns, rows)


def _interval_or_dash(found: Interval | None) -> str:
    return "-" if found is None else _interval(found)


def _print_scores(found: SuiteRun, folder: Path) -> None:
    names = [scenario.name for scenario in found.suite.scenarios]
    taken = [one.rank for one in found.scores]
    rows = []
    for one in found.scores:
        place = "-" if one.rank is None else f"{one.rank}=" if taken.count(one.rank) > 1 else str(one.rank)
        label = f"{one.policy} *" if one.rank is None else one.policy
        mids = (f"{one.scenarios[name].mid:.3f}" for name in names)
        rows.append((label, place, _interval(one.overall), *mids))
    say("")
    title = f"{found.suite.name}: {len(names)} scenarios × {len(found.suite.seeds)} seeds"
    print_table(title, ("policy", "rank", "score [95\N{NO-BREAK SPACE}%]", *names), rows)
    say("score: times the reference's metric on the same jobs, geometric mean over seeds and scenarios; less is better")
    if None in taken:
        say("* sees the truth, not ranked")
    if len(set(taken)) < len(taken):
        say("n= cannot be told apart from the best one of this rank, paired by seed, with Holm's correction")
    ran = [one.name for one in found.suite.scenarios if not one.frozen]
    if ran:
        say(f"references are not frozen, and were run: {', '.join(ran)}")
    say(f"results and pictures: {folder}")


def _interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mid:.3f}"
    return f"{found.mid:.3f} [{found.low:.3f}, {found.high:.3f}]"
