"""What `leaderboard prepare` writes, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from submissions import WORDS

from llmsched_gym.cli import main
from llmsched_gym.leaderboard import load_submission, load_validation, read_episodes, validate
from llmsched_gym.leaderboard.schema import schema_text
from llmsched_gym.suites.suite import Suite

ROOT = Path(__file__).resolve().parents[2]


def test_a_submission_is_whole_and_valid(
    prepared: Path, mine: Path, place: Path, suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path.name for path in prepared.iterdir()}
    weights = "my_factor.safetensors"
    assert files == {"submission.json", "episodes.jsonl.xz", "README.md", "policy.py", weights, "requirements.lock"}
    said = load_submission(prepared)
    assert said.policy.specs == (f"policy.py:Mine?weights={weights}",)
    assert not said.policy.ships
    assert said.authors == ("Ann Example", "Łukasz Żak")
    assert (said.track, said.runs, said.suite_digest) == ("online", 1, suite.digest)
    assert set(said.files) == files - {"submission.json", "README.md"}
    episodes = list(read_episodes(prepared))
    assert [one.key for one in episodes] == [(name, 0, seed) for name in ("crowd", "plans") for seed in (7, 8)]
    assert all(one.checkpoints for one in episodes if one.scenario == "crowd")

    found = validate(prepared, suite)
    assert found.valid, found.faults
    assert (found.badge, found.episodes) == ("replayed", 4)
    assert found.decisions == sum(one.decisions for one in episodes)
    words = ["leaderboard", "validate", str(mine), "--suite", str(place / "tiny")]
    assert main(words) == 0
    assert "replayed: 4 episodes" in capsys.readouterr().out
    first = (mine / "validation.json").read_bytes()
    assert load_validation(mine) == found
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["submissions"][str(mine)]["badge"] == "replayed"
    assert (mine / "validation.json").read_bytes() == first


def test_what_is_there_is_not_run_again(
    prepared: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of a submission is taken away, and made again out of the episodes beside it."""
    base = ["leaderboard", "prepare", "--suite", str(place / "tiny"), "--policy", "fcfs", "--workers", "1"]
    words = [*base, "--name", "First", *WORDS, "-o", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(words) == 2
    assert "out: got something that is there" in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "out").rename(tmp_path / "before")
    assert main(words) == 0
    assert "2 of 2 results were there already" in capsys.readouterr().err
    for name in ("episodes.jsonl.xz", "README.md", "submission.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()
    assert load_submission(tmp_path / "out").policy.ships


def test_two_runs_and_places_to_fill_in(place: Path, suite: Suite, tmp_path: Path) -> None:
    words = ["leaderboard", "prepare", "--suite", str(place / "tiny"), "--name", "Chance", "--workers", "1"]
    assert main([*words, "--policy", "fcfs,srtf", "-o", str(tmp_path / "out")]) == 0
    found = validate(tmp_path / "out", suite)
    assert found.episodes == 8
    told = "submission.json: disclosures.training: got a text that is still to be filled in; expected a text of yours"
    assert told in found.faults
    assert len(found.faults) == 10
    assert all("still to be filled in" in fault for fault in found.faults)


def test_an_oracle_is_told_by_its_policy(place: Path, suite: Suite, tmp_path: Path) -> None:
    words = ["leaderboard", "prepare", "--suite", str(place / "tiny"), "--name", "Oracle", "--workers", "1", *WORDS]
    assert main([*words, "--policy", "oracle_srtf", "-o", str(tmp_path / "out")]) == 0
    assert load_submission(tmp_path / "out").track == "oracle"
    assert validate(tmp_path / "out", suite).valid


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--policy", "fcfs", "--name", "<b>x</b>"], "submission: name: got '<b>x</b>'; expected ASCII letters"),
        (["--policy", "fcfs", "--name", "x", "--code", "http://x"], "submission: disclosures.code: got 'http://x'"),
        (["--policy", "fcfs", "--name", "x", "--track", "oracle"], "submission: track: got oracle of a policy that"),
        (["--policy", "fcfs", "--name", "x", "--track", "search"], "disclosures.simulations_per_decision: got 0 in"),
        (["--policy", "nothing", "--name", "x"], "policy: name: got 'nothing'"),
        (
            ["--policy", "fcfs,srtf+mct", "--name", "x"],
            "policy srtf+mct: placement: got 'agent'; expected least_loaded",
        ),
        (["--policy", "llmsched_gym.policies.fcfs:FCFS", "--name", "x"], "got a module; expected a policy that ships"),
    ],
)
def test_what_cannot_stand_is_refused_before_anything_runs(
    words: list[str], told: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["leaderboard", "prepare", "--suite", str(place / "tiny"), *words, "-o", str(tmp_path / "out")]
    assert main(whole) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_schema_is_current() -> None:
    """Otherwise: llmsched-gym leaderboard schema -o leaderboard/schema.json."""
    assert (ROOT / "leaderboard" / "schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_takes_what_is_taken(prepared: Path, tmp_path: Path) -> None:
    assert main(["leaderboard", "schema", "-o", str(tmp_path / "schema.json")]) == 0
    schema = json.loads((tmp_path / "schema.json").read_text())
    said = json.loads((prepared / "submission.json").read_text())
    body = schema["$defs"]["Submission"]
    assert set(body["required"]) == set(said)
    assert body["additionalProperties"] is False
    validator = pytest.importorskip("jsonschema").Draft202012Validator(schema)
    validator.validate(said)
    assert not validator.is_valid(said | {"more": 1})
    assert not validator.is_valid(said | {"format": 2})
