"""What came of running an entry again on sealed instances, as it stands on its page and in ``results.json``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.statistics import Interval, geometric_mean, relative
from llmsched_gym.leaderboard.page.entries import Entry
from llmsched_gym.leaderboard.submission_folder import VERIFIED
from llmsched_gym.leaderboard.verification import VerifiedEpisode
from llmsched_gym.suites.suite import Suite, SuiteScenario


@dataclass(frozen=True)
class Sealed:
    """One scenario.

    Attributes:
        scenario: Its name.
        instances: How many.
        score: Times the reference's metric on the same jobs; of several training runs their geometric mean counts.
        late: Decisions that came too late.
        ended: Episodes whose process ended before them.
        mean_us: Mean over the episodes of the mean time per decision, microseconds.
    """

    scenario: str
    instances: int
    score: Interval
    late: int
    ended: int
    mean_us: float


def sealed_results(suite: Suite, entry: Entry) -> list[Sealed]:
    """Return what came of each scenario that was run again.

    Raises:
        InputError: A metric is missing or no number > 0, or runs and instances are not whole.
    """
    if entry.verified is None:
        return []
    found = []
    for scenario in suite.scenarios:
        episodes = [one for one in entry.verified.episodes if one.scenario == scenario.name]
        if episodes:
            found.append(_sealed(entry, scenario, episodes))
    return found


def _sealed(entry: Entry, scenario: SuiteScenario, episodes: list[VerifiedEpisode]) -> Sealed:
    ratios: dict[int, dict[int, float]] = {}
    for one in episodes:
        value = one.metrics.get(scenario.metric)
        if value is None or value <= 0.0 or one.reference <= 0.0:
            where = f"{scenario.name}, run {one.run}, instance {one.instance}: {scenario.metric}"
            raise InputError(entry.folder / VERIFIED, where, value, "a number > 0")
        ratios.setdefault(one.instance, {})[one.run] = value / one.reference
    runs = set(range(entry.submission.runs))
    if any(each.keys() != runs for each in ratios.values()):
        raise InputError(entry.folder / VERIFIED, scenario.name, sorted(ratios), "instances with one episode per run")
    values = [geometric_mean(list(each.values())) for _, each in sorted(ratios.items())]
    return Sealed(
        scenario.name,
        len(values),
        relative(values, np.ones(len(values))),
        sum(one.late for one in episodes),
        sum(one.ended is not None for one in episodes),
        float(np.mean([one.decision_us_mean for one in episodes])),
    )
