"""Applications for studies of clusters: shapes are the recorded ones, and each variant differs in what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from test_facts_applications import digest

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.applications import APPLICATIONS, FURTHER, GROUPS, drawable, without_groups
from llmsched_gym.workloads.applications.prefix_reuse import SHARED_TOKENS, prefix_reuse
from llmsched_gym.workloads.applications.real_dag import REAL_DAGS, SHAPES
from llmsched_gym.workloads.applications.real_dag_revealed import TEMPLATE, revealers
from llmsched_gym.workloads.applications.roles import KINDS, ROLES, role_tasks
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.fitting import write_facts
from llmsched_gym.workloads.fitting.real_dag import MAX_TASKS, fit
from llmsched_gym.workloads.history import application_history, nominal_ns
from llmsched_gym.workloads.jobtrace import read_job_trace, write_job_trace
from llmsched_gym.workloads.store import load, save
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.transfer import REFERENCE_BYTES_PER_NS, expected_output_bytes, with_transfer_ratio
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload

CLUSTER: dict[str, Any] = {
    "executors": [{"kind": "llm", "latency": "llama-2-7b-h100", "count": 2}, {"kind": "regular", "count": 2}]
}


def scenario(applications: dict[str, float], jobs: int = 24, **fields: Any) -> Scenario:
    given = {"name": "mine", "applications": applications, "load": 0.9, "jobs": jobs, "cluster": CLUSTER}
    return load_scenario({**given, **fields})


@pytest.fixture(scope="module", params=["real_dag", "real_dag_revealed", "prefix_reuse"])
def workload(request: pytest.FixtureRequest) -> Workload:
    return scenario({request.param: 1.0}).build("eval", 0)


def test_facts_are_those_of_the_recorded_workflows(shared: Path, tmp_path: Path) -> None:
    write_facts(fit(shared / "data"), tmp_path / "facts.json")
    assert json.loads((tmp_path / "facts.json").read_text()) == load_facts("real_dag")


def test_shapes_follow_and_precede_what_the_recorded_tasks_did(shared: Path) -> None:
    """Split into tasks again, a shape is the graph of its instance."""
    table = json.loads((shared / "data" / "hetero" / "wfinstances.json").read_text())["instances"]
    recorded = {one["path"]: one for one in table}
    for facts in load_facts("real_dag")["shapes"]["shapes"]:
        one, graph = recorded[facts["instance"]], nx.DiGraph()
        tasks = [[(stage, k) for k in range(n)] for stage, n in enumerate(facts["n_tasks"])]
        graph.add_nodes_from(task for stage in tasks for task in stage)
        for parent, child in facts["edges"]:
            graph.add_edges_from((a, b) for a in tasks[parent] for b in tasks[child])
        other = nx.DiGraph()
        other.add_nodes_from(range(one["tasks"]))
        other.add_edges_from(edge[:2] for edge in one["edges"])
        assert graph.number_of_edges() == other.number_of_edges()
        assert nx.is_isomorphic(graph, other), facts["name"]


def test_facts_name_their_source_or_their_assumption() -> None:
    for name in ("real_dag", "prefix_reuse"):
        for key, entry in load_facts(name).items():
            measured = {"source", "commit", "licence"} <= entry.keys()
            assert measured or (entry.get("assumed") and entry.get("reason")), key
    assert load_facts("real_dag")["shapes"]["licence"] == "LGPL-3.0"
    notice = (Path(__file__).resolve().parents[2] / "NOTICE").read_text()
    assert load_facts("real_dag")["shapes"]["commit"] in notice
    assert "LGPL-3.0" in notice


def test_templates_have_the_shapes_behind_a_routing_stage() -> None:
    assert GROUPS["real_dag"] == tuple(one.name for one in REAL_DAGS)
    for application, shape in zip(REAL_DAGS, SHAPES, strict=True):
        template = application.template
        template.validate("test")
        assert nx.is_directed_acyclic_graph(template.graph())
        assert sum(shape.n_tasks) <= MAX_TASKS
        for node, role, parents in zip(template.nodes[1:], shape.roles, shape.parents, strict=True):
            assert node.parents == tuple(template.nodes[1 + parent].name for parent in parents) or ("route",)
            assert node.kind is KINDS[role]
            assert node.revealed_by is None
        llm = [n for role, n in zip(shape.roles, shape.n_tasks, strict=True) if KINDS[role] is StageKind.LLM]
        assert sum(llm) > 0.6 * sum(shape.n_tasks), shape.name


def test_groups_spread_their_share() -> None:
    mix = without_groups({"real_dag": 3.0, REAL_DAGS[0].name: 1.0, "web_search": 2.0})
    assert sum(mix.values()) == pytest.approx(6.0)
    assert mix[REAL_DAGS[0].name] == pytest.approx(1.0 + 3.0 / len(REAL_DAGS))
    assert set(mix) == {*GROUPS["real_dag"], "web_search"}
    assert not set(FURTHER) & set(APPLICATIONS)
    assert set(drawable()) == {*APPLICATIONS, *FURTHER}


def test_workloads_are_sound_and_run(workload: Workload) -> None:
    validate_workload(workload)
    env = SchedulingEnv(scenario({"web_search": 1.0}), workload=workload, max_candidates=None, max_jobs=None)
    policy = load_policy("srtf")
    observation, info = env.reset(seed=0)
    policy.reset(info)
    done = False
    while not done:
        observation, _, done, _, info = env.step(policy.act(observation))
    assert (info["result"]["jct_s"] > 0).all()


def test_draws_follow_from_split_and_seed(workload: Workload) -> None:
    name = workload.provenance["mix"]
    seen = set()
    for split in ("train", "eval", "profile"):
        for seed in (0, 1):
            drawn = scenario(name).build(split, seed)
            assert drawn.digest == scenario(name).build(split, seed).digest
            seen.add(drawn.digest)
    assert len(seen) == 6
    assert workload.digest in seen


@pytest.mark.parametrize("name", sorted(FURTHER))
def test_same_generator_state_gives_the_same_jobs(name: str) -> None:
    sample = FURTHER[name].sample
    assert digest(sample(50, np.random.default_rng(3))) == digest(sample(50, np.random.default_rng(3)))
    assert digest(sample(50, np.random.default_rng(3))) != digest(sample(50, np.random.default_rng(4)))


def test_files_and_traces_hold_them(workload: Workload, tmp_path: Path) -> None:
    save(workload, tmp_path / "w.npz")
    write_job_trace(workload, tmp_path / "w.json")
    assert load(tmp_path / "w.npz").digest == read_job_trace(tmp_path / "w.json").digest == workload.digest


def test_all_of_a_known_dag_is_visible_on_arrival() -> None:
    drawn = scenario({"real_dag": 1.0}).build("eval", 0)
    assert (drawn.stages["revealer"] == -1).all()
    assert (drawn.stages["present"] == 1).all()
    assert len({int(app) for app in drawn.jobs["app"]}) > 5


def test_stages_are_revealed_when_a_parent_is_done() -> None:
    drawn = scenario({"real_dag_revealed": 1.0}).build("eval", 0)
    stages = drawn.stages
    parents: dict[int, set[int]] = {}
    for stage, row in enumerate(stages):
        for child in drawn.children[row["first_child"] : row["first_child"] + row["n_children"]]:
            parents.setdefault(int(child), set()).add(stage)
    first_planned = TEMPLATE.index["workflow"] + 1
    for stage in np.flatnonzero(stages["node"] >= first_planned):
        above, revealer = parents[int(stage)], int(stages["revealer"][stage])
        if stages["kind"][min(above)] == StageKind.DYNAMIC:
            assert revealer == drawn.jobs["first_stage"][stages["job"][stage]], "the routing stage"
        else:
            assert revealer in above
    for shape in SHAPES:
        assert all(
            r in above or (r < 0 and not above) for r, above in zip(revealers(shape), shape.parents, strict=True)
        )


def test_both_variants_draw_the_same_shapes() -> None:
    drawn = scenario({"real_dag_revealed": 1.0}, jobs=200).build("eval", 0)
    sizes = {len(shape.n_tasks) for shape in SHAPES}
    assert set((drawn.jobs["n_stages"] - 2).tolist()) == sizes


def test_tasks_are_as_long_as_those_of_their_role() -> None:
    """Every drawn pair of prompt and output is one of the role's, and on average they are as long."""
    template = next(one.template for one in REAL_DAGS if one.name == "real_dag_montage_58")
    drawn = scenario({template.name: 1.0}, jobs=200).build("eval", 0)
    role_of = [ROLES.index(node.name.split("_")[0]) for node in template.nodes]
    roles = np.array(role_of)[drawn.stages["node"]][drawn.tasks["stage"]]
    for number in set(role_of):
        table, tasks = role_tasks(ROLES[number]), drawn.tasks[roles == number]
        pairs = set(zip(table.prompt_tokens.tolist(), table.output_tokens.tolist(), strict=True))
        assert set(zip(tasks["prompt_tokens"].tolist(), tasks["output_tokens"].tolist(), strict=True)) <= pairs
        for name in ("prompt_tokens", "output_tokens", "duration_ns"):
            assert tasks[name].mean() == pytest.approx(getattr(table, name).mean(), rel=0.15), (ROLES[number], name)


