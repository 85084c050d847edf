"""``validation.json``: what came of checking a submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from llmsched_gym.leaderboard.limits import FAULTS, RESULT_BYTES
from llmsched_gym.leaderboard.parsing import read_model
from llmsched_gym.leaderboard.submission import FileName, First, Strict
from llmsched_gym.leaderboard.submission_folder import VALIDATION, read_file
from llmsched_gym.leaderboard.texts import Digest

FORMAT: Final = 1


class Validation(Strict):
    """What came of it; the same submission gives the same bytes.

    Attributes:
        format: `FORMAT`.
        package_version: Version of llmsched_gym that checked it.
        suite: Name of the suite; None if it could not be told.
        suite_digest: Its digest.
        badge: "replayed" if there is no fault: every action was carried out again, and gave what is claimed. Else None.
        faults: One line each; of more than 200 the last one tells how many more there are.
        episodes: How many were carried out again and gave what is claimed.
        decisions: Of these.
        files: Digest of every file that was read, but for results of checks.
    """

    format: First
    package_version: str
    suite: str | None
    suite_digest: Digest | None
    badge: Literal["replayed"] | None
    faults: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(max_length=FAULTS + 1)
    episodes: int = Field(ge=0)
    decisions: int = Field(ge=0)
    files: dict[FileName | Literal["README.md"], Digest]

    @property
    def valid(self) -> bool:
        """Whether there is no fault."""
        return not self.faults


def load_validation(folder: str | Path) -> Validation:
    """Read ``validation.json`` of a submission.

    It tells what was found when it was written: `Validation.files` says of which files. Somebody who hands in a
    submission can write it, too, so what counts is the one that was made by whoever reads it.

    Raises:
        InputError: There is none, or a field is wrong.
    """
    path = Path(folder) / VALIDATION
    return read_model(path, read_file(path, RESULT_BYTES), Validation)
