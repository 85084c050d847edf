"""Submissions as a page needs them: what is said of each, how it is badged, and its metrics per scenario and seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.statistics import geometric_mean
from llmsched_gym.leaderboard.episodes import DecisionTimes, Episode, read_episodes
from llmsched_gym.leaderboard.limits import PROSE_BYTES, TOTAL_BYTES
from llmsched_gym.leaderboard.parsing import decoded
from llmsched_gym.leaderboard.submission import Submission, load_submission
from llmsched_gym.leaderboard.submission_folder import VALIDATION, VERIFIED, WRITE_UP, file_digest, read_file
from llmsched_gym.leaderboard.validation import load_validation
from llmsched_gym.leaderboard.verification import Verified, load_verified
from llmsched_gym.suites.suite import Suite, SuiteScenario

Badge = Literal["verified", "replayed", "claimed"]

BADGES: Final[Mapping[Badge, str]] = {
    "verified": "run again in a sandbox by a maintainer, on sealed instances that nobody knew before",
    "replayed": "every action was carried out again, and gave what is claimed",
    "claimed": "as the submitter says; nothing was checked",
}
"""From the strongest to the weakest, with what each says."""

_FOLDER: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Entry:
    """A submission on one suite.

    Attributes:
        id: Name of its folder.
        folder: Its folder.
        submission: What its submitter says.
        badge: What was checked of it.
        verified: What came of running it again on sealed instances, if that was done.
        write_up: Markdown.
        runs: Scenario → training run → metric per seed, in the order of the suite's seeds; all > 0.
        times: Time inside the policy over all episodes, as the submitter measured it.
        shown: The episode that is drawn.
    """

    id: str
    folder: Path
    submission: Submission
    badge: Badge
    verified: Verified | None
    write_up: str
    runs: Mapping[str, tuple[tuple[float, ...], ...]]
    times: DecisionTimes
    shown: Episode

    @property
    def values(self) -> dict[str, list[float]]:
        """Scenario → metric per seed: of several training runs their geometric mean."""
        return {name: [_over_runs(seed) for seed in zip(*runs, strict=True)] for name, runs in self.runs.items()}

    @property
    def ranked(self) -> bool:
        """Whether it gets a rank: what was run again by others, and does not see the truth."""
        return self.badge == "verified" and self.submission.track != "oracle"


def shown_scenario(suite: Suite) -> SuiteScenario:
    """Return the scenario whose first seed is drawn: that of the fewest jobs, where single tasks can be seen."""
    return min(suite.scenarios, key=lambda one: one.setting.n_jobs)


def entry_folders(submissions: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name of a suite and the folder of an entry, sorted; files, hidden folders and kept episodes are not.

    Raises:
        InputError: There is no such folder, or the name of one inside cannot be that of a page.
    """
    if not submissions.is_dir():
        raise InputError(submissions, "", Plain("no folder"), "a folder of one folder per suite")
    for suite in _folders(submissions):
        for entry in _folders(suite):
            if not _FOLDER.fullmatch(entry.name):
                raise InputError(suite, "folder", entry.name, "small letters, digits, - and _, at most 100")
            yield suite.name, entry


def _folders(parent: Path) -> list[Path]:
    return sorted(
        one
        for one in parent.iterdir()
        if one.is_dir() and not one.is_symlink() and not one.name.startswith(".") and one.suffix != ".episodes"
    )


def read_entry(folder: Path, suite: Suite) -> Entry:
    """Read a submission.

    Args:
        folder: Its folder.
        suite: The suite that it is on.

    Raises:
        InputError: A file cannot be read, faults were found in it, it is of another suite, or episodes are missing.
    """
    submission = load_submission(folder)
    given, expected = (submission.suite, submission.suite_digest), (suite.name, suite.digest)
    for field, mine, theirs in zip(("suite", "suite_digest"), given, expected, strict=True):
        if mine != theirs:
            raise InputError(folder, field, mine, f"{theirs}, that of the suite here")
    runs, times, shown = _read_episodes(folder, submission, suite)
    prose = decoded(folder / WRITE_UP, read_file(folder / WRITE_UP, PROSE_BYTES), "Markdown")
    verified = find_verified(folder, suite)
    return Entry(folder.name, folder, submission, find_badge(folder, verified), verified, prose, runs, times, shown)


