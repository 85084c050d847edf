"""What `leaderboard validate` tells of a submission as a whole."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from submissions import ZEROS, archive, change_episodes, faults_of, nest, played, put, said

from llmsched_gym.cli import main
from llmsched_gym.leaderboard import episodes as episodes_module
from llmsched_gym.suites.suite import Suite


def test_a_bomb_is_not_unpacked(mine: Path, suite: Suite) -> None:
    """64 MiB of zeros lie in 10 KB; never more than a line and a piece are held."""
    archive(ZEROS)(mine)
    tracemalloc.start()
    faults_of(mine, suite)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_all_lines_together_have_a_limit(mine: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes_module, "UNPACKED_BYTES", 1000)
    told = faults_of(mine, suite)
    assert told[0] == "episodes.jsonl.xz: got more than 1000 bytes, unpacked; expected fewer"


def test_all_faults_are_told_at_once(mine: Path, suite: Suite) -> None:
    played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=1.5))(mine)
    played(lambda all_: all_[3].update(digest="0" * 32))(mine)
    said(lambda one: one.update(name="<b>"))(mine)
    (mine / "README.md").unlink()
    (mine / "model.pt").touch()
    starts = [fault.partition(": got")[0] for fault in faults_of(mine, suite)]
    assert starts == [
        "model.pt",
        "README.md",
        "submission.json: name",
        "episodes.jsonl.xz: crowd, run 0, seed 7: metrics.mean_jct_s",
        "episodes.jsonl.xz: plans, run 0, seed 8: diverged after decision 0 of plans, seed 8: digest",
    ]


def test_many_faults_are_counted(mine: Path, suite: Suite) -> None:
    change_episodes(mine, lambda all_: all_[0]["metrics"].update({f"glory_{i}": 1.0 for i in range(70)}))
    assert len(faults_of(mine, suite)) == 70
    put("requirements.lock", b"x\n" * 3)(mine)
    change_episodes(mine, lambda all_: all_[1]["metrics"].update({f"glory_{i}": 1.0 for i in range(70)}))
    change_episodes(mine, lambda all_: all_[2]["metrics"].update({f"glory_{i}": 1.0 for i in range(70)}))
    told = faults_of(mine, suite)
    assert len(told) == 201
    assert told[-1] == "and 11 faults more"


def test_among_others_the_folder_says_suite_and_day(mine: Path, suite: Suite, tmp_path: Path) -> None:
    day = json.loads((mine / "submission.json").read_text())["date"]
    right = tmp_path / "submissions" / "tiny-v1" / f"{day}_my_scheduler"
    right.parent.mkdir(parents=True)
    mine.rename(right)
    assert faults_of(right, suite) == []
    for name in ("2020-01-01_my_scheduler", f"{day}", f"{day}_My", f"{day}_m\u00fc"):
        wrong = right.rename(right.with_name(name))
        (fault,) = faults_of(wrong, suite)
        assert fault.startswith("folder: name: got ")
        wrong.rename(right)
    other = tmp_path / "submissions" / "small-v1"
    other.mkdir()
    (fault,) = faults_of(right.rename(other / right.name), suite)
    assert fault == "submission.json: suite: got 'tiny-v1'; expected small-v1, as the folder says"


def test_the_verb_tells_every_fault_and_writes_them_down(
    mine: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=1.5))(mine)
    (mine / "extra.py").touch()
    words = ["leaderboard", "validate", str(mine), "--suite", str(place / "tiny")]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith(f"{mine}: ")]
    assert [line.removeprefix(f"{mine}: ") for line in told] == json.loads((mine / "validation.json").read_text())[
        "faults"
    ]
    assert len(told) == 2
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["submissions"][str(mine)]["badge"] is None


@pytest.mark.parametrize("kind", ["nothing", "file", "link"])
def test_what_is_no_folder_is_refused(kind: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = mine.with_name("other")
    if kind == "file":
        other.touch()
    elif kind == "link":
        other.symlink_to(mine)
    assert main(["leaderboard", "validate", str(other)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"error: {other}: got ")


def test_code_of_a_submission_is_never_run(mine: Path, suite: Suite) -> None:
    """Nor is it compiled: it may stop halfway."""
    mark = mine.parent / "ran"
    put("policy.py", f"open({str(mark)!r}, 'w')\nclass Mine(".encode())(mine)
    assert faults_of(mine, suite) == []
    assert not mark.exists()
