"""WfCommons instances and step logs as jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agent_recordings import S, document, lines_of, write
from imported import LOOP, assumed, edges

from llmsched_gym.workloads.importing.otel_exact import write_otel
from llmsched_gym.workloads.importing.workload import Choices, import_workload

# WfCommons


def instance(tasks: list[dict[str, Any]], ran: dict[str, Any], files: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "name": "flow",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": tasks,
                "files": [{"id": name, "sizeInBytes": size} for name, size in (files or {}).items()],
            },
            "execution": {
                "makespanInSeconds": 9,
                "executedAt": "2026-03-01T10:00:00Z",
                "tasks": [
                    {"id": name, **(one if isinstance(one, dict) else {"runtimeInSeconds": one})}
                    for name, one in ran.items()
                ],
            },
        },
    }


def task(name: str, parents: str = "", children: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name[0], "id": name, "parents": parents.split(), "children": children.split(), **more}


def test_workflows_are_jobs(tmp_path: Path) -> None:
    tasks = [
        task("s1", "", "w1 w2 w3", outputFiles=["a", "unread"]),
        *(task(f"w{k}", "s1", "e1", inputFiles=["a"], outputFiles=[f"o{k}"]) for k in (1, 2, 3)),
        task("e1", "w1 w2 w3", "", inputFiles=["o1", "o2"]),
    ]
    files = {"a": 1000, "unread": 5, "o1": 10, "o2": 20, "o3": 30}
    ran = {"s1": 1.5, "w1": 2, "w2": 3, "w3": 4, "e1": {"inputTokens": 50, "outputTokens": 5, "model": "m"}}
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(instance(tasks, ran, files)))
    workload = import_workload([path]).workload
    assert workload.templates[0].name == "flow"
    assert edges(workload) == {("s-0", "w-0.2"), ("w-0.2", "e-1")}
    assert workload.tasks["duration_ns"].tolist() == [1.5 * S, 2 * S, 3 * S, 4 * S, 0]
    assert workload.tasks["output_bytes"].tolist() == [1000, 10, 20, 0, 20]
    assert workload.models == ("m",)
    write_otel(workload, tmp_path / "out.jsonl")
    assert import_workload([tmp_path / "out.jsonl"]).workload.digest == workload.digest


def test_older_workflows(tmp_path: Path) -> None:
    """1.4: files stand in the tasks, and run times beside them."""
    tasks = [
        {"name": "x", "id": "1", "parents": [], "children": ["2"], "runtimeInSeconds": 2.5,
         "files": [{"link": "output", "name": "f", "sizeInBytes": 7}]},
        {"name": "y", "id": "2", "parents": ["1"], "children": [], "runtimeInSeconds": 1,
         "files": [{"link": "input", "name": "f", "sizeInBytes": 7}]},
    ]  # fmt: skip
    path = tmp_path / "flow.json"
    path.write_text(json.dumps({"name": "old", "schemaVersion": "1.4", "workflow": {"tasks": tasks}}))
    workload = import_workload([path]).workload
    assert workload.tasks["duration_ns"].tolist() == [2.5 * S, 1 * S]
    assert workload.tasks["output_bytes"].tolist() == [7, 0]


def test_workflows_with_more_stages_than_allowed_say_what_to_do(tmp_path: Path) -> None:
    from llmsched_gym.errors import InputError

    chain = [task(f"t{n}", f"t{n - 1}" if n else "", f"t{n + 1}" if n < 1200 else "") for n in range(1201)]
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(instance(chain, {})))
    with pytest.raises(
        InputError, match=r"application flow: got 1201 stages; expected at most 1000: stages of one kind"
    ):
        import_workload([path])
    wide = [task("s0", "", " ".join(f"w{n}" for n in range(2000))), *(task(f"w{n}", "s0") for n in range(2000))]
    path.write_text(json.dumps(instance(wide, {})))
    assert import_workload([path]).workload.stages["n_tasks"].tolist() == [1, 2000]


# Step logs


def test_step_logs_as_csv_and_as_json_lines(tmp_path: Path) -> None:
    header = "run,kind,start,duration_s,input_tokens,output_tokens,tool,model,thought"
    text = f"""{header}
