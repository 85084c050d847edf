"""YAML that means something else than it seems to is refused, by the name of its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.cluster.spec import load_cluster
from llmsched_gym.config import read_yaml
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
        ({"jobs": True}, "jobs: got True; expected a whole number"),
        ({"load": True}, "load: got True"),
        ({"applications": {"web_search": True}}, r"applications\.web_search: got True"),
        ({"arrivals": {"kind": "gamma", "cv": True}}, r"scenario: arrivals\.cv: got True"),
        ({"arrivals": {"kind": "gamma", "cv": -1}}, r"scenario: arrivals\.cv: got -1"),
    ],
)
def test_true_is_no_number(change: dict[str, Any], field: str) -> None:
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
