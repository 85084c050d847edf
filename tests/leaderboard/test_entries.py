"""The submissions that lie in this repository: all are fit to be read, and a sample of each is replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.leaderboard import load_submission, read_episodes
from llmsched_gym.leaderboard.checking import check_episode
from llmsched_gym.leaderboard.contents import check_contents
from llmsched_gym.leaderboard.limits import TOTAL_BYTES
from llmsched_gym.leaderboard.submission_folder import UNLISTED, check_folder, file_digest
from llmsched_gym.suites import load_suite

PLACE = Path(__file__).resolve().parents[2] / "leaderboard" / "submissions"
ENTRIES = sorted(PLACE.glob("*/*"))


@pytest.mark.parametrize("folder", ENTRIES, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_an_entry_is_in_order(folder: Path) -> None:
    """`llmsched-gym leaderboard validate` replays all of it, which takes too long here."""
    assert list(check_folder(folder)) == []
    said = load_submission(folder)
    suite = load_suite(said.suite)
    assert said.suite_digest == suite.digest
    assert (folder.parent.name, folder.name.partition("_")[0]) == (said.suite, said.date)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sum(map(len, files.values())) <= TOTAL_BYTES
    assert {name: file_digest(content) for name, content in files.items() if name not in UNLISTED} == said.files
    assert [error for name, content in files.items() for error in check_contents(name, name, content)] == []
    episodes = list(read_episodes(folder))
    expected = [(one.name, run, seed) for one in suite.scenarios for run in range(said.runs) for seed in one.seeds]
    assert [one.key for one in episodes] == expected
    for one in episodes[:: len(suite.seeds) * said.runs]:
        assert list(check_episode(one, suite.scenario(one.scenario), said.policy.placement)) == []