def test_lengths_of_a_job_go_together() -> None:
    application = next(one for one in REAL_DAGS if one.name == "real_dag_srasearch_42")
    block = application.sample(3000, np.random.default_rng(0))
    thinks = [i for i, node in enumerate(application.template.nodes) if node.name.startswith("think")]
    one, two = (np.argsort(np.argsort(block.output_tokens[:, slot, 0])) for slot in thinks[:2])
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(0.48, abs=0.06)


def test_lengths_of_prefixes_are_swept_and_nothing_else() -> None:
    drawn = {
        tokens: scenario({f"prefix_reuse_{tokens}": 1.0}, rate=1.0, load=None).build("eval", 0)
        for tokens in SHARED_TOKENS
    }
    assert (min(drawn), max(drawn)) == (8_000, 30_000)
    least = drawn[8_000]
    for tokens, other in drawn.items():
        llm = other.tasks["model"] >= 0
        assert (other.tasks["app_prefix_tokens"][llm] == tokens).all()
        for name in ("prompt_tokens", "job_prefix_tokens"):
            assert (other.tasks[name][llm] - least.tasks[name][llm] == tokens - 8_000).all()
        for name in ("output_tokens", "duration_ns", "output_bytes", "job_prefix", "stage"):
            assert np.array_equal(other.tasks[name], least.tasks[name]), name
        assert np.array_equal(other.stages, least.stages)
        longest = other.tasks["prompt_tokens"] + other.tasks["output_tokens"]
        assert longest.max() <= tokens + 9_000
    assert prefix_reuse(123, "mine").sample(5, np.random.default_rng(0)).app_prefix_tokens[:, 0].tolist() == [123] * 5
    assert "prefix_reuse_30000" in FURTHER
    usual = scenario({"prefix_reuse": 1.0}, rate=1.0, load=None).build("eval", 0)
    assert np.array_equal(usual.tasks, drawn[16_000].tasks)


