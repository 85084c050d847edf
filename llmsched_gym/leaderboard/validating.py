"""Checking a submission without running any of its code: its files, its claims, and every action on the simulator.

All that is wrong is told at once, a line each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import llmsched_gym
from llmsched_gym.errors import InputError, Plain, escaped, suggest
from llmsched_gym.evaluation.runner import Progress, Silent
from llmsched_gym.leaderboard.checking import check_episode
from llmsched_gym.leaderboard.contents import check_contents
from llmsched_gym.leaderboard.episodes import Episode, read_lines
from llmsched_gym.leaderboard.limits import FAULTS, FILES, MANIFEST_BYTES
from llmsched_gym.leaderboard.parsing import SeveralErrors, read_strictly
from llmsched_gym.leaderboard.submission import Core, Submission
from llmsched_gym.leaderboard.submission_folder import (
    EPISODES,
    MANIFEST,
    UNLISTED,
    VALIDATION,
    VERIFIED,
    check_folder,
    file_digest,
    most_bytes,
    names_in,
    read_file,
)
from llmsched_gym.leaderboard.validation import FORMAT, Validation
from llmsched_gym.suites.suite import SUITES, Suite, load_suite
from llmsched_gym.workloads.files import write_atomic

_OLDEST: Final = (0, 1, 0)
"""First version whose submissions are replayed as they were made."""

_FOLDER: Final = "submissions"
_LONGEST: Final = 1500
"""Characters of a line."""


def validate(folder: str | Path, suite: Suite | None = None, progress: Progress | None = None) -> Validation:
    """Check a submission; nothing is written.

    Args:
        folder: Its folder.
        suite: Its suite, if that does not come with the package.
        progress: Told how far it is.

    Raises:
        InputError: There is no such folder.
        RunError: Jobs are drawn otherwise here than when the suite was made.
    """
    return _Check(Path(folder), suite, progress or Silent()).run()


def write_validation(folder: str | Path, validation: Validation) -> None:
    """Write ``validation.json``.

    Raises:
        InputError: It cannot be written.
    """
    content = json.dumps(validation.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(Path(folder) / VALIDATION, content.encode() + b"\n")


class _Check:
    def __init__(self, folder: Path, suite: Suite | None, progress: Progress) -> None:
        self._folder, self._suite, self._progress = folder, suite, progress
        self._faults: list[str] = []
        self._files: dict[str, str] = {}
        self._episodes = self._decisions = 0

    def run(self) -> Validation:
        for error in check_folder(self._folder):
            self._note(error)
        names = names_in(self._folder)
        core = None
        if len(names) <= FILES:  # of more, it would be chance which are read
            core = self._read_core()
            self._read_files([name for name in names if most_bytes(name) is not None])
        if core is not None:
            self._check_place(core)
            self._check_files(core)
            self._check_version(core)
            if (suite := self._find_suite(core)) is not None and EPISODES in self._files:
                self._check_episodes(core, suite)
        suite = self._suite
        more = len(self._faults) - FAULTS
        shown = self._faults if more <= 0 else [*self._faults[:FAULTS], f"and {more} faults more"]
        return Validation(
            format=FORMAT,
            package_version=llmsched_gym.__version__,
            suite=suite.name if suite else None,
            suite_digest=suite.digest if suite else None,
            badge=None if self._faults else "replayed",
            faults=tuple(shown),
            episodes=self._episodes,
            decisions=self._decisions,
            files=self._files,
        )

    def _note(self, error: InputError | str) -> None:
        """Keep a fault; the folder of the submission, which lies elsewhere on every machine, is left out."""
        text = str(error).removeprefix(f"{self._folder}/").removeprefix(f"{self._folder}: ")
        self._faults.append(escaped(" ".join(text.split()))[:_LONGEST])

    def _read_core(self) -> Core | None:
        """Check ``submission.json``; return what episodes are checked by, unless that is wrong, too."""
        path = self._folder / MANIFEST
        try:
            content = read_file(path, MANIFEST_BYTES)
        except InputError:  # what lies in the folder, and what does not, is told already
            return None
        try:
            read_strictly(path, content, Submission)
        except InputError as error:
            self._note(error)
            return None
        except SeveralErrors as several:
            for error in several.errors:
                self._note(error)
        try:
            return read_strictly(path, content, Core)
        except SeveralErrors:
            return None

    def _read_files(self, names: list[str]) -> None:
        """Read all but what is no file, which is told already."""
        for name in names:
            path = self._folder / name
            try:
                content = read_file(path, most_bytes(name) or 0)
            except InputError:
                continue
            if name not in (VALIDATION, VERIFIED):
                self._files[name] = file_digest(content)
            for error in check_contents(path, name, content):
                self._note(error)

    def _check_place(self, core: Core) -> None:
        """Among other submissions the folder says suite and day, too."""
        place = self._folder.absolute()
        if place.parent.parent.name != _FOLDER:
            return
        if place.parent.name != core.suite:
            self._note(InputError(MANIFEST, "suite", core.suite, f"{place.parent.name}, as the folder says"))
        day, _, rest = place.name.partition("_")
        fits = rest and rest.isascii() and rest.replace("_", "").isalnum() and rest == rest.lower()
        if day != core.date or not fits:
            allowed = f"{core.date}_ and small letters, digits and underscores"
            self._note(InputError("folder", "name", place.name, allowed))

    def _check_files(self, core: Core) -> None:
        for name, digest in core.files.items():
            if name in UNLISTED or most_bytes(name) is None:
                self._note(InputError(MANIFEST, f"files.{name}", digest, "digests of the files that may lie here"))
            elif name not in self._files:
                self._note(InputError(MANIFEST, f"files.{name}", Plain("no file"), "digests of files that are there"))
            elif digest != self._files[name]:
                self._note(InputError(name, "digest", self._files[name], f"{digest}, as {MANIFEST} says"))
        for name in sorted(self._files.keys() - core.files.keys() - UNLISTED):
            self._note(InputError(MANIFEST, "files", Plain(f"no digest of {name}"), "a digest per file"))

    def _check_version(self, core: Core) -> None:
        given = tuple(map(int, core.package_version.split(".")))
        ours = llmsched_gym.__version__
        if not _OLDEST <= given <= tuple(map(int, ours.split("."))):
            allowed = f"{'.'.join(map(str, _OLDEST))} to {ours}, which checks it"
            self._note(InputError(MANIFEST, "package_version", core.package_version, allowed))

    def _find_suite(self, core: Core) -> Suite | None:
        """Return the suite; None, and a fault, if it is unknown or another."""
        if self._suite is None:
            if core.suite not in SUITES:
                self._note(InputError(MANIFEST, "suite", core.suite, suggest(core.suite, SUITES)))
                return None
            self._suite = load_suite(core.suite)
        suite = self._suite
        if core.suite != suite.name:
            self._note(InputError(MANIFEST, "suite", core.suite, suite.name))
            return None
        if core.suite_digest != suite.digest:
            allowed = f"{suite.digest}, that of {suite.name} here"
            self._note(InputError(MANIFEST, "suite_digest", core.suite_digest, allowed))
            return None
        return suite

    def _check_episodes(self, core: Core, suite: Suite) -> None:
        runs = range(len(core.policy.specs))
        expected = {(scenario.name, run, seed) for scenario in suite.scenarios for run in runs for seed in suite.seeds}
        self._progress.begin(len(expected), 0)
        seen: dict[tuple[str, int, int], int] = {}
        for line, episode in self._lines():
            where = f"{EPISODES}: line {line}"
            if line > len(expected):
                self._note(InputError(EPISODES, "", Plain(f"more than {len(expected)} lines"), "one line per episode"))
                break
            if episode is None:
                continue
            scenario, run, seed = episode.key
            name = f"{scenario}, run {run}, seed {seed}"
            if episode.key not in expected:
                allowed = f"scenarios and seeds of {suite.name}, and runs below {len(core.policy.specs)}"
                self._note(InputError(where, "episode", Plain(name), allowed))
                continue
            if (before := seen.setdefault(episode.key, line)) != line:
                self._note(InputError(where, "episode", Plain(f"{name} again (line {before})"), "every episode once"))
                continue
            faults = list(check_episode(episode, suite.scenario(scenario), core.policy.placement))
            for fault in faults:
                self._note(f"{EPISODES}: {fault}")
            if not faults:
                self._episodes += 1
                self._decisions += episode.decisions
            self._progress.advance(f"{name}: {'as claimed' if not faults else faults[0]}")
        self._tell_missing(expected - seen.keys())

    def _lines(self) -> Iterator[tuple[int, Episode | None]]:
        """Yield the lines of the archive; None for those that are wrong, which is told."""
        path = self._folder / EPISODES
        try:
            for line, found in read_lines(path):
                if isinstance(found, SeveralErrors):
                    for error in found.errors:
                        self._note(error)
                yield line, found if isinstance(found, Episode) else None
        except InputError as error:
            self._note(error)

    def _tell_missing(self, missing: set[tuple[str, int, int]]) -> None:
        by_run: dict[tuple[str, int], list[int]] = {}
        for scenario, run, seed in sorted(missing):
            by_run.setdefault((scenario, run), []).append(seed)
        for (scenario, run), seeds in by_run.items():
            listed = ", ".join(map(str, seeds[:10])) + (f" and {len(seeds) - 10} more" if len(seeds) > 10 else "")
            found = Plain(f"no episode of seed {listed}")
            self._note(InputError(EPISODES, f"{scenario}, run {run}", found, "all seeds of the suite"))
