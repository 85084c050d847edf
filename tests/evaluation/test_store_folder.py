"""The results folder: what belongs together, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.store import RunFolder, first_difference

SETTING = {"scenario": {"jobs": 5, "load": 0.9}, "versions": {"numpy": "2"}}


def test_results_come_back(tmp_path: Path):
    run = RunFolder(tmp_path / "new", SETTING)
    run.claim()
    file = run.episode_file("fcfs", 3)
    assert file == tmp_path / "new" / "episodes" / "fcfs-3.json"
    assert run.find(file, "source") is None
    run.keep(file, "source", {"mean": 1.5})
    assert RunFolder(tmp_path / "new", SETTING).find(file, "source") == {"mean": 1.5}
    assert run.find(file, "edited source") is None
    assert [path.name for path in file.parent.iterdir()] == ["fcfs-3.json"]


def test_nothing_is_written_before_the_claim(tmp_path: Path):
    RunFolder(tmp_path / "new", SETTING)
    assert list(tmp_path.iterdir()) == []


def test_another_setting_is_refused_by_its_first_difference(tmp_path: Path):
    RunFolder(tmp_path, SETTING).claim()
    with pytest.raises(InputError, match=r"setting\.json: scenario\.jobs: got 5; expected 6 as asked for now"):
        RunFolder(tmp_path, {**SETTING, "scenario": {"jobs": 6, "load": 0.9}})


def test_policies_with_punctuation_get_files_of_their_own(tmp_path: Path):
    run = RunFolder(tmp_path, SETTING)
    specs = ["mine.py:Mine?x=1", "mine.py:Mine?x=2", "mine_py_Mine_x_1", "../../etc/passwd.py:A"]
    files = {run.episode_file(spec, 0) for spec in specs}
    assert len(files) == len(specs)
    assert {file.parent for file in files} == {tmp_path / "episodes"}


@pytest.mark.parametrize("content", ["", "{", "[1]", json.dumps({"format": 99, "result": {}}), '{"format": 1}'])
def test_damaged_results_are_named(tmp_path: Path, content: str):
    run = RunFolder(tmp_path, SETTING)
    file = run.episode_file("fcfs", 0)
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(InputError, match=r"fcfs-0\.json.*delete the file"):
        run.find(file, "")


def test_first_difference():
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) is None
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ("a.1.b", 2, 3)
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == ("a", [1], [1, 2])
    assert first_difference({}, {"a": None, "b": 0}) == ("b", None, 0)
