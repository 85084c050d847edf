"""Running policies on a suite: a comparison per scenario, kept in a folder of its own, then scores over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_gym.errors import RunError
from llmsched_gym.evaluation.report import to_csv
from llmsched_gym.evaluation.runner import Comparison, Progress, Silent, compare
from llmsched_gym.evaluation.store import RunFolder, write_json, write_text
from llmsched_gym.suites.scores import PolicyScore, scores
from llmsched_gym.suites.suite import Suite, SuiteScenario
from llmsched_gym.suites.verifying import drawn_digest

ProgressOf = Callable[[str], AbstractContextManager[Progress]]
"""Scenario name → what is told how far it is."""


@dataclass(frozen=True)
class SuiteRun:
    """Policies on a suite.

    Attributes:
        suite: The suite.
        comparisons: Scenario name → results of the policies, and of the reference where its values are not frozen.
        scores: The policies' scores, the best first.
    """

    suite: Suite
    comparisons: dict[str, Comparison]
    scores: list[PolicyScore]


def run_suite(
    suite: Suite,
    policies: Sequence[str],
    folder: Path,
    workers: int | None = None,
    progress: ProgressOf | None = None,
    ray: bool = False,
) -> SuiteRun:
    """Run every policy on every scenario and seed of a suite; what `folder` holds already is not run again.

    Args:
        suite: The suite.
        policies: Specs for `load_policy`.
        folder: Where results are kept: one folder of `compare` per scenario.
        workers: Processes; default: one per core.
        progress: Makes what is told how far a scenario is.
        ray: Whether episodes run on a Ray cluster.

    Raises:
        InputError: A policy cannot be loaded, or the folder belongs to something else.
        RunError: A policy raised an exception, or jobs are drawn otherwise here than when the suite was made.
    """
    tell = progress or (lambda _: nullcontext(Silent()))
    _check_folders(suite, folder)
    comparisons: dict[str, Comparison] = {}
    for scenario in suite.scenarios:
        check_digest(suite, scenario, scenario.seeds[0], drawn_digest(scenario, scenario.seeds[0]))
        specs = [*policies]
        if not scenario.frozen and scenario.reference not in specs:
            specs.append(scenario.reference)
        with tell(scenario.name) as told:
            place = folder / scenario.name
            comparison = compare(scenario.setting, specs, scenario.seeds, place, workers, told, ray)
        for seed in scenario.seeds:
            check_digest(suite, scenario, seed, comparison.bounds[seed]["workload_digest"])
        comparisons[scenario.name] = comparison
    return SuiteRun(suite, comparisons, _scores(suite, policies, comparisons))


def check_digest(suite: Suite, scenario: SuiteScenario, seed: int, digest: str) -> None:
    """Check that jobs are those of the suite.

    Raises:
        RunError: They are not: results on them would be of something else.
    """
    expected = scenario.digests[seed]
    if digest != expected:
        where = f"suite {suite.name}: scenario {scenario.name}, seed {seed}"
        raise RunError(f"{where}: jobs with the digest {digest} are drawn here; the suite has {expected}")


def _check_folders(suite: Suite, folder: Path) -> None:
    """Refuse a folder of other results before anything runs."""
    for scenario in suite.scenarios:
        RunFolder(folder / scenario.name, scenario.setting.describe() | {"served_by": None})


def _scores(suite: Suite, policies: Sequence[str], comparisons: dict[str, Comparison]) -> list[PolicyScore]:
    contestants = {one.spec: one for one in next(iter(comparisons.values())).contestants}
    labels = {spec: contestants[spec].label for spec in policies}
    values = {
        labels[spec]: {s.name: _metric(comparisons[s.name], s, spec) for s in suite.scenarios} for spec in policies
    }
    references = {
        s.name: [s.reference_values[seed] for seed in s.seeds]
        if s.frozen
        else _metric(comparisons[s.name], s, s.reference)
        for s in suite.scenarios
    }
    unranked = {labels[spec] for spec in policies if contestants[spec].privileged}
    return scores(suite, values, references, unranked)


def _metric(comparison: Comparison, scenario: SuiteScenario, spec: str) -> list[float]:
    contestant = next(one for one in comparison.contestants if one.spec == spec)
    return comparison.metric(contestant, scenario.metric)


def summary(run: SuiteRun) -> dict[str, Any]:
    """Return the object of ``suite run --json``: scores as [low, mid, high], below 1 better than the reference."""
    return {
        "suite": run.suite.name,
        "seeds": list(run.suite.seeds),
        "scenarios": {
            one.name: {"metric": one.metric, "reference": one.reference, "frozen": one.frozen}
            for one in run.suite.scenarios
        },
        "policies": {
            one.policy: {
                "rank": one.rank,
                "score": one.overall.as_list(),
                "scenarios": {name: found.as_list() for name, found in one.scenarios.items()},
            }
            for one in run.scores
        },
    }


def write_scores(run: SuiteRun, folder: Path) -> None:
    """Write ``summary.json`` and ``scores.csv``: a row per policy and scenario, and one over all (``suite``).

    Raises:
        InputError: A file cannot be written.
    """
    rows = [
        {
            "policy": one.policy,
            "rank": one.rank,
            "scenario": name,
            "score_low": found.low,
            "score": found.mid,
            "score_high": found.high,
        }
        for one in run.scores
        for name, found in {"suite": one.overall, **one.scenarios}.items()
    ]
    write_text(folder / "scores.csv", to_csv(rows))
    write_json(folder / "summary.json", summary(run))