def test_chains_of_an_agent_grow() -> None:
    drawn = scenario({"prefix_reuse": 1.0}).build("eval", 0)
    tasks = drawn.tasks[drawn.tasks["model"] >= 0]
    same = (tasks["job_prefix"][1:] == tasks["job_prefix"][:-1]).nonzero()[0]
    assert len(same) > 20
    held = tasks["prompt_tokens"][same] + tasks["output_tokens"][same]
    assert np.array_equal(tasks["job_prefix_tokens"][same + 1], held)
    assert (tasks["prompt_tokens"][same + 1] > held).all()


@pytest.mark.parametrize("ratio", [0.0, 0.1, 5])
def test_moving_takes_its_share_of_making(workload: Workload, ratio: float) -> None:
    moved = with_transfer_ratio(workload, ratio)
    validate_workload(moved)
    making = nominal_ns(moved.tasks)
    assert np.abs(moved.tasks["output_bytes"] / REFERENCE_BYTES_PER_NS - ratio * making).max() <= 0.3
    assert moved.provenance["transfer_ratio"] == ratio
    for name in set(workload.tasks.dtype.names or ()) - {"output_bytes"}:
        assert np.array_equal(moved.tasks[name], workload.tasks[name]), name


def test_what_is_expected_of_outputs_is_their_mean() -> None:
    """Over the jobs that the historical means are of."""
    name = "real_dag_bacass_11"
    for ratio in (None, 0.2):
        drawn = scenario({name: 1.0}, jobs=2000, transfer_ratio=ratio).build("profile", 0)
        mean = np.zeros(len(drawn.templates[0].nodes))
        np.add.at(mean, drawn.stages["node"][drawn.tasks["stage"]], drawn.tasks["output_bytes"] / drawn.n_jobs)
        expected = expected_output_bytes(drawn)[0]
        known = (expected > 0) if ratio is None else np.ones(len(mean), np.bool_)
        assert expected[known] == pytest.approx(mean[known], rel=0.1)
    assert application_history(name)["presence"].tolist() == [1.0] * len(mean)
    assert expected_output_bytes(replace(drawn, provenance={}))[0].sum() < expected.sum()


