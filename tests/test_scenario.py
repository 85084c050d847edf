"""Scenarios: by name, from files and mappings; what they draw; what they refuse and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.scenario import SCENARIOS, Scenario, files_named_in, load_scenario
from llmsched_gym.workloads.generator import MIXES

CLUSTER: dict[str, Any] = {
    "name": "small",
    "executors": [{"kind": "llm", "latency": "llama-2-7b-h100"}, {"kind": "regular", "count": 2}],
}
MINE: dict[str, Any] = {"name": "mine", "applications": {"web_search": 1}, "rate": 2.0, "jobs": 7, "cluster": CLUSTER}


@pytest.mark.parametrize("name", SCENARIOS)
def test_shipped_scenarios_run(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    workload = scenario.build("eval", 0) if scenario.fixed else scenario.replaced(jobs=10).build("eval", 0)
    scenario.cluster.check_serves(workload)
    if name in MIXES:
        assert scenario.applications == MIXES[name]


def test_files_refer_to_cluster_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "{name: small, executors: [{kind: llm, latency: llama-2-7b-h100}, {kind: regular, count: 2}]}"
    )
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, applications: {web_search: 1}, rate: 2.0, jobs: 7, cluster: cluster.yaml}")
    assert load_scenario(path) == load_scenario(str(path)) == load_scenario(MINE)


def place(folder: Path, latency: str = "p.json", cluster: str = "cluster.yaml", times: str = "times.csv") -> Path:
    """Write a scenario file that names a cluster file, which names a latency profile, and a trace of arrivals."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = {"schema": 1, "name": "p", "iteration_ms": 5, "decode_ms": 0, "prefill_ms": 0.1, "context_ms": 0}
    (folder / "p.json").write_text(json.dumps(profile))
    (folder / "times.csv").write_text("t_s,in_tokens,out_tokens\n0,1,1\n1,1,1\n")
    (folder / "cluster.yaml").write_text(f"executors: [{{kind: llm, latency: {latency}}}, {{kind: regular}}]\n")
    arrivals = f"arrivals: {{kind: trace, path: {times}, format: csv}}"
    path = folder / "mine.yaml"
    jobs = "applications: {web_search: 1}\njobs: 2\nrate: 1"
    path.write_text(f"name: mine\n{jobs}\ncluster: {cluster}\n{arrivals}\n")
    return path


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    path = place(there)
    place(here)  # files of the same names in the working directory are not meant
    monkeypatch.chdir(here)
    for given in (path, Path("..") / "there" / "mine.yaml"):
        scenario = load_scenario(given)
        arrivals: Any = scenario.arrivals
        assert Path(arrivals.path).samefile(there / "times.csv")
        assert [file.samefile(there / "p.json") for file in scenario.cluster.profile_files] == [True]
        named = files_named_in(given)
        assert {file.resolve() for file in named} == {there / name for name in ("p.json", "times.csv", "cluster.yaml")}
    inside = there / "inside.yaml"
    inside.write_text(path.read_text().replace("cluster.yaml", "{executors: [{kind: llm, latency: p.json}]}"))
    assert load_scenario(inside).cluster.profile_files[0].samefile(there / "p.json")


