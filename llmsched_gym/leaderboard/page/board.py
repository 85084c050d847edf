"""One suite with all that was handed in for it: scores and ranks, as the suites have them, and what figures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.leaderboard.page.entries import Entry
from llmsched_gym.leaderboard.submission import Track
from llmsched_gym.suites.scores import PolicyScore, scores
from llmsched_gym.suites.suite import Suite, SuiteScenario

_BOUNDED: Final = "mean_jct_s"
"""The metric that a lower bound is known of."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """An entry and what came of it.

    Attributes:
        entry: The entry.
        score: Score over the suite and per scenario, and the rank.
        place: The rank in its track as it is shown: ``2``, ``1=`` where it is shared, empty without one.
    """

    entry: Entry
    score: PolicyScore
    place: str


@dataclass(frozen=True)
class Board:
    """A suite and its entries.

    Attributes:
        suite: The suite; its references are frozen.
        rows: Those with a rank first, track by track and by rank and date, then the others by score.
    """

    suite: Suite
    rows: tuple[Row, ...]

    @property
    def ranked(self) -> bool:
        """Whether any entry has a rank."""
        return any(row.score.rank is not None for row in self.rows)

    @cached_property
    def bounds(self) -> dict[str, dict[int, float]]:
        """Scenario → seed → a metric that no schedule is below, of the scenarios that one is known of."""
        return {one.name: _bounds(one) for one in self.suite.scenarios if one.metric == _BOUNDED}

    @cached_property
    def to_reference(self) -> dict[str, dict[str, Floats]]:
        """Entry → scenario → ratio of its metric to the reference's: float64 (seeds,)."""
        base = _references(self.suite)
        return {
            row.entry.id: {name: np.divide(values, base[name]) for name, values in row.entry.values.items()}
            for row in self.rows
        }

    @cached_property
    def to_best(self) -> dict[str, Floats]:
        """Entry → ratio of its metric to that of the best entry on the same jobs: float64 (scenarios * seeds,).

        The best is one of those that do not see the truth, if there are any.
        """
        names = [one.name for one in self.suite.scenarios]
        ratios = {entry: np.concatenate([each[name] for name in names]) for entry, each in self.to_reference.items()}
        seeing = {row.entry.id for row in self.rows if row.entry.submission.track == "oracle"}
        best = np.min([ratios[entry] for entry in ratios.keys() - seeing or ratios.keys()], axis=0)
        return {entry: one / best for entry, one in ratios.items()}


def make_board(suite: Suite, entries: Sequence[Entry]) -> Board:
    """Score entries on their suite.

    Raises:
        InputError: The suite's references are not frozen.
    """
    if not suite.frozen:
        raise InputError(f"suite {suite.name}", "reference.csv", Plain("not all values"), "frozen references")
    if not entries:
        return Board(suite, ())
    by_id = {entry.id: entry for entry in entries}
    rows = [row for track in get_args(Track) for row in _ranked(suite, by_id, track)]
    return Board(suite, tuple(sorted(rows, key=_order)))


def _ranked(suite: Suite, entries: Mapping[str, Entry], track: Track) -> list[Row]:
    """Return the rows of a track: each is ranked among itself."""
    here = {name: entry for name, entry in entries.items() if entry.submission.track == track}
    if not here:
        return []
    unranked = {name for name, entry in here.items() if not entry.ranked}
    found = scores(suite, {name: entry.values for name, entry in here.items()}, _references(suite), unranked)
    taken = [one.rank for one in found]
    return [Row(here[one.policy], one, _place(one.rank, taken)) for one in found]


def _order(row: Row) -> tuple[bool, str, int, str, float, str]:
    """Say where a row stands: ranks first, track by track, equals by date; then what has no rank, by score."""
    said, rank = row.entry.submission, row.score.rank
    if rank is None:
        return True, "", 0, "", row.score.overall.mid, row.entry.id
    return False, said.track, rank, said.date, row.score.overall.mid, row.entry.id


def run_scores(board: Board, entry: Entry) -> list[PolicyScore]:
    """Return the score of each training run of an entry, in their order."""
    runs = range(entry.submission.runs)
    each = {str(run): {name: values[run] for name, values in entry.runs.items()} for run in runs}
    found = {one.policy: one for one in scores(board.suite, each, _references(board.suite), each)}
    return [found[str(run)] for run in runs]


def mean_reference(scenario: SuiteScenario) -> float:
    """Return the mean over the seeds of the reference's metric."""
    return mean([scenario.reference_values[seed] for seed in scenario.seeds])


def _references(suite: Suite) -> Mapping[str, list[float]]:
    return {one.name: [one.reference_values[seed] for seed in one.seeds] for one in suite.scenarios}


def _place(rank: int | None, taken: Sequence[int | None]) -> str:
    return "" if rank is None else f"{rank}=" if taken.count(rank) > 1 else str(rank)


def _bounds(scenario: SuiteScenario) -> dict[int, float]:
    setting = scenario.setting
    cluster = setting.scenario.cluster
    return {seed: lower_bound_mean_jct(setting.workload(seed), cluster) for seed in scenario.seeds}
