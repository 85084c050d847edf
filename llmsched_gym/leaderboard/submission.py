"""``submission.json``: who submits what, made how, and which files belong to it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from llmsched_gym.complaints import refused
from llmsched_gym.config import Config
from llmsched_gym.errors import Plain
from llmsched_gym.leaderboard.limits import MANIFEST_BYTES, RUNS
from llmsched_gym.leaderboard.parsing import read_model
from llmsched_gym.leaderboard.submission_folder import CODE, EPISODES, MANIFEST, read_file
from llmsched_gym.leaderboard.texts import Digest, Link, Person, Prose, Title, like

FORMAT: Final = 1
"""Version of the files of a submission."""

Track = Literal["online", "search", "oracle"]

_SPEC: Final = r"^([a-z][a-z0-9_]*|policy\.py:[A-Za-z_]\w*)(\+[a-z][a-z0-9_]*|\+policy\.py:[A-Za-z_]\w*)?(\?[!-~]*)?$"
_SUITE: Final = r"^[a-z][a-z0-9_]*(-[a-z0-9_]+)*-v[0-9]+$"
_VERSION: Final = r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$"

Spec = Annotated[
    str, Field(max_length=300), *like(_SPEC, "the name of a policy that ships, or policy.py:factory; ?parameters")
]

Version = Annotated[str, *like(_VERSION, "a version as 0.1.0")]

FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]


class Strict(Config):
    """Known fields, of their very types: no text that looks like a number, no number that is true."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def _no(value: bool) -> bool:
    if value:
        raise refused("", value, "false: what was chosen by results on a suite is no entry of it")
    return value


First = Annotated[int, Field(ge=1, le=1)]
"""The first version of a format. A literal would take true for it."""


class PolicyEntry(Strict):
    """The policy, as the evaluation met it.

    Attributes:
        specs: One per training run: the short name of one that ships, or a factory in ``policy.py``, after the name of
            that file; with parameters, as the command line takes them.
        privileged: Whether it reads the truth.
        observation: Observation mode.
        placement: "agent" if its actions choose the executor.
    """

    specs: tuple[Spec, ...] = Field(min_length=1, max_length=RUNS)
    privileged: bool
    observation: Literal["table", "graph"]
    placement: Literal["least_loaded", "agent"]

    @property
    def ships(self) -> bool:
        """Whether it comes with the package."""
        return not any("policy.py:" in spec for spec in self.specs)


class Disclosures(Strict):
    """What readers have to know.

    Attributes:
        training: What was trained, on which jobs.
        tuning: How parameters were chosen, on which jobs.
        tuned_on_suite: Whether anything was chosen by results on the suite's own seeds; then it is no entry.
        simulations_per_decision: Most simulated futures that a decision looks at; 0 outside the search track.
        compute: What it was trained and run on.
        code: Where the code is, "in this package" or "not published".
        license: Of the code and weights.
    """

    training: Prose
    tuning: Prose
    tuned_on_suite: Annotated[bool, AfterValidator(_no)]
    simulations_per_decision: int = Field(ge=0, le=10**9)
    compute: Prose
    code: Link
    license: Title


class Submission(Strict):
    """What ``submission.json`` holds.

    Attributes:
        format: `FORMAT`.
        name: Of the scheduler.
        authors: Who submits it.
        date: Day on which it was made, YYYY-MM-DD.
        suite: Name of the suite.
        suite_digest: `Suite.digest`.
        package_version: Version of llmsched_gym that ran it.
        track: "online" decides by what is revealed; "search" may simulate; "oracle" sees the truth and is not ranked.
        policy: The policy; all episodes are there for each of its training runs.
        disclosures: What readers have to know.
        files: Digest (blake2b, 16 bytes) of every file but this, the write-up, and results of checks.
    """

    format: First
    name: Title
    authors: tuple[Person, ...] = Field(min_length=1, max_length=20)
    date: Annotated[str, *like(r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$", "a day as 2026-12-31")]
    suite: Annotated[str, Field(max_length=100), *like(_SUITE, "the name of a suite with its version, as small-v1")]
    suite_digest: Digest
    package_version: Version
    track: Track
    policy: PolicyEntry
    disclosures: Disclosures
    files: dict[FileName, Digest] = Field(min_length=1, max_length=30)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError:
            raise refused("date", self.date, "a day of the calendar") from None
        if (self.track == "oracle") != self.policy.privileged:
            given = f"{self.track} of a policy that {'reads' if self.policy.privileged else 'does not read'} the truth"
            raise refused("track", Plain(given), "oracle for policies that read the truth, and for no others")
        if (self.track == "search") != (self.disclosures.simulations_per_decision > 0):
            given = f"{self.disclosures.simulations_per_decision} in the track {self.track}"
            allowed = "a number > 0 in the track search, 0 elsewhere"
            raise refused("disclosures.simulations_per_decision", Plain(given), allowed)
        if len(set(self.authors)) < len(self.authors):
            raise refused("authors", Plain("one twice"), "every author once")
        if not self.policy.ships and CODE not in self.files:
            raise refused("policy.specs", self.policy.specs[0], f"a policy that ships, or {CODE} among the files")
        if EPISODES not in self.files:
            raise refused("files", Plain(f"no {EPISODES}"), f"{EPISODES} and its digest")
        if len(set(self.policy.specs)) < len(self.policy.specs):
            raise refused("policy.specs", Plain("one twice"), "every training run once")
        return self

    @property
    def runs(self) -> int:
        """Training runs of the policy."""
        return len(self.policy.specs)


class _CorePolicy(BaseModel):
    model_config = ConfigDict(strict=True)

    specs: tuple[Spec, ...] = Field(min_length=1, max_length=RUNS)
    placement: Literal["least_loaded", "agent"]


class Core(BaseModel):
    """What episodes are checked by: as much of a `Submission` as has to be right to look at them.

    Attributes:
        date: As there.
        suite: As there.
        suite_digest: As there.
        package_version: As there.
        policy: Its runs and placement.
        files: As there.
    """

    model_config = ConfigDict(strict=True)

    date: str
    suite: str
    suite_digest: str
    package_version: Version
    policy: _CorePolicy
    files: dict[FileName, Digest] = Field(max_length=30)


def load_submission(folder: str | Path) -> Submission:
    """Read ``submission.json`` of a folder; nothing else is looked at.

    Raises:
        InputError: It cannot be read, or a field is wrong: the first, if several are.
    """
    path = Path(folder) / MANIFEST
    return read_model(path, read_file(path, MANIFEST_BYTES), Submission)
