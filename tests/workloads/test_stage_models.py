"""Models per stage: an assignment names them, tasks ask for them, files keep them, and without one nothing changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.scenario import Scenario, files_named_in, load_scenario
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.jobtrace import read_job_trace, write_job_trace
from llmsched_gym.workloads.stage_models import ASSIGNMENTS, read_assignment, template_with_models, with_stage_models
from llmsched_gym.workloads.store import load, save
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.toy import two_jobs
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload

ASSIGNMENT = {"assistant": {"plan": "large", "ask": "small", "retry": "large"}}
CLUSTER: dict[str, Any] = {"executors": [{"kind": "llm", "latency": "llama-2-7b-h100"}, {"kind": "regular"}]}
MINE: dict[str, Any] = {
    "name": "mine",
    "applications": {"code_generation": 1, "task_automation": 1},
    "rate": 2.0,
    "jobs": 12,
    "cluster": CLUSTER,
}


@pytest.fixture(scope="module")
def plain(assistant: Application) -> Workload:
    return generate("w", {"assistant": 1.0}, Poisson(), 1.0, 40, "train", 0, applications={"assistant": assistant})


@pytest.fixture(scope="module")
def assigned(plain: Workload) -> Workload:
    return with_stage_models(plain, ASSIGNMENT)


def asked(workload: Workload, app: int = 0) -> dict[str, set[str]]:
    """Models that the tasks of each LLM stage of an application ask for."""
    stages, tasks = workload.stages, workload.tasks
    found: dict[str, set[str]] = {}
    for task in tasks[(tasks["model"] >= 0) & (workload.jobs["app"][stages["job"][tasks["stage"]]] == app)]:
        name = workload.templates[app].nodes[stages["node"][task["stage"]]].name
        found.setdefault(name, set()).add(workload.models[task["model"]])
    return found


def test_tasks_ask_for_the_model_of_their_stage(plain: Workload, assigned: Workload) -> None:
    validate_workload(assigned)
    assert assigned.models == ("default", "large", "small")
    assert asked(assigned) == {"plan": {"large"}, "ask": {"small"}, "join": {"default"}, "retry": {"large"}}
    assert assigned.provenance["models"] == ASSIGNMENT
    for name in set(plain.tasks.dtype.names or ()) - {"model"}:
        assert np.array_equal(plain.tasks[name], assigned.tasks[name]), name
    for name in ("jobs", "stages", "children", "reveals"):
        assert np.array_equal(getattr(plain, name), getattr(assigned, name)), name
    assert np.array_equal(plain.history[0], assigned.history[0])


def test_without_an_assignment_nothing_changes(plain: Workload) -> None:
    assert with_stage_models(plain, {}) is plain
    assert with_stage_models(plain, {"another": {"plan": "large"}}) is plain
    assert load_scenario({**MINE, "models": {}}).build("eval", 0).digest == load_scenario(MINE).build("eval", 0).digest


def test_digests_tell_assignments_apart(plain: Workload, assigned: Workload) -> None:
    seen = {plain.digest, assigned.digest, with_stage_models(plain, {"assistant": {"plan": "large"}}).digest}
    renamed = with_stage_models(plain, {"assistant": {"plan": "small", "ask": "large", "retry": "small"}})
    assert len(seen | {renamed.digest}) == 4


def test_every_node_has_its_model_whether_or_not_a_job_has_the_stage(plain: Workload, assigned: Workload) -> None:
    """Of ``plan tools search ask join retry recheck store`` only LLM stages ask for one."""
    assert [plain.node_models[0].tolist()] == [[0, -1, -1, 0, 0, 0, -1, -1]]
    assert assigned.node_models[0].tolist() == [1, -1, -1, 2, 0, 1, -1, -1]
    assert assigned.node_models[0].dtype == np.int32
    retry = assigned.templates[0].index["retry"]
    absent = (assigned.stages["node"] == retry) & (assigned.stages["present"] == 0)
    assert absent.any()


def test_the_models_of_a_scenario_are_the_same_for_every_seed() -> None:
    """Also where no job happens to have a stage, or an application no job."""
    scenario = load_scenario({**MINE, "jobs": 1, "models": "stage_models"})
    built = [scenario.build(split, seed) for split in ("train", "eval") for seed in range(6)]
    assert len({len(set(workload.jobs["app"].tolist())) for workload in built}) == 1
    assert {workload.models for workload in built} == {
        ("qwen2.5-coder-14b", "r1-distill-32b", "qwen3-32b", "llama-3.1-8b")
    }
    for workload in built:
        validate_workload(workload)
        for one, two in zip(workload.node_models, built[0].node_models, strict=True):
            assert np.array_equal(one, two)


def test_recorded_models_stand_in_for_those_of_the_template(assigned: Workload) -> None:
    """A workload whose tasks have models and whose templates have none."""
    bare = tuple(
        replace(template, nodes=tuple(replace(node, model=None) for node in template.nodes))
        for template in assigned.templates
    )
    recorded = replace(assigned, templates=bare)
    validate_workload(recorded)
    assert recorded.node_models[0].tolist() == assigned.node_models[0].tolist()

    tasks = recorded.tasks.copy()
    stage = np.flatnonzero(recorded.stages["node"] == recorded.templates[0].index["plan"])[0]
    tasks["model"][tasks["stage"] == stage] = 2
    mixed = replace(recorded, tasks=tasks)
    assert mixed.node_models[0].tolist() == [-1, -1, -1, 2, 0, 1, -1, -1], "jobs differ in the model of plan"

    no_retry = tasks["model"] != 1
    one = replace(recorded, tasks=recorded.tasks[no_retry & (tasks["stage"] < 1)], models=("small", "large"))
    assert one.node_models[0].tolist()[5] == 0, "nothing asks and nothing is any: the first model"


def test_names_may_end_in_a_star_and_longer_ones_count() -> None:
    template = APPLICATIONS["code_generation"].template
    stages = {"code_*": "coder", "code_1*": "first", "code_10": "last", "*": "any"}
    models = {node.name: node.model for node in template_with_models(template, stages).nodes}
    assert (models["code_1"], models["code_2"], models["code_10"], models["reflect_2"]) == (
        "first",
        "coder",
        "last",
        "any",
    )
    assert models["test_1"] is None


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_shipped_assignments_name_every_llm_stage(name: str) -> None:
    assignment = read_assignment(name, "test", "models")
    scenario = Scenario.model_validate({**MINE, "applications": dict.fromkeys(APPLICATIONS, 1.0), "models": assignment})
    workload = scenario.build("eval", 0)
    assert "default" not in workload.models
    assert set(workload.models) == {
        *("qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b"),
        *("llama-3.1-8b", "qwen2.5-coder-14b", "r1-distill-32b"),
    }
    for template, models in zip(workload.templates, workload.node_models, strict=True):
        assert ((models >= 0) == (template.kinds == StageKind.LLM)).all(), template.name


def test_models_lie_over_fixed_workloads_too() -> None:
    scenario = load_scenario(
        {"name": "two", "fixed": "two_jobs", "cluster": CLUSTER, "models": {"certain": {"*": "a"}}}
    )
    workload = scenario.build("eval", 0)
    assert asked(workload, 0) == {"write": {"a"}}
    assert asked(workload, 1) == {"probe": {"default"}, "solve": {"default"}}
    assert two_jobs().models == ("default",)


def test_models_and_a_divisor_of_tokens_go_together() -> None:
    both = load_scenario({**MINE, "models": "stage_models", "token_divisor": 4}).build("eval", 0)
    validate_workload(both)
    plain = load_scenario({**MINE, "token_divisor": 4}).build("eval", 0)
    assert np.array_equal(both.tasks["prompt_tokens"], plain.tasks["prompt_tokens"])


def test_a_file_of_models_lies_beside_its_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "models.yaml").write_text("task_automation: {plan: large}\n")
    (folder / "mine.yaml").write_text(json.dumps({**MINE, "models": "models.yaml"}))
    monkeypatch.chdir(tmp_path)
    assert load_scenario("there/mine.yaml").models == {"task_automation": {"plan": "large"}}
    assert [path.name for path in files_named_in("there/mine.yaml")] == ["models.yaml"]
    (folder / "mine.yaml").write_text(json.dumps({**MINE, "models": "other.yaml"}))
    with pytest.raises(InputError, match=r"mine\.yaml: models: got 'other\.yaml'; expected a file that exists"):
        load_scenario("there/mine.yaml")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"task_automatio": {"plan": "a"}}, "models: got 'task_automatio'; expected one of"),
        ({"task_automation": {"pla": "a"}}, "models.task_automation: got 'pla'; expected an LLM stage, one of answer"),
        ({"task_automation": {"speech_synthesis": "a"}}, "models.task_automation: got 'speech_synthesis'"),
        ({"task_automation": {"tools": "a"}}, "models.task_automation: got 'tools'; expected an LLM stage"),
        ({"code_generation": {"test_*": "a"}}, "models.code_generation: got 'test_*'; expected an LLM stage"),
        ({"task_automation": {"": "a"}}, "models.task_automation: got ''; expected an LLM stage"),
        ({"task_automation": {"plan": ""}}, "models.task_automation.plan: got ''; expected text that is not empty"),
        ({"task_automation": {"plan": 3}}, "models.task_automation.plan: got 3; expected text"),
        ({"task_automation": {"plan": None}}, "models.task_automation.plan: got None; expected text"),
        ({"task_automation": "a"}, "models.task_automation: got 'a'; expected a mapping"),
        (["a"], "models: got ['a']; expected a mapping"),
        ("stage_model", "models: got 'stage_model'; expected a mapping, a YAML file, or one of stage_models; did you"),
    ],
)
def test_bad_assignments_are_refused(models: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario({**MINE, "models": models})
    assert str(caught.value).startswith("scenario: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"search": "a"}, "workload w: models.assistant: got 'search'; expected an LLM stage, one of ask, join"),
        ({"plan": ""}, "workload w: models.assistant.plan: got ''; expected a model's name"),
    ],
)
def test_bad_assignments_of_a_workload_are_refused(plain: Workload, stages: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        with_stage_models(plain, {"assistant": stages})
    assert message in str(caught.value)


def test_files_and_traces_keep_the_models_of_stages(plain: Workload, assigned: Workload, tmp_path: Path) -> None:
    for workload in (plain, assigned):
        save(workload, tmp_path / "w.npz")
        write_job_trace(workload, tmp_path / "w.json")
        for again in (load(tmp_path / "w.npz"), read_job_trace(tmp_path / "w.json")):
            assert again.digest == workload.digest
            assert again.templates == workload.templates
            assert again.models == workload.models
        assert ('"model"' in (tmp_path / "w.json").read_text()) == (workload is assigned)
    content = json.loads((tmp_path / "w.json").read_text())
    assert [stage.get("model") for stage in content["applications"][0]["stages"]][:4] == ["large", None, None, "small"]
    assert not any(
        "model" in task for job in content["jobs"] for stage in job["stages"] for task in stage.get("tasks", ())
    )


@pytest.mark.parametrize(
    ("stage", "model", "task", "message"),
    [
        (
            0,
            "gpt",
            None,
            "applications.0.stages.0.model: got 'gpt'; expected one of the trace's models: one of default",
        ),
        (0, "", None, "applications.0.stages.0.model: got ''"),
        (2, "large", None, "application assistant, stage search, model: got 'large'; expected no model in a stage"),
        (
            0,
            "large",
            "small",
            "jobs.0.stages.0.tasks.0.model: got 'small'; expected large, which the application names",
        ),
    ],
)
def test_bad_models_in_traces_are_refused(
    assigned: Workload, tmp_path: Path, stage: int, model: str, task: str | None, message: str
) -> None:
    path = tmp_path / "w.json"
    write_job_trace(assigned, path)
    content = json.loads(path.read_text())
    content["applications"][0]["stages"][stage]["model"] = model
    if task is not None:
        content["jobs"][0]["stages"][0]["tasks"][0]["model"] = task
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_job_trace(path)
    assert message in str(caught.value)


def test_a_workload_must_agree_with_its_templates(assigned: Workload) -> None:
    tasks = assigned.tasks.copy()
    tasks["model"][tasks["model"] == 1] = 2
    with pytest.raises(InputError, match=r"tasks\[0\]\.model: got 2; expected the model that the template names"):
        validate_workload(replace(assigned, tasks=tasks))
    with pytest.raises(
        InputError, match=r"application assistant, stage ask, model: got 'small'; expected one of defau"
    ):
        validate_workload(replace(assigned, models=("default", "large", "tiny")))


def test_the_load_of_a_cluster_is_that_of_its_jobs_with_models() -> None:
    """The same rate as without: who serves a stage says nothing of how much there is to serve."""
    given = {**MINE, "rate": None, "load": 0.9}
    plain, assigned = load_scenario(given), load_scenario({**given, "models": "stage_models"})
    assert assigned.arrival_rate() == plain.arrival_rate()
