"""Suites: what ships is sound, what is broken is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.contestants import find_contestants
from llmsched_gym.registration import PLACED
from llmsched_gym.suites import SUITES, load_suite
from llmsched_gym.suites.suite import REFERENCE, WORKLOADS
from llmsched_gym.suites.verifying import drawn_digest, first_difference


@pytest.mark.parametrize("name", SUITES)
def test_shipped_suites_are_sound(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == suite.folder.name == name
    assert (suite.split, len(suite.seeds)) == ("eval", 30)
    assert find_contestants([*{scenario.reference for scenario in suite.scenarios}])
    for scenario in suite.scenarios:
        assert scenario.digests.keys() == set(suite.seeds)
        for seed in (suite.seeds[0], suite.seeds[-1]):
            assert drawn_digest(scenario, seed) == scenario.digests[seed]
        serves_several = scenario.setting.scenario.cluster.serves_several
        assert scenario.reference.partition("?")[0] == ("round_robin" if serves_several else "oracle_srtf")


def test_no_two_suites_share_a_seed() -> None:
    seeds = [seed for name in SUITES for seed in load_suite(name).seeds]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1000, "seeds below are those that everything else looks at"


def test_the_standard_suite_is_of_operating_points_and_the_other_of_several_models() -> None:
    drawn = [scenario.scenario for scenario in load_suite("standard-v1").scenarios]
    assert {*drawn} == {"mixed_heavy", "mixed_burst", "mixed_bursty", "agents", "agents_bursty"}
    assert len(drawn) >= 6
    assert {one.scenario for one in load_suite("hetero-v1").scenarios} == PLACED


def test_small_instances_are_small() -> None:
    assert all(20 <= scenario.setting.n_jobs <= 60 for scenario in load_suite("small-v1").scenarios)


def test_a_folder_is_read_and_its_scenarios_found(folder: Path) -> None:
    suite = load_suite(folder)
    assert [scenario.name for scenario in suite.scenarios] == ["crowd", "plans"]
    crowd = suite.scenario("crowd")
    assert (crowd.seeds, crowd.setting.split, crowd.setting.n_jobs) == ((7, 8, 9), "train", 6)
    assert crowd.setting.load is None
    assert suite.scenario("plans").setting.load == 1.5
    assert not suite.frozen
    assert first_difference(suite) is None
    with pytest.raises(InputError, match=r"suite tiny-v1: scenario: got 'plan'; expected .* did you mean 'plans'"):
        suite.scenario("plan")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: tiny-v1", "name: tiny", "name: got 'tiny'; expected"),
        ("about:", "colour: red\nabout:", "colour: got 'red'; expected no such field"),
        ("scenario: mixed_burst,", "scenario: mixed_bust,", "scenario: got 'mixed_bust'; expected .*'mixed_burst'"),
        ("metric: makespan_s", "metric: makespan", "metric: got 'makespan'; expected"),
        ("name: plans,", "name: crowd,", "scenarios: got 'crowd'; expected every name once"),
        ("count: 3", "count: 0", "seeds.count: got 0; expected"),
        ("jobs: 6", "jobs: six", "jobs: got 'six'; expected"),
        ("split: train", "split: profile", "split: got 'profile'; expected"),
        ("format: 1", "format: 2", "format: got 2; expected"),
    ],
)
def test_faults_of_a_manifest_are_named(folder: Path, old: str, new: str, words: str) -> None:
    path = folder / "suite.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"suite\.yaml: .*{words}"):
        load_suite(folder)


def test_unknown_suites_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'light-v1'"):
        load_suite("light-v2")
    with pytest.raises(InputError, match=r"suite\.yaml"):
        load_suite(tmp_path)


def _edit(path: Path, change: dict[str, str]) -> None:
    """Change columns of the first row of a CSV file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= change
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "6"}, "scenario crowd, seed 7: got no row; expected a row per scenario and seed"),
        ({"seed": "-1"}, "seed: got '-1'; expected a whole number"),
        ({"seed": "seven"}, "seed: got 'seven'; expected a whole number"),
    ],
)
def test_faults_of_digests_are_named(folder: Path, change: dict[str, str], words: str) -> None:
    _edit(folder / WORKLOADS, change)
    with pytest.raises(InputError, match=rf"workloads\.csv: {words}"):
        load_suite(folder)


def test_jobs_that_are_drawn_otherwise_are_found(folder: Path) -> None:
    _edit(folder / WORKLOADS, {"workload_digest": "0" * 32})
    found = first_difference(load_suite(folder))
    assert found is not None
    assert (found.scenario, found.seed, found.expected) == ("crowd", 7, "0" * 32)


def _freeze(folder: Path, **change: str) -> None:
    crowd = load_suite(folder).scenario("crowd")
    row = {
        "scenario": "crowd",
        "seed": "7",
        "workload_digest": crowd.digests[7],
        "policy": "oracle_srtf",
        "metric": "mean_jct_s",
        "value": "2.5",
        "episode_digest": "x",
    } | change
    (folder / REFERENCE).write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")


def test_frozen_values_count_only_when_all_are_there(folder: Path) -> None:
    _freeze(folder)
    crowd = load_suite(folder).scenario("crowd")
    assert crowd.reference_values == {7: 2.5}
    assert not crowd.frozen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"workload_digest": "other"}, "scenario crowd, seed 7: workload_digest: got 'other'"),
        ({"policy": "fcfs"}, "scenario crowd, seed 7: policy: got 'fcfs'; expected oracle_srtf; freeze"),
        ({"metric": "makespan_s"}, "scenario crowd, seed 7: metric: got 'makespan_s'"),
        ({"value": "0"}, "scenario crowd, seed 7: value: got '0'; expected a number > 0"),
        ({"value": "nan"}, "scenario crowd, seed 7: value: got 'nan'"),
        ({"scenario": "other"}, "got 'scenario other, seed 7'"),
    ],
)
def test_what_was_frozen_for_something_else_is_refused(folder: Path, change: dict[str, str], words: str) -> None:
    _freeze(folder, **change)
    with pytest.raises(InputError, match=rf"reference\.csv: .*{words}"):
        load_suite(folder)


def test_files_of_other_columns_are_refused(folder: Path) -> None:
    (folder / WORKLOADS).write_text("scenario,seed\ncrowd,7\n")
    with pytest.raises(
        InputError, match=r"workloads\.csv: columns: got 'scenario, seed'; expected scenario, seed, work"
    ):
        load_suite(folder)
    (folder / WORKLOADS).write_text("scenario,seed,workload_digest\ncrowd,7\n")
    with pytest.raises(InputError, match=r"workloads\.csv: line 2: got 2 fields"):
        load_suite(folder)
