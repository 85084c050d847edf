"""Job traces: what people write is read as documented, exported workloads come back equal, and errors have a place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.jobtrace import read_job_trace, write_job_trace
from llmsched_gym.workloads.toy import TOY_APPLICATIONS, toy, two_jobs
from llmsched_gym.workloads.workload import Workload

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "traces" / "example_job_trace.json"


@pytest.fixture
def example() -> dict[str, Any]:
    return json.loads(EXAMPLE.read_text())


def names(workload: Workload, job: int) -> list[str]:
    row = workload.jobs[job]
    nodes = workload.templates[row["app"]].nodes
    return [nodes[n].name for n in workload.stages["node"][row["first_stage"] : row["first_stage"] + row["n_stages"]]]


def parents(workload: Workload, job: int, stage: int) -> list[int]:
    """Positions, within the job, of the parents of its stage at a position."""
    first = int(workload.jobs["first_stage"][job])
    found = []
    for parent in range(first, first + int(workload.jobs["n_stages"][job])):
        at = workload.stages["first_child"][parent]
        if first + stage in workload.children[at : at + workload.stages["n_children"][parent]]:
            found.append(parent - first)
    return found


def test_example_is_read_as_documented() -> None:
    workload = read_job_trace(EXAMPLE)
    assert workload.name == "help-desk"
    assert workload.provenance["history"] == "self"
    assert workload.jobs["arrival_ns"].tolist() == [0, 1_500_000_000, 2_000_000_000, 4_250_000_000]
    assert names(workload, 0) == names(workload, 1) == ["classify", "lookup", "draft", "review", "revise", "send"]
    first = workload.jobs["first_stage"]
    stages = workload.stages
    assert stages["present"][first[1] : first[1] + 6].tolist() == [1, 1, 1, 1, 0, 1]
    assert stages["revealer"][first[1] : first[1] + 6].tolist() == [-1, -1, -1, -1, first[1] + 3, -1]
    assert parents(workload, 0, 5) == [3, 4]

    assert names(workload, 2) == ["plan", "tools", "flights", "flights", "hotels", "summarise", "answer"]
    assert [parents(workload, 2, k) for k in range(7)] == [[], [0], [1], [1], [2], [3, 4], [1, 5]]
    assert (stages["revealer"][first[2] : first[2] + 7] - first[2]).tolist()[2:6] == [0, 0, 0, 0]
    assert stages["revealer"][first[2] + 1] == -1
    assert parents(workload, 3, 3) == [1, 2]

    lookup = workload.tasks[stages["first_task"][first[0] + 1] :][:2]
    assert lookup["duration_ns"].tolist() == [350_000_000, 800_000_000]
    assert lookup["output_bytes"].tolist() == [6000, 0]
    review = workload.tasks[stages["first_task"][first[0] + 3]]
    assert review["app_prefix"] == 0
    assert (review["app_prefix_tokens"], review["job_prefix_tokens"], review["job_prefix"]) == (480, 2140, 1)
    assert (workload.n_app_prefixes, workload.n_prefixes) == (1, 2)


def test_exported_workloads_come_back_with_their_digest(assistant: Application, tmp_path: Path) -> None:
    three = {**TOY_APPLICATIONS, "assistant": assistant}
    path = tmp_path / "t.json"
    for workload in (
        toy(),
        two_jobs(),
        read_job_trace(EXAMPLE),
        generate("w", dict.fromkeys(three, 1.0), Poisson(), 1.0, 80, "train", 0, applications=three),
        generate("m", dict.fromkeys(APPLICATIONS, 1.0), Poisson(), 0.7, 60, "train", 1),
    ):
        write_job_trace(workload, path)
        again = read_job_trace(path)
        assert again.digest == workload.digest
        assert again.name == workload.name
        # Means of the very jobs stay known as such: they are left out, and taken from the jobs again.
        assert again.provenance["history"] == ("self" if workload.provenance.get("history") == "self" else "file")


def test_jobs_may_stand_in_any_order(example: dict[str, Any], tmp_path: Path) -> None:
    example["jobs"].reverse()
    path = tmp_path / "t.json"
    path.write_text(json.dumps(example))
    assert read_job_trace(path).digest == read_job_trace(EXAMPLE).digest


def test_optional_planner_takes_its_plan_along(tmp_path: Path) -> None:
    """A second plan, revealed by the first answer: its dynamic stage comes and goes with it."""
    application = {
        "name": "replan",
        "type": "planning",
        "stages": [
            {"name": "join", "kind": "llm"},
            {"name": "plan", "kind": "llm", "parents": ["join"], "revealed_by": "join"},
            {"name": "tools", "kind": "dynamic", "parents": ["plan"], "revealed_by": "plan"},
            {"name": "search", "kind": "regular", "candidate_of": "tools"},
            {"name": "end", "kind": "llm", "parents": ["tools"]},
        ],
    }
    llm = [{"prompt_tokens": 5, "output_tokens": 5}]
    short = [{"stage": "join", "tasks": llm}, {"stage": "end", "tasks": llm}]
    long = [*short, {"stage": "plan", "tasks": llm}, {"stage": "search", "tasks": [{"duration_s": 1}]}]
    trace = {
        "format": "llmsched-gym/job-trace",
        "version": 1,
        "applications": [application],
        "jobs": [{"application": "replan", "arrival_s": 0, "stages": stages} for stages in (short, long)],
    }
    path = tmp_path / "t.json"
    path.write_text(json.dumps(trace))
    workload = read_job_trace(path)
    assert workload.stages["present"].tolist() == [1, 0, 0, 1, 1, 1, 1, 1, 1]
    assert workload.stages["revealer"].tolist() == [-1, 0, 0, -1, -1, 4, 4, 5, -1]
    assert names(workload, 1) == ["join", "plan", "tools", "search", "end"]


def test_history_from_another_trace(example: dict[str, Any], tmp_path: Path) -> None:
    past = copy.deepcopy(example)
    past["jobs"] = past["jobs"][::2]
    path = tmp_path / "past.json"
    path.write_text(json.dumps(past))
    workload = read_job_trace(EXAMPLE, history=path)
    assert workload.provenance["history"] == str(path)
    expected = compute_history(read_job_trace(path), 0)
    assert np.array_equal(workload.history[0], expected)
    assert not np.array_equal(workload.history[0], read_job_trace(EXAMPLE).history[0])
    assert workload.history[0]["presence"].tolist() == [1.0] * 6

    del past["applications"][1]
    past["jobs"] = past["jobs"][:1]
    path.write_text(json.dumps(past))
    with pytest.raises(InputError, match=r"past\.json: applications: got no trip"):
        read_job_trace(EXAMPLE, history=path)
    past["applications"][0]["stages"][0]["name"] = "sort"
    past["applications"][0]["stages"][1]["parents"] = ["sort"]
    past["jobs"][0]["stages"][0]["stage"] = "sort"
    path.write_text(json.dumps(past))
    with pytest.raises(InputError, match=r"past\.json: applications\.0\.stages: got other stages"):
        read_job_trace(EXAMPLE, history=path)


LLM_TASK = "jobs.0.stages.0.tasks.0"
ERRORS: list[tuple[str, Any, str]] = [
    ("format", "x", "format: got 'x'; expected llmsched-gym/job-trace"),
    ("version", 2, "version: got 2; expected 1"),
    ("colour", "red", "colour"),
    ("applications", [], "applications: got"),
    ("models", ["a", "a"], "models: got a repeated name"),
    ("applications.1.name", "ticket", "applications.1.name: got 'ticket'; expected application names that differ"),
    ("applications.0.stages.1.kind", "tool", "applications.0.stages.1.kind: got 'tool'"),
    (
        "applications.0.stages.1.parents",
        ["send"],
        "application ticket, stage lookup: got 'send'; expected a stage listed",
    ),
    ("applications.0.stages.1.parents", ["clasify"], "application ticket, stage lookup: got 'clasify'"),
    ("applications.0.prefixes", ["a", "a"], "applications.0.prefixes: got a repeated name"),
    ("applications.0.history", [], "applications.0.history: got 0; expected 6 records"),
    ("jobs.0.application", "tickets", "jobs.0.application: got 'tickets'; expected one of ticket, trip; did you mean"),
    ("jobs.0.arrival_s", -1, "jobs.0.arrival_s: got -1"),
    ("jobs.0.arrival_s", float("nan"), "jobs.0.arrival_s: got nan"),
    ("jobs.0.arrival_s", "soon", "jobs.0.arrival_s: got 'soon'"),
    ("jobs.0.stages.0.stage", "classfy", "jobs.0.stages.0.stage: got 'classfy'"),
    ("jobs.0.stages.0.present", False, "jobs.0.stages.0.present: got False; expected true"),
    ("jobs.0.stages.0.tasks", [], "jobs.0.stages.0.tasks: got 0; expected at least one task"),
    ("jobs.0.stages.4.present", False, "jobs.0.stages.4.tasks: got 1; expected no task"),
    ("jobs.0.stages.1.id", "classify", "jobs.0.stages.1.id: got 'classify'; expected ids that differ"),
    ("jobs.0.stages.1.stage", "classify", "jobs.0.stages.1.stage: got 'classify'; expected one entry"),
    ("jobs.0.stages", [], "jobs.0.stages: got no classify"),
    ("jobs.2.stages.3.parents", ["answer"], "jobs.2.stages.3.parents: got 'answer'; expected the id of a stage"),
    ("jobs.2.stages.2.id", "flights-out", "jobs.2.stages.2.id: got 'flights-out'"),
    (f"{LLM_TASK}.prompt_tokens", 0, f"{LLM_TASK}.prompt_tokens: got 0"),
    (f"{LLM_TASK}.prompt_tokens", 1.5, f"{LLM_TASK}.prompt_tokens: got 1.5"),
    (f"{LLM_TASK}.prompt_tokens", True, f"{LLM_TASK}.prompt_tokens: got True"),
    (f"{LLM_TASK}.output_tokens", None, f"{LLM_TASK}.output_tokens: got nothing"),
    (f"{LLM_TASK}.duration_s", 1.0, f"{LLM_TASK}.duration_s: got 1.0; expected tokens"),
    (f"{LLM_TASK}.model", "gpt", f"{LLM_TASK}.model: got 'gpt'; expected one of default"),
    (f"{LLM_TASK}.app_prefix", "guidelines", f"{LLM_TASK}.app_prefix: got 'guidelines'"),
    (f"{LLM_TASK}.app_prefix_tokens", 9999, f"{LLM_TASK}.app_prefix_tokens: got 9999"),
    (f"{LLM_TASK}.job_prefix_tokens", 500, f"{LLM_TASK}.job_prefix_tokens: got 500; expected nothing without"),
    ("jobs.0.stages.2.tasks.0.job_prefix_tokens", 100, "jobs.0.stages.2.tasks.0.job_prefix_tokens: got 100"),
    ("jobs.0.stages.1.tasks.0.duration_s", -0.5, "jobs.0.stages.1.tasks.0.duration_s: got -0.5"),
    ("jobs.0.stages.1.tasks.0.duration_s", None, "jobs.0.stages.1.tasks.0.duration_s: got nothing"),
    ("jobs.0.stages.1.tasks.0.model", "default", "jobs.0.stages.1.tasks.0.model: got a value; expected only"),
]


@pytest.mark.parametrize(("place", "value", "message"), ERRORS, ids=[f"{p}={v}" for p, v, _ in ERRORS])
def test_errors_have_a_place(example: dict[str, Any], tmp_path: Path, place: str, value: Any, message: str) -> None:
    *folders, last = place.split(".")
    target: Any = example
    for part in folders:
        target = target[int(part)] if part.isdigit() else target[part]
    target[last] = value
    path = tmp_path / "t.json"
    path.write_text(json.dumps(example))
    with pytest.raises(InputError) as caught:
        read_job_trace(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert message in line
    assert "\n" not in line
    assert len(line) < 400 + len(str(path))


def test_too_many_stages_say_what_to_do(example: dict[str, Any], tmp_path: Path) -> None:
    example["applications"][0]["stages"] = [{"name": f"s{n}", "kind": "llm"} for n in range(1001)]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(example))
    message = r"applications.0.stages: got 1001 stages; expected at most 1000 in an application: stages of"
    with pytest.raises(InputError, match=message):
        read_job_trace(path)


def test_a_stage_asks_for_one_model(example: dict[str, Any], tmp_path: Path) -> None:
    example["models"] = ["small", "large"]
    stage = example["jobs"][0]["stages"][0]
    stage["tasks"] = [{**stage["tasks"][0], "model": "large"}, {**stage["tasks"][0], "model": "small"}]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(example))
    with pytest.raises(
        InputError, match=r"tasks\.1\.model: got 'small'; expected large, as the first task: a stage asks"
    ):
        read_job_trace(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "line 1, column 2: got no JSON (Expecting property name"),
        (b"", "line 1, column 1: got no JSON (Expecting value)"),
        (b"[]", "t.json: got []; expected a job trace"),
        (b"\xff\xfe{}", "line 1: got UTF-16 text; expected a job trace"),
        (b"\xef\xbb\xbf[]", "t.json: got []; expected a job trace"),
        ('{"a": 1}'.encode("utf-16-le"), "line 1: got a null character; expected a job trace"),
        (b"[" * 100_000, "t.json: line 1: got values nested too deeply; expected a job trace"),
        (b"9" * 5000, "t.json: line 1: got a number of too many digits; expected a job trace"),
        (EXAMPLE.read_bytes()[:-200], "got no JSON"),
    ],
)
def test_files_that_are_not_json(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_job_trace(path)
    assert message in str(caught.value)


def test_arrivals_beyond_a_trace_are_refused(tmp_path: Path) -> None:
    late = generate("w", {"certain": 1.0}, Poisson(), 1e-6, 40, "train", 0, applications=TOY_APPLICATIONS)
    with pytest.raises(InputError, match=r"arrival_s: got .*; expected arrivals up to 2e\+06 s"):
        write_job_trace(late, tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []
