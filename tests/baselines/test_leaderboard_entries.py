"""The entries of this package: something is said of every policy, and what is made is valid."""

from __future__ import annotations

from pathlib import Path

import leaderboard_entries
import pytest

from llmsched_gym.leaderboard import load_submission, validate
from llmsched_gym.policies.registry import policy_names
from llmsched_gym.suites import load_suite

TINY = Path(__file__).resolve().parents[1] / "leaderboard" / "tiny"


def test_something_is_said_of_every_policy() -> None:
    assert leaderboard_entries.ABOUT.keys() == set(policy_names())


def test_an_entry_is_valid_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(TINY), "--policies", "fcfs,oracle_srtf", "--workers", "1", "-o", "submissions"]
    assert leaderboard_entries.main(words) == 0
    entries = sorted(Path("submissions/tiny-v1").iterdir())
    assert [load_submission(one).track for one in entries] == ["online", "oracle"]
    for one in entries:
        assert validate(one, load_suite(TINY)).faults == ()
    assert leaderboard_entries.main(words) == 0
    assert "fcfs: is there already" in capsys.readouterr().err
    assert leaderboard_entries.main([str(TINY), "--policies", "fcsf"]) == 2
    assert "did you mean 'fcfs'" in capsys.readouterr().err
