"""YAML that means something else than it seems to is refused, by the name of its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.cluster.spec import load_cluster
from llmsched_gym.config import read_mapping, read_yaml
from llmsched_gym.errors import InputError, suggest
from llmsched_gym.scenario import load_scenario

SCENARIO: dict[str, Any] = {
    "name": "tiny",
    "applications": {"web_search": 1},
    "jobs": 3,
    "load": 0.5,
    "cluster": {"executors": [{"kind": "llm", "latency": "llama-2-7b-h100"}, {"kind": "regular"}]},
}


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("jobs: 1\nload: 2\njobs: 3\n", 3, "jobs"),
        ("cluster:\n  executors:\n    - {kind: llm, count: 1, count: 2}\n", 3, "count"),
    ],
)
def test_a_key_twice_is_named_with_its_line(text: str, line: int, key: str, tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"twice\.yaml: line {line}: got '{key}'; expected every key once"):
        read_yaml(file, "a file")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        ("1.5E-1", 0.15),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("2023-01-01", "2023-01-01"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_values_mean_what_yaml_1_2_says(text: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "value.yaml"
    file.write_text(f"a: {text}\n")
    found = read_yaml(file, "a file")["a"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1, 2\nb: 3", r"odd\.yaml: line 2: got no YAML \(.*\); expected a file"),
        ("a: 1\n---\nb: 2\n", r"line 2: got no YAML \(but found another document\)"),
        ("- " * 3000, r"odd\.yaml: got values nested too deeply; expected a file"),
        ("a: " + "9" * 5000, r"odd\.yaml: got a number of too many digits; expected a file"),
        ("", r"odd\.yaml: got nothing; expected a file"),
        ("- 1\n", r"odd\.yaml: got \[1\]; expected a file"),
        ("1: 2\n", r"odd\.yaml: key: got 1; expected text"),
        ("a: &a [*a]\nb: *c\n", r"line 2: got no YAML \(found undefined alias 'c'\)"),
    ],
)
def test_what_is_no_mapping_is_told(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=told):
        read_mapping(file, "a file")


def test_merged_keys_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    file.write_text("base: &base {count: 1, kind: llm}\nmore:\n  <<: *base\n  count: 2\n")
    assert read_yaml(file, "a file")["more"] == {"count": 2, "kind": "llm"}


def test_the_file_makes_plain_values_only(tmp_path: Path) -> None:
    file = tmp_path / "object.yaml"
    file.write_text("!!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match=r"object\.yaml"):
        read_yaml(file, "a file")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"jobs": "3"}, "jobs: got '3'; expected a whole number"),
        ({"load": "0.5"}, "load: got '0.5'; expected a number"),
        ({"jobs": True}, "jobs: got True; expected a whole number"),
        ({"load": True}, "load: got True"),
        ({"applications": {"web_search": True}}, r"applications\.web_search: got True"),
        ({"arrivals": {"kind": "gamma", "cv": True}}, r"scenario: arrivals\.cv: got True"),
        ({"arrivals": {"kind": "gamma", "cv": -1}}, r"scenario: arrivals\.cv: got -1"),
    ],
)
def test_truth_and_text_are_no_numbers(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        load_scenario({**SCENARIO, **change})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"count": 0}, r"cluster: executors\.1\.count: got 0"),
        ({"count": True}, r"cluster: executors\.1\.count: got True"),
        ({"cuont": 2}, r"cluster: executors\.1\.cuont: got 2"),
        ({"kind": "llm"}, r"cluster: executors\.1\.latency: got nothing"),
    ],
)
def test_the_path_of_a_field_is_that_of_the_file(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        load_cluster({"executors": [{"kind": "llm", "latency": "llama-2-7b-h100"}, {"kind": "regular", **change}]})


def test_the_beginning_of_a_name_goes_before_a_likeness() -> None:
    assert suggest("--sce", ["--scenario", "--seeds", "--json"]).endswith("did you mean '--scenario'?")
    assert suggest("sed", ["scenario", "seeds"]).endswith("did you mean 'seeds'?")
    assert "did you mean" not in suggest("", ["a", "b"])
