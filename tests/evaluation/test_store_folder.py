"""The results folder: what belongs together, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.store import RunFolder, check_loads, first_difference, load_folder

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


def at_load(load: float, jobs: int = 5) -> dict[str, Any]:
    """Return the setting at another load."""
    return {**SETTING, "scenario": {"jobs": jobs, "load": load}}


def test_loads_may_be_added_to_several(tmp_path: Path):
    check_loads(tmp_path / "new", [SETTING])
    for load in (0.4, 0.8):
        RunFolder(load_folder(tmp_path, load), {**at_load(load), "served_by": "servers"}).claim()
    check_loads(tmp_path, [at_load(0.8), at_load(1.2)])


def test_one_load_and_several_do_not_mix(tmp_path: Path):
    RunFolder(tmp_path / "one", SETTING).claim()
    RunFolder(load_folder(tmp_path / "several", 0.4), at_load(0.4)).claim()
    with pytest.raises(InputError, match="one: loads: got 'one'; expected 'several' as asked"):
        check_loads(tmp_path / "one", [at_load(0.9), at_load(1.2)])
    with pytest.raises(InputError, match="several: loads: got 'several'; expected 'one' as asked"):
        check_loads(tmp_path / "several", [at_load(0.4)])
    for loads in ((0.4,), (0.4, 0.5), (0.5, 0.6)):
        with pytest.raises(InputError, match=r"load-0\.4/setting\.json: scenario\.jobs: got 5; expected 6 as asked"):
            check_loads(tmp_path / "several", [at_load(load, jobs=6) for load in loads])
    (tmp_path / "one" / "setting.json").write_text('{"scenario": 3}')
    with pytest.raises(InputError, match=r"setting\.json: format: got None; expected 1"):
        check_loads(tmp_path / "one", [SETTING])


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
