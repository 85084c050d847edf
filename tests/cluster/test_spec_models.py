"""Clusters whose executors serve several models, and links: what they refuse and in which words, and what they say."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from random_workloads import MODELS, random_draft, random_model_cluster, with_models

from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.spec import ClusterSpec, load_cluster
from llmsched_gym.envs.serving import Serving
from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.scenario import Scenario, load_scenario

LATENCY = "llama-2-7b-h100"
LLM: dict[str, Any] = {
    "kind": "llm",
    "location": "x",
    "memory_gb": 6,
    "serves": {"a": {"latency": LATENCY, "kv_tokens": 1000}, "b": {"latency": LATENCY, "kv_tokens": 1000}},
    "resident": ["a"],
    "load": {"gb_per_s": 1.0},
}
GOOD: dict[str, Any] = {
    "name": "test",
    "models": {
        "a": {"weights_gb": 2, "kv_kib_per_token": 100},
        "b": {"weights_gb": 3, "kv_kib_per_token": 100},
        "default": {"weights_gb": 1, "kv_kib_per_token": 1},
    },
    "executors": [LLM, {"kind": "regular", "location": "y"}],
    "links": [{"between": ["x", "y"], "gb_per_s": 1.0}],
}

Change = Callable[[dict[str, Any]], Any]


def put(*place: Any, value: Any) -> Change:
    """A change that puts a value somewhere."""

    def change(content: dict[str, Any]) -> None:
        inside: Any = content
        for part in place[:-1]:
            inside = inside[part]
        inside[place[-1]] = value

    return change


def llm(**fields: Any) -> Change:
    """A change of fields of the LLM executors."""
    return lambda content: content["executors"][0].update(fields)


def plain(**fields: Any) -> Change:
    """A change that lets the LLM executors have one model."""
    return lambda c: c["executors"].__setitem__(0, {"kind": "llm", "location": "x", "latency": LATENCY, **fields})


def served(name: str, **fields: Any) -> Change:
    """A change of a model that is served."""
    return lambda c: c["executors"][0]["serves"].setdefault(name, {"latency": LATENCY, "kv_tokens": 16}).update(fields)


def all_of(*changes: Change) -> Change:
    """Several changes."""
    return lambda content: [change(content) for change in changes]


LOCATION = "expected a whole number from 0 to 1000000 or text that is not empty of at most 200 characters"
ONLY_SEVERAL = "expected no value: only executors that serve several models have it"

REFUSED: dict[str, tuple[Change, str]] = {
    # models
    "unknown model": (served("c"), "executors.0.serves: got 'c'; expected a model of the catalogue: one of a, b, def"),
    "no catalogue": (lambda c: c.pop("models"), "executors.0.serves: got 'a'; expected a model of the catalogue: mod"),
    "any model": (served("default"), "executors.0.serves: got 'default'; expected names of models: default stands for"),
    "no name": (served(""), "executors.0.serves: got ''; expected text as a name that is not empty of at most 200"),
    "no name in the catalogue": (put("models", "", value={}), "models: got ''; expected text as a name"),
    "a list of models": (llm(serves=["a"]), "executors.0.serves: got ['a']; expected a mapping"),
    "a model by name alone": (put("executors", 0, "serves", "a", value=LATENCY), "executors.0.serves.a: got 'llama-2"),
    "a model without KV room": (
        put("executors", 0, "serves", "a", value={"latency": LATENCY}),
        "executors.0.serves.a.kv_tokens: got nothing; expected a whole number from 1 to 100000000",
    ),
    "less KV room than a block": (
        served("a", kv_tokens=15),
        "executors.0.serves.a.kv_tokens: got 15; expected at least block_size = 16",
    ),
    "no KV room": (served("a", kv_tokens=0), "executors.0.serves.a.kv_tokens: got 0; expected a whole number from 1"),
    "no profile": (served("a", latency=""), "executors.0.serves.a.latency: got ''; expected the path of a JSON file"),
    "unknown profile": (served("a", latency="llama-2"), "executors.0.serves.a.latency: got 'llama-2'; expected the pa"),
    # memory
    "a model larger than its executor": (
        llm(memory_gb=3),
        "executors.0.serves: got 3.1024 GB of weights and KV room of b; expected at most memory_gb * gpus = 3 GB",
    ),
    "a model larger than every executor": (
        put("models", "b", "weights_gb", value=1e5),
        "executors.0.serves: got 100000 GB of weights and KV room of b; expected at most memory_gb * gpus = 6 GB",
    ),
    "KV room larger than its executor": (
        served("a", kv_tokens=10**8),
        "executors.0.serves: got 10242 GB of weights and KV room of a; expected",
    ),
    "resident models that do not fit": (
        llm(memory_gb=5, resident=["b", "a"]),
        "executors.0.resident: got 5.2048 GB of b, a; expected at most memory_gb * gpus = 5 GB",
    ),
    "a resident model that is not served": (llm(resident=["c"]), "executors.0.resident: got 'c'; expected models that"),
    "a resident model twice": (llm(resident=["a", "a"]), "executors.0.resident: got 'a'; expected each model once"),
    "no memory": (lambda c: c["executors"][0].pop("memory_gb"), "executors.0.memory_gb: got nothing; expected a value"),
    "no load time": (lambda c: c["executors"][0].pop("load"), "executors.0.load: got nothing; expected a value"),
    "a load time as a number": (llm(load=3), "executors.0.load: got 3; expected a mapping"),
    "loading that never ends": (llm(load={"gb_per_s": 1e-300}), "executors.0.load.gb_per_s: got 1e-300; expected a nu"),
    # both at once
    "a profile beside models": (llm(latency=LATENCY), "executors.0.latency: got 'llama-2-7b-h100'; expected no value"),
    "a model beside models": (
        llm(model="default"),
        "executors.0.model: got 'default'; expected no value beside serves",
    ),
    "KV room beside models": (
        llm(kv_tokens=100_000),
        "executors.0.kv_tokens: got 100000; expected no value beside ser",
    ),
    "whole prefixes": (llm(whole_prefixes=True), "executors.0.whole_prefixes: got True; expected no value"),
    "memory without models": (plain(memory_gb=3), f"executors.0.memory_gb: got 3.0; {ONLY_SEVERAL}"),
    "residents without models": (plain(resident=["a"]), f"executors.0.resident: got ['a']; {ONLY_SEVERAL}"),
    "loading without models": (
        plain(load={"gb_per_s": 1}),
        "executors.0.load: got {'gb_per_s': 1.0, 'overhead_s': 0",
    ),
    "activation without models": (plain(activate_s=1), f"executors.0.activate_s: got 1.0; {ONLY_SEVERAL}"),
    "GPUs without models": (plain(gpus=2), f"executors.0.gpus: got 2; {ONLY_SEVERAL}"),
    "neither": (llm(serves={}), "executors.0.latency: got nothing; expected a latency profile, or serves"),
    # places
    "a link to nowhere": (
        put("links", 0, "between", value=["x", "z"]),
        "links.0.between: got 'z'; expected locations of executors: x, y",
    ),
    "a link to itself": (
        put("links", 0, "between", value=["x", "x"]),
        "links.0.between: got ['x', 'x']; expected two locations that no other link is between",
    ),
    "a link twice": (
        lambda c: c["links"].append({"between": ["y", "x"], "gb_per_s": 2}),
        "links.1.between: got ['y', 'x']; expected two locations that no other link is between",
    ),
    "a missing link": (
        lambda c: c["executors"].append({"kind": "regular", "location": 3}),
        "links: got none between x and 3; expected one between any two locations of executors",
    ),
    "KV at no rate": (
        put("kv_transfer", value={"gb_per_s": 0}),
        "kv_transfer.gb_per_s: got 0; expected a number from 1e-06",
    ),
    "KV before it is sent": (
        put("kv_transfer", value={"gb_per_s": 1, "latency_s": -1}),
        "kv_transfer.latency_s: got -1; expected a number from 0",
    ),
    "KV of a size that nobody knows": (
        all_of(put("kv_transfer", value={"gb_per_s": 1}), plain(model="z")),
        "executors.0.model: got 'z'; expected a model that models lists, beside kv_transfer: it says how large KV is",
    ),
    "KV of whole prefixes": (
        all_of(put("kv_transfer", value={"gb_per_s": 1}), plain(whole_prefixes=True)),
        "executors.0.whole_prefixes: got True; expected false beside kv_transfer: blocks are sent",
    ),
    "a link of three": (put("links", 0, "between", value=["x", "y", "z"]), "links.0.between: got ['x', 'y', 'z']; exp"),
    "a link of one": (put("links", 0, "between", value=["x"]), f"links.0.between.1: got nothing; {LOCATION}"),
    "a link to a truth": (put("links", 0, "between", value=["x", True]), f"links.0.between.1: got True; {LOCATION}"),
    "a link of no speed": (
        put("links", 0, "gb_per_s", value=0),
        "links.0.gb_per_s: got 0; expected a number from 1e-06",
    ),
    "a link that never delivers": (put("links", 0, "gb_per_s", value=5e-324), "links.0.gb_per_s: got 5e-324; expected"),
    "a truth as a place": (llm(location=True), f"executors.0.location: got True; {LOCATION}"),
    "half a place": (llm(location=1.5), f"executors.0.location: got 1.5; {LOCATION}"),
    "no place": (llm(location=""), f"executors.0.location: got ''; {LOCATION}"),
    "no regular place": (put("executors", 1, "location", value=None), f"executors.1.location: got None; {LOCATION}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    change, expected = REFUSED[name]
    content = copy.deepcopy(GOOD)
    change(content)
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(content))
    for given, source in ((file, str(file)), (content, "cluster")):
        with pytest.raises(InputError) as raised:
            load_cluster(given)
        line = str(raised.value)
        assert line.startswith(f"{source}: {expected}"), line
        assert "\n" not in line
        assert "function" not in line


def test_what_is_right_is_taken() -> None:
    spec = load_cluster(copy.deepcopy(GOOD))
    assert spec.model_names == ("a", "b")
    assert [host.model for _, host in spec.engines] == ["a", "b"]
    assert spec.locations == ("x", "y")
    load_cluster({**GOOD, "executors": [{"kind": "llm", "location": "x", "latency": LATENCY, "gpus": 1}], "links": []})


def test_profiles_are_relative_to_the_cluster_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    LatencyProfile("mine", 1_000_000, 0, 0, 0).save(folder / "mine.json")
    content = copy.deepcopy(GOOD)
    served("b", latency="./mine.json")(content)
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(elsewhere)
    spec = load_cluster(file)
    assert [path.resolve() for path in spec.profile_files] == [folder / "mine.json"]
    assert spec.engines[1][1].latency == str(folder / "mine.json")
    scenario = {"name": "s", "applications": {"web_search": 1}, "jobs": 1, "load": 1, "cluster": content}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    assert load_scenario(folder / "scenario.yaml").cluster.latencies == [LATENCY, str(folder / "mine.json")]
    (folder / "mine.json").rename(elsewhere / "mine.json")
    with pytest.raises(InputError) as raised:
        load_cluster(file)
    assert str(raised.value) == (
        f"{file}: executors.0.serves.b.latency: got './mine.json'; expected a file that exists, relative to the folder "
        f"of {file}; the one in the working directory is not meant"
    )


def workload_of_models(seed: int = 0) -> Any:
    """Jobs that ask for three models."""
    rng = np.random.default_rng(seed)
    return with_models(rng, random_draft(rng, 2, 3, 4, 10**7).assemble())


def cluster_of(**served_models: int) -> ClusterSpec:
    """A cluster that serves these models with so much KV room each."""
    facts = {"weights_gb": 1, "kv_kib_per_token": 1}
    serves = {name: {"latency": LATENCY, "kv_tokens": tokens} for name, tokens in served_models.items()}
    group = {"kind": "llm", "memory_gb": 9, "block_size": 1, "serves": serves, "load": {"gb_per_s": 1}}
    models = dict.fromkeys(served_models, facts)
    return load_cluster({"name": "test", "models": models, "executors": [group, {"kind": "regular"}]})


def test_a_model_that_nobody_serves_is_named() -> None:
    cluster_of(small=1000, middle=1000, large=1000).check_serves(workload_of_models())
    with pytest.raises(InputError) as raised:
        cluster_of(small=1000, middle=1000).check_serves(workload_of_models())
    assert str(raised.value) == (
        "cluster test: executors.serves: got no executor with model large; expected one that serves workload random"
    )


def test_tasks_that_any_model_would_do_for_have_no_home() -> None:
    workload = replace(workload_of_models(), models=("default", *MODELS[1:]))
    with pytest.raises(InputError, match="no executor with model default"):
        cluster_of(small=1000, middle=1000, large=1000).check_serves(workload)


def test_too_little_kv_room_of_one_model_is_named() -> None:
    workload = workload_of_models()
    of_middle = workload.tasks[workload.tasks["model"] == 1]
    need = int((of_middle["prompt_tokens"] + of_middle["output_tokens"]).max()) - 1
    cluster_of(small=1000, middle=need, large=1000).check_serves(workload)
    with pytest.raises(InputError) as raised:
        cluster_of(small=1000, middle=need - 1, large=1000).check_serves(workload)
    assert str(raised.value) == (
        f"cluster test: executors.serves.middle.kv_tokens: got {need - 1}; expected at least {need} usable tokens: the "
        "longest prompt with its output in workload random"
    )


def links_alone() -> ClusterSpec:
    """A cluster of executors with one model each, and links."""
    content = copy.deepcopy(GOOD)
    plain()(content)
    return load_cluster(content)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            load_cluster(copy.deepcopy(GOOD)),
            "executors: got executors that serve several models; expected one model per",
        ),
        (
            links_alone(),
            "links: got 1 of them; expected one model per executor, no links, no kv_transfer: servers are real",
        ),
    ],
)
def test_real_servers_have_one_model_and_no_links(spec: ClusterSpec, found: str) -> None:
    options = ServedOptions(("http://127.0.0.1:9",))
    with pytest.raises(InputError) as raised:
        Serving(options, spec)
    assert str(raised.value).startswith(f"cluster test: {found}")
    with pytest.raises(InputError, match="servers are real"):
        Setting.make("mixed", cluster=spec, serving=options)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_written_is_read_again(seed: int) -> None:
    """Comparisons hand a scenario to their workers as JSON, and results name it."""
    spec = random_model_cluster(np.random.default_rng(seed))
    assert ClusterSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert ClusterSpec.model_validate_json(spec.model_dump_json()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("name", ["mixed", "hetero8", "hetero4", "real_dag", "prefix_reuse"])
def test_scenarios_are_read_again(name: str) -> None:
    scenario = load_scenario(name)
    assert Scenario.model_validate_json(scenario.model_dump_json()) == scenario


def test_a_comparison_draws_the_jobs_of_such_a_scenario() -> None:
    assert Setting.make("hetero4", jobs=3).workload(0).n_jobs == 3