def find_badge(folder: Path, verified: Verified | None) -> Badge:
    """Return what was checked of a submission, by the results that lie beside it; a badge includes the lesser ones.

    Raises:
        InputError: The replay found faults, or was of other files than those that are there.
    """
    if not (folder / VALIDATION).exists():
        return "claimed"
    validation = load_validation(folder)
    if validation.badge is None:
        raise InputError(folder / VALIDATION, "faults", Plain(f"{len(validation.faults)}"), "none: no entry has any")
    _check_files(folder, VALIDATION, validation.files)
    return "replayed" if verified is None else "verified"


def find_verified(folder: Path, suite: Suite) -> Verified | None:
    """Return what came of running a submission again; None if that was not done, or not on sealed instances.

    Raises:
        InputError: It was of other files than those that are there, or of another suite.
    """
    if not (folder / VERIFIED).exists():
        return None
    verified = load_verified(folder)
    if verified.suite_digest != suite.digest:
        raise InputError(folder / VERIFIED, "suite_digest", verified.suite_digest, f"{suite.digest}, that of the suite")
    _check_files(folder, VERIFIED, verified.files)
    sealed = verified.instances == "sealed" and verified.commitment is not None and verified.tag is not None
    return verified if sealed else None


def _check_files(folder: Path, result: str, files: Mapping[str, str]) -> None:
    """Refuse results of checks that were of other files."""
    for name, digest in sorted(files.items()):
        if file_digest(read_file(folder / name, TOTAL_BYTES)) != digest:
            raise InputError(folder / result, f"files.{name}", digest, "that of the file as it is now: check it again")


def _read_episodes(
    folder: Path, submission: Submission, suite: Suite
) -> tuple[dict[str, tuple[tuple[float, ...], ...]], DecisionTimes, Episode]:
    scenarios = {one.name: one for one in suite.scenarios}
    drawn = (shown_scenario(suite).name, 0, suite.seeds[0])
    found: dict[tuple[str, int, int], float] = {}
    times: list[tuple[int, DecisionTimes]] = []
    shown: Episode | None = None
    for episode in read_episodes(folder):
        where = f"{episode.scenario}, run {episode.run}, seed {episode.seed}"
        if episode.scenario not in scenarios or episode.seed not in suite.seeds or episode.run >= submission.runs:
            raise InputError(folder, "episodes", Plain(where), "scenarios, runs and seeds of the suite alone")
        if episode.key in found:
            raise InputError(folder, "episodes", Plain(f"{where} again"), "every episode once")
        metric = scenarios[episode.scenario].metric
        value = episode.metrics.get(metric)
        if value is None or value <= 0.0:
            raise InputError(folder, f"{where}: {metric}", value, "a number > 0")
        found[episode.key] = value
        times.append((episode.decisions, episode.decision_us))
        if episode.key == drawn:
            shown = episode
    runs = range(submission.runs)
    expected = [(name, run, seed) for name in scenarios for run in runs for seed in suite.seeds]
    missing = next((key for key in expected if key not in found), None)
    if missing is not None or shown is None:
        name, run, seed = missing or drawn
        raise InputError(folder, "episodes", Plain(f"none of {name}, run {run}, seed {seed}"), "one of each")
    values = {name: tuple(tuple(found[name, run, seed] for seed in suite.seeds) for run in runs) for name in scenarios}
    return values, _summed(times), shown


def _over_runs(values: tuple[float, ...]) -> float:
    """Return the geometric mean; of one value that value, to the last bit."""
    return values[0] if len(values) == 1 else geometric_mean(values)


def _summed(times: list[tuple[int, DecisionTimes]]) -> DecisionTimes:
    """Return decision times over episodes: the mean over all decisions, and the medians of their quantiles."""
    counts = [count for count, _ in times]
    return DecisionTimes(
        mean=float(np.average([one.mean for _, one in times], weights=counts)),
        p50=float(np.median([one.p50 for _, one in times])),
        p99=float(np.median([one.p99 for _, one in times])),
    )
