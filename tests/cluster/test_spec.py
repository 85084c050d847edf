"""Cluster specifications: what they accept, what they refuse and in which words, and what they can serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.spec import MAX_MODELS, ClusterSpec, load_cluster
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.toy import toy

REGULAR: dict[str, Any] = {"kind": "regular"}


def llm(**fields: Any) -> dict[str, Any]:
    """A group of LLM executors."""
    return {"kind": "llm", "latency": "llama-2-7b-h100", **fields}


def cluster(*groups: dict[str, Any]) -> ClusterSpec:
    """A cluster of these groups."""
    return load_cluster({"name": "test", "executors": list(groups)})


def test_files_and_mappings_give_the_same_cluster(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "name: test\nexecutors:\n  - {kind: llm, latency: llama-2-7b-h100, count: 2}\n  - {kind: regular}\n"
    )
    spec = load_cluster(path)
    assert spec == cluster(llm(count=2), REGULAR)
    assert (spec.n_executors, spec.n_regular, len(spec.llm)) == (3, 1, 1)
    assert load_cluster(spec) is spec


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "executors"),
        ({"executors": []}, "executors"),
        ([], "cluster"),
        ({"executors": [{"kind": "gpu"}]}, "kind"),
        ({"executors": [REGULAR | {"count": 0}]}, "count"),
        ({"executors": [REGULAR | {"slots": 2}]}, "slots"),
        ({"executors": [{"kind": "llm"}]}, "latency"),
        ({"executors": [llm(max_num_seqs=0)]}, "max_num_seqs"),
        ({"executors": [llm(kv_tokens=-1)]}, "kv_tokens"),
        ({"executors": [llm(watermark=1.0)]}, "watermark"),
        ({"executors": [llm(watermark=float("nan"))]}, "watermark"),
        ({"executors": [llm(block_size=2048)]}, "block_size"),
        ({"executors": [llm(max_num_seqs=16, max_num_batched_tokens=8)]}, "max_num_batched_tokens"),
        ({"executors": [llm(count="many")]}, "count"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(given: Any, part: str) -> None:
    with pytest.raises(InputError) as raised:
        load_cluster(given)
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("content", "part"), [("a: [1, 2", "line"), ("- 1\n", "a list"), ("\xff", "executors")])
def test_files_that_are_no_cluster_are_refused_by_name(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"broken\.yaml") as raised:
        load_cluster(path)
    assert part in str(raised.value) or "mapping" in str(raised.value) or "dictionary" in str(raised.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml.*no such file"):
        load_cluster("nowhere.yaml")


def test_an_unknown_latency_profile_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="did you mean 'llama-2-7b-h100'"):
        _ = cluster(llm() | {"latency": "llama-2-7b-h10"}, REGULAR).reference_profile


def test_pools_follow_the_models() -> None:
    spec = cluster(llm(model="big"), llm(), REGULAR)
    big, default = spec.llm
    assert spec.pools_of(big, ("default", "big", "small")) == 0b011
    assert spec.pools_of(default, ("default", "big", "small")) == 0b001
    assert spec.pools_of(spec.executors[2], ("default", "big", "small")) == 0b1000  # pyright: ignore[reportArgumentType]


def test_tasks_run_where_their_model_is() -> None:
    """The quick jobs ask for a model that only the second group has."""
    workload = toy()
    tasks = workload.tasks.copy()
    quick = workload.jobs["app"][workload.stages["job"][tasks["stage"]]] == 0
    is_llm = tasks["model"] >= 0
    tasks["model"][quick & is_llm] = 1
    workload = replace(workload, tasks=tasks, models=("default", "small"))
    spec = cluster(llm(model="big", max_num_seqs=1), llm(model="small", max_num_seqs=1), REGULAR)
    state, simulation = loop.start(workload, spec)
    loop.run_fcfs(state, simulation)
    assert np.unique(state.tasks["executor"][quick & is_llm]).tolist() == [1]
    assert np.unique(state.tasks["executor"][~quick & is_llm]).tolist() == [0, 1]
    assert np.unique(state.tasks["executor"][~is_llm]).tolist() == [2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (cluster(REGULAR), "no executor with model default"),
        (cluster(llm()), "no regular executor"),
        (cluster(llm(kv_tokens=2, block_size=1), REGULAR), "kv_tokens: got 2; expected at least 4 usable tokens"),
        (cluster(llm(kv_tokens=15), REGULAR), "kv_tokens: got 0"),
    ],
)
def test_a_cluster_that_cannot_run_some_task_is_refused(spec: ClusterSpec, message: str) -> None:
    with pytest.raises(InputError) as raised:
        spec.check_serves(toy())
    assert message in str(raised.value)
    with pytest.raises(InputError):
        loop.start(toy(), spec)


def test_just_enough_kv_is_enough() -> None:
    spec = cluster(llm(kv_tokens=4, block_size=1, max_num_seqs=1), REGULAR)
    state, simulation = loop.start(toy(), spec)
    loop.run_fcfs(state, simulation)
    assert state.clock[0]["done"] == 5


def test_more_models_than_bits_are_refused() -> None:
    workload = replace(toy(), models=("default", *(f"m{i}" for i in range(MAX_MODELS))))
    with pytest.raises(InputError, match="at most 63"):
        cluster(llm(), REGULAR).check_serves(workload)


def test_a_missing_model_is_named() -> None:
    workload = load_scenario("predefined").replaced(jobs=2).build("train", 0)
    workload = replace(workload, models=("llama-3",))
    with pytest.raises(InputError, match="no executor with model llama-3"):
        cluster(llm(model="llama-2"), REGULAR).check_serves(workload)
