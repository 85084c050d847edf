"""``best_known.csv`` of a suite of small instances: the best schedule of each that a search found, and how good it is.

The schedules themselves are in it, so that anybody can play them again (``llmsched-gym suite verify``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.evaluation.runner import Progress
from llmsched_gym.evaluation.statistics import Interval, relative
from llmsched_gym.evaluation.workers import run_tasks
from llmsched_gym.suites.rollout import Rollouts, Schedule
from llmsched_gym.suites.searching import FURTHEST, ROLLOUTS, search
from llmsched_gym.suites.suite import Suite, SuiteScenario, key_of, number_of, read_rows

BEST_KNOWN: Final = "best_known.csv"
METRIC: Final = "mean_jct_s"
"""What is searched for the least of."""

_VALUES: Final = ("lower_bound_s", "first_s", "second_s")
COLUMNS: Final = ("scenario", "seed", "workload_digest", *_VALUES, "tool_weight", "reserve_s", "steps")


class BestKnown(NamedTuple):
    """What is known of one instance.

    Attributes:
        lower_bound_s: No schedule has a smaller mean JCT.
        first_s: The least that the search from the clairvoyant portfolio found.
        second_s: The least that the search from random orders found.
        schedule: The better one.
    """

    lower_bound_s: float
    first_s: float
    second_s: float
    schedule: Schedule

    @property
    def best_s(self) -> float:
        """The least mean JCT that is known."""
        return min(self.first_s, self.second_s)


def find_best_known(
    suite: Suite, workers: int, progress: Progress, rollouts: int = ROLLOUTS
) -> dict[tuple[str, int], BestKnown]:
    """Search all instances of a suite.

    Args:
        suite: The suite.
        workers: Processes.
        progress: Told of every instance.
        rollouts: Schedules that each search plays.

    Returns:
        (scenario, seed) → what is known.

    Raises:
        InputError: A scenario is judged by something else, or its executors of a kind are not alike.
    """
    for scenario in suite.scenarios:
        _check_searchable(suite, scenario)
    tasks = [(scenario, seed, rollouts) for scenario in suite.scenarios for seed in scenario.seeds]
    progress.begin(len(tasks), 0)
    found: dict[tuple[str, int], BestKnown] = {}
    with closing(run_tasks(_search, tasks, workers, lambda task: f"{task[0].name}, seed {task[1]}")) as finished:
        for (scenario, seed, _), known in finished:
            found[scenario.name, seed] = known
            progress.advance(
                f"{scenario.name}, seed {seed}: {known.best_s:.2f} s, at least {known.lower_bound_s:.2f} s"
            )
    return {key: found[key] for key in ((scenario.name, seed) for scenario, seed, _ in tasks)}


def _check_searchable(suite: Suite, scenario: SuiteScenario) -> None:
    where = f"suite {suite.name}: scenario {scenario.name}"
    if scenario.metric != METRIC:
        raise InputError(where, "metric", scenario.metric, f"{METRIC}, the least of which is searched for")
    if scenario.setting.scenario.cluster.serves_several:
        raise InputError(where, "cluster", Plain("executors of several models"), "executors that are alike")


def _search(scenario: SuiteScenario, seed: int, rollouts: int) -> BestKnown:
    workload, cluster = scenario.setting.workload(seed), scenario.setting.scenario.cluster
    known = search(workload, cluster, seed, rollouts)
    return BestKnown(lower_bound_mean_jct(workload, cluster), known.first_s, known.second_s, known.schedule)


def rows_of(suite: Suite, known: Mapping[tuple[str, int], BestKnown]) -> Iterable[dict[str, Any]]:
    """Yield the rows of the file."""
    for (name, seed), found in known.items():
        row = {"scenario": name, "seed": seed, "workload_digest": suite.scenario(name).digests[seed]}
        row |= {value: getattr(found, value) for value in _VALUES}
        row |= {"tool_weight": found.schedule.tool_weight, "reserve_s": found.schedule.reserve_s}
        yield row | {"steps": " ".join(map(str, found.schedule.steps.tolist()))}


def read_best_known(suite: Suite) -> dict[tuple[str, int], BestKnown]:
    """Read what is known of the instances of a suite: (scenario, seed) → what is known; nothing without the file.

    Raises:
        InputError: The file cannot be read, or is of other instances.
    """
    path = suite.folder / BEST_KNOWN
    if not path.exists():
        return {}
    expected = {(one.name, seed): one.digests[seed] for one in suite.scenarios for seed in one.seeds}
    found: dict[tuple[str, int], BestKnown] = {}
    for row in read_rows(path, COLUMNS):
        name, seed = key = key_of(path, row)
        where = f"scenario {name}, seed {seed}"
        if expected.get(key) != row["workload_digest"]:
            allowed = expected.get(key, "scenarios and seeds of the suite alone")
            raise InputError(path, f"{where}: workload_digest", row["workload_digest"], allowed)
        found[key] = _parse(path, where, row, suite.scenario(name).setting.n_jobs)
    for name, seed in sorted(expected.keys() - found.keys()):
        raise InputError(path, f"scenario {name}, seed {seed}", Plain("no row"), "a row per scenario and seed")
    return found


def _parse(path: Path, where: str, row: dict[str, str], jobs: int) -> BestKnown:
    numbers = {name: number_of(row[name]) for name in (*_VALUES, "tool_weight", "reserve_s")}
    for name, value in numbers.items():
        if value is None or value < 0.0:
            raise InputError(path, f"{where}: {name}", row[name], "a number >= 0")
    try:
        steps = np.array(row["steps"].split(), dtype=np.int64)
    except (ValueError, OverflowError):
        steps = np.zeros(0, np.int64)
    if steps.shape != (jobs,) or abs(steps).max() > FURTHEST:
        allowed = f"{jobs} whole numbers from -{FURTHEST} to {FURTHEST}"
        raise InputError(path, f"{where}: steps", row["steps"], allowed)
    bound, first, second, weight, reserve_s = (value or 0.0 for value in numbers.values())
    return BestKnown(bound, first, second, Schedule(steps, weight, reserve_s))


def played_again(suite: Suite, scenario: str, seed: int, known: BestKnown) -> float:
    """Return the mean JCT that the best schedule has when it is played now."""
    setting = suite.scenario(scenario).setting
    return Rollouts(setting.workload(seed), setting.scenario.cluster).mean_jct_s(known.schedule)


class Quality(NamedTuple):
    """How good the best known schedules of a scenario are: geometric means over the seeds.

    Attributes:
        reference_over_best: What the suite's reference leaves to gain, at least; None if it is not frozen.
        best_over_bound: What is left to gain at most.
        second_over_first: Whether two searches find the same.
    """

    reference_over_best: Interval | None
    best_over_bound: Interval
    second_over_first: Interval


def quality(suite: Suite, known: Mapping[tuple[str, int], BestKnown]) -> dict[str, Quality]:
    """Return how good the best known schedules are, by scenario; nothing where none are known."""
    return {one.name: _quality(one, [known[one.name, seed] for seed in one.seeds]) for one in suite.scenarios if known}


def _quality(scenario: SuiteScenario, known: Sequence[BestKnown]) -> Quality:
    best = [each.best_s for each in known]
    reference = [scenario.reference_values[seed] for seed in scenario.seeds] if scenario.frozen else None
    return Quality(
        None if reference is None else relative(reference, best),
        relative(best, [each.lower_bound_s for each in known]),
        relative([each.second_s for each in known], [each.first_s for each in known]),
    )