r1,llm,2026-03-01T10:00:00Z,1.5,100,10,,m,"first, then"
r1,tool,2026-03-01T10:00:02Z,2,,,bash,,
r1,llm,2026-03-01T10:00:05Z,1,150,20,,m,
r2,llm,2026-03-01T10:01:00Z,1,90,9,,m,
"""
    (tmp_path / "react.csv").write_text(text)
    found = import_workload([tmp_path / "react.csv"])
    workload = found.workload
    assert workload.templates[0].name == "react"
    assert [n.name for n in workload.templates[0].nodes] == ["llm-1", "bash-1", "llm-2"]
    assert workload.jobs["arrival_ns"].tolist() == [0, 60 * S]
    assert workload.tasks["job_prefix_tokens"].tolist() == [0, 0, 110, 0]
    assert assumed(found, "column that is not read: thought") == 1
    lines: list[tuple[Any, ...]] = [
        ("r1", "llm", 1767225600, 1.5, 100, 10, None, "m", ""),
        ("r1", "tool", 1767225602, 2, None, None, "bash", None, ""),
        ("r1", "llm", 1767225605.0, 1, 150, 20, None, "m", ""),
        ("r2", "llm", 1767225660, 1, 90, 9, None, "m", ""),
    ]
    rows: list[dict[str, Any]] = [dict(zip(header.split(","), line, strict=True)) for line in lines]
    (tmp_path / "react.jsonl").write_text(lines_of(rows))
    assert import_workload([tmp_path / "react.jsonl"]).workload.digest == workload.digest


def test_steps_without_times_follow_each_other(tmp_path: Path) -> None:
    rows = [
        {"run": 1, "kind": "llm", "input_tokens": 10, "output_tokens": 1, "agent": "a"},
        {"run": 1, "kind": "tool", "tool": "x", "duration_s": 1},
        {"run": 2, "kind": "llm", "input_tokens": 10, "output_tokens": 1, "agent": "a"},
    ]
    (tmp_path / "log.jsonl").write_text(lines_of(rows))
    found = import_workload([tmp_path / "log.jsonl"])
    assert edges(found.workload) == {("llm-1", "x-1")}
    assert assumed(found, "follow each other as they stand") == 2
    assert assumed(found, "without a time of their start") == 2
    spaced = import_workload([tmp_path / "log.jsonl"], Choices(every_s=2.5)).workload
    assert spaced.jobs["arrival_ns"].tolist() == [0, 2.5 * S]


def test_steps_may_say_what_they_follow(tmp_path: Path) -> None:
    rows = [
        {"run": 1, "step": "a", "kind": "llm", "input_tokens": 10, "output_tokens": 1},
        {"run": 1, "step": "b", "kind": "tool", "tool": "x", "after": "a", "output_bytes": 9},
        {"run": 1, "step": "c", "kind": "tool", "tool": "y", "after": ["a"]},
        {"run": 1, "step": "d", "kind": "llm", "input_tokens": 10, "output_tokens": 1, "after": "b c"},
    ]
    (tmp_path / "log.jsonl").write_text(lines_of(rows))
    workload = import_workload([tmp_path / "log.jsonl"]).workload
    assert edges(workload) == {("llm-1", "x-1"), ("llm-1", "y-1"), ("x-1", "llm-2"), ("y-1", "llm-2")}


def test_files_of_several_kinds_are_one_workload(tmp_path: Path) -> None:
    trace = write(tmp_path / "t.jsonl", document(LOOP))
    (tmp_path / "flow.json").write_text(json.dumps(instance([task("s1")], {"s1": 1})))
    (tmp_path / "log.csv").write_text("run,kind,start,duration_s,tool\n1,tool,1767225601,2,bash\n")
    workload = import_workload([trace, tmp_path / "flow.json", tmp_path / "log.csv"], Choices(every_s=1.0)).workload
    assert [template.name for template in workload.templates] == ["flow", "helper", "log"]
    assert workload.jobs["arrival_ns"].tolist() == [0, S, 2 * S]
