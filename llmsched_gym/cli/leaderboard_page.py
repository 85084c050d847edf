"""The verb ``leaderboard build``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmsched_gym.cli.console import EpisodeProgress, print_json, say
from llmsched_gym.cli.options import WRITTEN, File, Json, Text


@dataclass(frozen=True)
class Build:
    """Make the page of the leaderboard, and results.json, from submissions that were checked.

    What leaderboard validate found of each submission is read from its validation.json; one without is shown as
    claimed. The page asks for nothing from elsewhere: it can be opened as a file, or put on any server.

    Attributes:
        submissions: Folder with one folder per suite, in it one per submission.
        output: Folder of the page.
        suite: Folders of suites that do not come with the package, separated by commas.
        commitment: File of the commitment to the key of sealed instances, as leaderboard key publish writes it.
        as_json: Print one JSON object.
    """

    submissions: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("leaderboard/submissions")
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH"), WRITTEN] = Path("leaderboard/site")
    suite: Text = None
    commitment: File = None
    as_json: Json = False

    def run(self) -> int:
        """Read, score, and write."""
        from llmsched_gym.cli.flags import parse_names
        from llmsched_gym.leaderboard.page import build, read_commitment
        from llmsched_gym.suites.suite import load_suite

        given = () if self.suite is None else parse_names("--suite", self.suite)
        suites = [load_suite(Path(folder)) for folder in given]
        commitment = None if self.commitment is None else read_commitment(self.commitment)
        with EpisodeProgress("submissions") as progress:
            boards = build(self.submissions, self.output, suites, commitment, progress)
        counts = {board.suite.name: len(board.rows) for board in boards}
        if self.as_json:
            print_json({"page": str(self.output / "index.html"), "entries": counts})
            return 0
        for name, count in counts.items():
            say(f"{name}: {count} entries")
        say(f"page: {self.output / 'index.html'}")
        return 0