@pytest.mark.parametrize(
    ("names", "field", "source"),
    [
        ({"latency": "lat/p.json"}, "executors.0.latency", "cluster.yaml"),
        ({"cluster": "lat/cluster.yaml"}, "cluster", "mine.yaml"),
        ({"times": "lat/times.csv"}, "arrivals.path", "mine.yaml"),
    ],
)
def test_a_file_of_the_working_directory_is_not_meant(
    names: dict[str, str], field: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(tmp_path / "there", **names)
    monkeypatch.chdir(tmp_path)
    refusal = rf"{source}: {field}: got 'lat/.*'; expected a file that exists, relative to the folder of \S*{source}"
    with pytest.raises(InputError, match=rf"{refusal}$"):
        load_scenario(path)
    place(tmp_path / "lat")
    with pytest.raises(InputError, match=rf"{refusal}; the one in the working directory is not meant$"):
        load_scenario(path)


def test_paths_in_a_mapping_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_scenario({**MINE, "cluster": "cluster.yaml"}).cluster.profile_files == [Path("p.json")]
    executors = [{"kind": "llm", "latency": "p.json"}]
    assert load_scenario({**MINE, "cluster": {"executors": executors}}).cluster.profile_files == [Path("p.json")]


def test_names_of_latency_profiles_are_no_paths(tmp_path: Path) -> None:
    path = place(tmp_path, latency="llama-2-7b-h100")
    assert load_scenario(path).cluster.profile_files == []
    with pytest.raises(
        InputError, match=r"executors\.0\.latency: got 'p'; expected the path of a JSON file, or one of"
    ):
        load_scenario(place(tmp_path, latency="p"))


def test_a_scenario_draws_its_jobs() -> None:
    scenario = load_scenario(MINE)
    workload = scenario.build("train", 3)
    assert workload.n_jobs == 7
    assert [template.name for template in workload.templates] == ["web_search"]
    assert workload.digest == scenario.build("train", 3).digest
    assert workload.digest != scenario.build("train", 4).digest
    assert workload.digest != scenario.build("eval", 3).digest


def test_the_rate_sets_the_pace_and_nothing_else() -> None:
    slow, fast = (load_scenario(MINE).replaced(jobs=200, rate=rate).build("train", 0) for rate in (1.0, 4.0))
    assert np.array_equal(slow.tasks, fast.tasks)
    assert slow.jobs["arrival_ns"][-1] == pytest.approx(4 * fast.jobs["arrival_ns"][-1], rel=1e-6)
    assert slow.jobs["arrival_ns"][-1] * 1e-9 == pytest.approx(200, rel=0.25)


def test_a_load_is_relative_to_the_cluster_that_is_given() -> None:
    scenario = load_scenario("mixed")
    twice = {**scenario.cluster.model_dump()}
    twice["executors"] = [{**group, "count": 2 * group["count"]} for group in twice["executors"]]
    larger = scenario.cluster.model_validate(twice)
    assert scenario.arrival_rate(larger) == pytest.approx(2 * scenario.arrival_rate())


def test_replacing_keeps_the_rest() -> None:
    scenario = load_scenario("mixed")
    assert scenario.replaced() is scenario
    changed = scenario.replaced(jobs=5, rate=0.5)
    assert (changed.jobs, changed.rate, changed.load) == (5, 0.5, None)
    assert changed.cluster == scenario.cluster
    assert scenario.replaced(load=0.5).load == 0.5
    assert scenario.load == load_scenario("mixed").load


@pytest.mark.parametrize("name", ["toy", "two_jobs"])
def test_fixed_workloads_are_the_same_for_every_seed(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.build("train", 0).digest == scenario.build("eval", 9).digest
    with pytest.raises(InputError, match="its workload is fixed"):
        scenario.replaced(load=0.5)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"applications": {}}, "either applications or fixed"),
        ({"applications": {"web_serch": 1}}, "did you mean 'web_search'"),
        ({"applications": {"web_search": 0}}, "applications.web_search: got 0"),
        ({"applications": {"web_search": float("inf")}}, "applications.web_search"),
        ({"fixed": "toy"}, "either applications or fixed"),
        ({"applications": {}, "fixed": "toyy"}, "did you mean 'toy'"),
        ({"load": 0.5}, "either load or rate"),
        ({"rate": None}, "either load or rate"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"jobs": 0}, "jobs"),
        ({"jobs": 2.5}, "jobs"),
        ({"jbs": 3}, "jbs"),
        ({"arrivals": {"kind": "possion"}}, "arrivals"),
        ({"cluster": {"executors": []}}, "cluster.executors"),
        ({"cluster": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as raised:
        load_scenario({**MINE, **changes})
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", ["name", "cluster"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        load_scenario({key: value for key, value in MINE.items() if key != missing})


def test_unknown_names_and_broken_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'mixed'"):
        load_scenario("mixedd")
    with pytest.raises(InputError, match="no such file"):
        load_scenario("./mixedd.yaml")
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(InputError, match=r"list\.yaml.*a mapping"):
        load_scenario(path)


def test_a_wrong_split_or_seed_is_refused() -> None:
    scenario = load_scenario(MINE)
    with pytest.raises(InputError, match=r"split: got 'trian'; expected .*did you mean 'train'"):
        scenario.build("trian", 0)
    with pytest.raises(InputError, match="seed"):
        scenario.build("train", -1)


def test_scenarios_cannot_be_changed_by_accident() -> None:
    scenario: Any = load_scenario("mixed")
    with pytest.raises(ValueError, match="frozen"):
        scenario.load = 0.1
    assert isinstance(scenario, Scenario)
