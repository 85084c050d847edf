"""``verified.json``: what a policy did when it was run again in a sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from llmsched_gym.leaderboard.limits import RESULT_BYTES
from llmsched_gym.leaderboard.parsing import read_model
from llmsched_gym.leaderboard.submission import FileName, First, Strict, Version
from llmsched_gym.leaderboard.submission_folder import VERIFIED, read_file
from llmsched_gym.leaderboard.texts import Digest

FORMAT: Final = 1

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
_Times = Annotated[float, Field(ge=0.0)]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VerifiedEpisode(Strict):
    """One episode that was run again.

    Attributes:
        scenario: Name in the suite.
        run: Training run.
        instance: Which of the scenario's instances; its seed is not told.
        metrics: As an `Episode` has them.
        reference: The scenario's metric under its reference policy, on the same jobs.
        late: Decisions that came after the limit, or never: the oldest legal dispatch was taken instead.
        ended: Why the process ended before the episode did; None if it did not.
        decision_us_mean: Mean time per decision, microseconds, with the way to the process and back.
        decision_us_p50: Median.
        decision_us_p99: 99 % quantile.
    """

    scenario: _Name
    run: int = Field(ge=0)
    instance: int = Field(ge=0)
    metrics: dict[_Name, float | None]
    reference: float
    late: int = Field(ge=0)
    ended: Annotated[str, Field(max_length=1000)] | None
    decision_us_mean: _Times
    decision_us_p50: _Times
    decision_us_p99: _Times


class Verified(Strict):
    """What came of running a policy again.

    Attributes:
        format: `FORMAT`.
        package_version: Version of llmsched_gym.
        suite: Name of the suite.
        suite_digest: Its digest.
        instances: "sealed", or "open" where seeds came from a file; only sealed ones make an entry verified.
        commitment: Of the key; None where instances are open.
        sandbox: What shut the policy in.
        decision_limit_s: Limit of time per decision, seconds.
        memory_bytes: Limit of memory.
        files: Digest of every file of the submission that was run.
        episodes: By scenario, run and instance.
        tag: HMAC of all the rest under the key; None where instances are open.
    """

    format: First
    package_version: Version
    suite: str
    suite_digest: Digest
    instances: Literal["sealed", "open"]
    commitment: _Hash | None
    sandbox: Literal["bubblewrap", "unshare"]
    decision_limit_s: float = Field(gt=0.0)
    memory_bytes: int = Field(ge=1)
    files: dict[FileName, Digest]
    episodes: tuple[VerifiedEpisode, ...]
    tag: _Hash | None

    def signed(self) -> bytes:
        """Return what the tag is of."""
        content = self.model_dump(mode="json", exclude={"tag"})
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def load_verified(folder: str | Path) -> Verified:
    """Read ``verified.json`` of a submission; whether its tag is right only the key tells (`sealing.is_tag`).

    Raises:
        InputError: There is none, or a field is wrong.
    """
    path = Path(folder) / VERIFIED
    return read_model(path, read_file(path, RESULT_BYTES), Verified)