@pytest.mark.parametrize("ratio", [-0.1, 1001, float("nan"), True, "much"])
def test_bad_ratios_are_refused(workload: Workload, ratio: Any) -> None:
    with pytest.raises(InputError, match=r"transfer_ratio: got .*; expected a number from 0 to 1000"):
        with_transfer_ratio(workload, ratio)
    with pytest.raises(InputError, match=r"transfer_ratio: got .*; expected a number from 0 to 1000"):
        scenario({"real_dag": 1.0}, transfer_ratio=ratio)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'real_dag'"):
        scenario({"real_dags": 1.0})
    with pytest.raises(InputError, match="did you mean 'real_dag_montage_58'"):
        scenario({"real_dag_montage_85": 1.0})
    for applications, models in (({"web_serch": 1.0}, {}), ({"web_search": 1.0}, {"web_serch": {}})):
        with pytest.raises(InputError, match=r"one of .*real_dag, .*did you mean 'web_search'") as caught:
            scenario(applications, models=models)
        assert len(str(caught.value)) < 400
    with pytest.raises(InputError, match=r"models\.real_dag\*: got 'wurk\*'; expected an LLM stage"):
        scenario({"real_dag": 1.0}, models={"real_dag*": {"wurk*": "a"}})


def test_eight_models_serve_all_shapes() -> None:
    for name in ("real_dag", "real_dag_revealed"):
        drawn = scenario({name: 1.0}, models="stage_models").build("eval", 0)
        validate_workload(drawn)
        assert len(drawn.models) == 8
        assert "default" not in drawn.models
    group = scenario({"real_dag": 1.0}, models={"real_dag": {"work*": "a"}, "real_dag_blast_43": {"work_2": "b"}})
    assert group.build("eval", 0).models == ("default", "a", "b")
    one = scenario({"real_dag_blast_43": 1.0}, models="stage_models").build("eval", 0)
    assert set(one.models) == {"qwen3-0.6b", "qwen3-4b", "qwen3-32b", "llama-3.1-8b"}
