"""What is not shown: one line of words each, and nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verified_entries import verify

from llmsched_gym.errors import InputError
from llmsched_gym.leaderboard import read_episodes
from llmsched_gym.leaderboard.episodes import Episode, write_episodes
from llmsched_gym.leaderboard.page import build
from llmsched_gym.suites.suite import Suite, load_suite

CLAIMED, REPLAYED = "2026-01-04_two_runs", "2026-01-02_first"


def refused(submissions: Path, suite: Suite, output: Path) -> str:
    """The words with which a page is refused."""
    with pytest.raises(InputError) as error:
        build(submissions, output, [suite])
    assert not output.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def change(folder: Path, changed: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the episodes of a submission."""
    said = [episode.model_dump(mode="json") for episode in read_episodes(folder)]
    changed(said)
    episodes = [Episode.model_validate_json(json.dumps(one)) for one in said]
    (folder / "episodes.jsonl.xz").write_bytes(write_episodes(episodes))


def shown(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The episode that is drawn."""
    return next(one for one in episodes if (one["scenario"], one["run"], one["seed"]) == ("models", 0, 7))


CHANGES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "none of plans, run 1, seed 9": lambda said: said.remove(
        next(one for one in said if (one["scenario"], one["run"], one["seed"]) == ("plans", 1, 9))
    ),
    "crowd, run 0, seed 7 again": lambda said: said.append(said[0]),
    "crowd, run 0, seed 99": lambda said: said[0].update(seed=99),
    "crowd, run 2, seed 7": lambda said: said[0].update(run=2),
    "nowhere, run 0, seed 7": lambda said: said[0].update(scenario="nowhere"),
    "mean_jct_s: got 0.0; expected a number > 0": lambda said: said[0]["metrics"].update(mean_jct_s=0.0),
    "mean_jct_s: got None; expected a number > 0": lambda said: said[0]["metrics"].pop("mean_jct_s"),
    "models, run 0, seed 7: digest: got": lambda said: shown(said).update(digest="0" * 32),
    "expected unfinished jobs": lambda said: shown(said).update(actions="b0102"),
}


@pytest.mark.parametrize("words", CHANGES)
def test_episodes_that_are_not_whole(words: str, changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    change(changeable / board_suite.name / CLAIMED, CHANGES[words])
    assert words in refused(changeable, board_suite, tmp_path / "site")


def test_files_that_changed_after_they_were_checked(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    change(changeable / board_suite.name / REPLAYED, lambda said: said.reverse())
    assert "validation.json: files.episodes.jsonl.xz: got" in refused(changeable, board_suite, tmp_path / "site")


def test_write_ups_that_changed_after_they_were_checked(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    (changeable / board_suite.name / REPLAYED / "README.md").write_text("# Something else\n")
    assert "validation.json: files.README.md: got" in refused(changeable, board_suite, tmp_path / "site")


def test_files_that_changed_after_they_were_run(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    folder = changeable / board_suite.name / REPLAYED
    verify(folder, board_suite)
    (folder / "requirements.lock").write_text("numpy==1.0\n")
    (folder / "validation.json").unlink()
    assert "verified.json: files.requirements.lock: got" in refused(changeable, board_suite, tmp_path / "site")


def test_sealed_results_that_are_not_whole(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    folder = changeable / board_suite.name / REPLAYED
    episodes = [one.model_dump(mode="json") for one in verify(folder, board_suite).episodes]
    verify(folder, board_suite, suite_digest="0" * 32)
    assert "verified.json: suite_digest: got" in refused(changeable, board_suite, tmp_path / "site")
    verify(folder, board_suite, episodes=[one | {"run": 1 if one["instance"] else 0} for one in episodes])
    assert "expected instances with one episode per run" in refused(changeable, board_suite, tmp_path / "site")
    verify(folder, board_suite, episodes=[one | {"metrics": {}} for one in episodes])
    assert "mean_jct_s: got None; expected a number > 0" in refused(changeable, board_suite, tmp_path / "site")


def test_faults(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    path = changeable / board_suite.name / REPLAYED / "validation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"badge": None, "faults": ["one"]}))
    assert "validation.json: faults: got 1; expected none" in refused(changeable, board_suite, tmp_path / "site")


def test_other_suites(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    path = changeable / board_suite.name / CLAIMED / "submission.json"
    path.write_text(path.read_text().replace(board_suite.digest, "0" * 32))
    assert "suite_digest" in refused(changeable, board_suite, tmp_path / "site")
    (changeable / board_suite.name).rename(changeable / "unknown-v1")
    assert "folder: got 'unknown-v1'; expected a suite: one of" in refused(changeable, board_suite, tmp_path / "site")


def test_references_that_are_not_frozen(changeable: Path, board_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "board"
    place.mkdir()
    for name in ("suite.yaml", "workloads.csv"):
        (place / name).write_bytes((board_folder / "board" / name).read_bytes())
    assert "expected frozen references" in refused(changeable, load_suite(place), tmp_path / "site")


@pytest.mark.parametrize("name", ["2026 <b>", "UPPER", "a" * 101])
def test_folders_that_make_no_address(name: str, changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    (changeable / board_suite.name / CLAIMED).rename(changeable / board_suite.name / name)
    assert "folder: got" in refused(changeable, board_suite, tmp_path / "site")


def test_links_to_elsewhere_are_passed_over(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    (changeable / board_suite.name / "2026-01-09_link").symlink_to(changeable / board_suite.name / CLAIMED)
    (board,) = build(changeable, tmp_path / "site", [board_suite])
    assert len(board.rows) == 4


def test_no_submissions(board_suite: Suite, tmp_path: Path) -> None:
    assert "expected a folder of one folder per suite" in refused(tmp_path / "nowhere", board_suite, tmp_path / "site")


def test_a_folder_of_something_else_is_left_alone(handed_in: Path, board_suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(InputError, match="expected an empty folder, or an older page"):
        build(handed_in, tmp_path, [board_suite])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=re.escape("not a directory")):
        build(handed_in, tmp_path / "thesis.tex", [board_suite])


def test_no_page_among_the_submissions(changeable: Path, board_suite: Suite) -> None:
    for output in (changeable, changeable / "site"):
        with pytest.raises(InputError, match="a folder outside"):
            build(changeable, output, [board_suite])
