"""Recorded runs as jobs: templates, round trips, what was past, what can be done with them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_recordings import S, agent, chat, document, random_runs, tool, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imported import LOOP, assumed, imported, names, rows

from llmsched_gym.cli import main
from llmsched_gym.workloads.importing.ordering import OVERLAP_NS, Item, predecessors
from llmsched_gym.workloads.importing.otel_exact import write_otel
from llmsched_gym.workloads.importing.workload import Choices, import_workload
from llmsched_gym.workloads.jobtrace import read_job_trace, write_job_trace
from llmsched_gym.workloads.store import load
from llmsched_gym.workloads.workload import Workload

# Templates


def test_runs_that_begin_differently_get_a_stage_before_all(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1), agent("2/a", 0, 9), tool("2/b/a", 0, 1), chat("2/c/a", 2, 3)]
    found = imported(tmp_path, spans)
    nodes = found.workload.templates[0].nodes
    assert [(n.name, n.parents, n.revealed_by) for n in nodes] == [
        ("start", (), None),
        ("search-0", ("start",), "start"),
        ("llm-1", ("start", "search-0"), None),
    ]
    assert assumed(found, "begin differently") == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 15))
def test_jobs_wait_for_what_was_recorded(tmp_path: Path, seed: int, n_runs: int) -> None:
    """Whatever the template says, a job's stages have the same ways as its run: absent ones add no waiting."""
    path = write(tmp_path / "t.jsonl", *random_runs(seed, n_runs))
    whole = import_workload([path]).workload
    documents = path.read_text().splitlines()
    arrivals = [min(int(one["startTimeUnixNano"]) for one in spans_of(text)) for text in documents]
    for job, run in enumerate(sorted(range(n_runs), key=lambda n: arrivals[n])):
        alone = import_workload([write(tmp_path / "one.jsonl", json.loads(documents[run]))]).workload
        present = [one for one in names(whole, job) if one != "start"]
        assert present == names(alone)
        assert ways(whole, job) == ways(alone, 0)


def spans_of(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]


def ways(workload: Workload, job: int) -> dict[str, set[str]]:
    """What ran before each stage that is there, when absent ones count as done with what reveals them."""
    nodes = workload.templates[workload.jobs["app"][job]].nodes
    stages, first = rows(workload, job), int(workload.jobs["first_stage"][job])
    before: list[set[int]] = [set() for _ in stages]
    for s, stage in enumerate(stages):
        if not stage["present"]:
            gate = int(stage["revealer"]) - first
            before[s] = before[gate] | {gate}
        elif stage["revealer"] >= 0:
            before[s] |= before[int(stage["revealer"]) - first] | {int(stage["revealer"]) - first}
        for child in workload.children[stage["first_child"] : stage["first_child"] + stage["n_children"]] - first:
            before[child] |= before[s] | ({s} if stage["present"] else set())
    return {
        nodes[stage["node"]].name: {nodes[stages[b]["node"]].name for b in before[s]} - {"start"}
        for s, stage in enumerate(stages)
        if stage["present"] and nodes[stage["node"]].name != "start"
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), min_size=1, max_size=14))
def test_predecessors_in_time_are_those_of_a_plain_loop(times: list[tuple[int, int]]) -> None:
    items = [Item(s * S, (s + d) * S, n) for n, (s, d) in enumerate(times)]
    found = predecessors(Item(0, 60 * S, -1, list(items)), len(items), "t", "")
    ordered = sorted(items, key=lambda one: (one.start_ns, one.end_ns))
    for k, one in enumerate(ordered):
        slack = [min(OVERLAP_NS, min(o.end_ns - o.start_ns, one.end_ns - one.start_ns) // 2) for o in ordered[:k]]
        ended = {o.step for o, more in zip(ordered[:k], slack, strict=True) if o.end_ns <= one.start_ns + more}
        reached: set[int] = set()
        waiting = list(found[one.step])
        while waiting:
            step = waiting.pop()
            reached.add(step)
            waiting.extend(found[step])
        assert reached == ended
        for step in found[one.step]:  # and none that another of them follows
            assert not any(step in found[other] for other in found[one.step])


# Round trips


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_import_export_import_has_one_digest(tmp_path: Path, seed: int, n_runs: int) -> None:
    first = import_workload([write(tmp_path / "t.jsonl", *random_runs(seed, n_runs))]).workload
    write_otel(first, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    random.Random(seed).shuffle(lines)
    (tmp_path / "out.jsonl").write_text("\n".join(lines))
    again = import_workload([tmp_path / "out.jsonl"])
    assert again.workload.digest == first.digest
    assert again.assumptions == ()
    write_job_trace(first, tmp_path / "out.json")
    assert read_job_trace(tmp_path / "out.json").digest == first.digest


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4))
def test_any_workload_comes_back(tmp_path: Path, seed: int, n_apps: int, n_jobs: int) -> None:
    """With plans, gates, shared prefixes and histories that no recording has."""
    from random_workloads import random_draft

    workload = random_draft(np.random.default_rng(seed), n_apps, n_jobs, 5, 10**10).assemble()
    write_otel(workload, tmp_path / "out.jsonl")
    assert import_workload([tmp_path / "out.jsonl"]).workload.digest == workload.digest


def test_exported_traces_tell_others_what_ran(tmp_path: Path) -> None:
    workload = imported(tmp_path, LOOP).workload
    write_otel(workload, tmp_path / "out.jsonl")
    spans = spans_of((tmp_path / "out.jsonl").read_text())
    assert [one["name"] for one in spans] == [
        "invoke_agent helper",
        "chat large",
        "execute_tool search-1",
        "chat large",
    ]
    times = [(int(one["startTimeUnixNano"]), int(one["endTimeUnixNano"])) for one in spans]
    assert times[1][1] == times[2][0] == times[0][0] + times[1][1] - times[1][0]
    assert times[2][1] - times[2][0] == 0.99 * S
    own = [a["key"] for one in spans for a in one["attributes"] if a["key"].startswith("llmsched_gym.")]
    assert own
    for one in spans:  # what is left is a trace like any other
        one["attributes"] = [a for a in one["attributes"] if not a["key"].startswith("llmsched_gym.")]
    plain = imported(tmp_path, spans).workload
    assert plain.tasks["prompt_tokens"].tolist() == workload.tasks["prompt_tokens"].tolist()
    assert plain.tasks["duration_ns"].tolist() == workload.tasks["duration_ns"].tolist()


def test_the_past_is_kept_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *random_runs(1, 40))
    found = import_workload([path], Choices(past_share=0.5))
    assert found.past is not None
    assert found.past.templates == found.workload.templates
    assert found.past.n_jobs + found.workload.n_jobs == 40
    assert found.workload.jobs["arrival_ns"][0] == found.past.jobs["arrival_ns"][0] == 0
    for now, before in zip(found.workload.history, found.past.history, strict=True):
        assert np.array_equal(now, before)
    write_otel(found.workload, tmp_path / "out.jsonl")
    assert import_workload([tmp_path / "out.jsonl"]).workload.digest == found.workload.digest


# What comes of it


def test_a_profile_learns_from_imported_runs(tmp_path: Path) -> None:
    """The made-up agents' first answers tell how many rounds follow."""
    pytest.importorskip("pgmpy")
    from llmsched_gym.profiler.fit import fit_profile

    rng = random.Random(0)
    spans = []
    for run in range(300):
        rounds, start = rng.randrange(1, 4), 30.0 * run
        spans.append(agent(f"{run}/a", start, start + 25))
        for k in range(rounds):
            output = 50 * rounds + rng.randrange(20) if k == 0 else rng.randrange(10, 200)
            spans.append(chat(f"{run}/c{k}/a", start + 8 * k, start + 8 * k + 1, (100 + 300 * k, output)))
            if k < rounds - 1:
                spans.append(tool(f"{run}/t{k}/a", start + 8 * k + 2, start + 8 * k + 3 + 4 * rng.random()))
    profile = fit_profile("helper", [imported(tmp_path, spans).workload])
    loss = profile.provenance["log_loss_nats_per_job"]
    assert loss["network"] < loss["independent"] - 1.0
    later = {variable.name: parents for variable, parents in zip(profile.variables, profile.parents, strict=True)}
    assert [variable.name for variable in profile.variables] == ["llm-1", "search-1", "llm-2", "search-2", "llm-3"]
    assert later["llm-2"] + later["search-1"]
    assert 0 in {parent for name in ("search-1", "llm-2", "search-2", "llm-3") for parent in later[name]}


def test_tools_of_large_agents_are_not_told_apart(tmp_path: Path) -> None:
    spans = []
    for run in range(2):
        spans.append(agent(f"{run}/a", 0, 500))
        for k in range(20):
            spans += [chat(f"{run}/c{k}/a", 10 * k, 10 * k + 1)]
            spans += [tool(f"{run}/t{k}{n}/a", 10 * k + 2, 10 * k + 4, f"tool{n + run}") for n in range(2)]
    found = imported(tmp_path, spans)
    assert [node.name for node in found.workload.templates[0].nodes[:4]] == ["llm-1", "tools-1", "llm-2", "tools-2"]
    assert found.workload.stages["n_tasks"][:4].tolist() == [1, 2, 1, 2]
    assert assumed(found, "not told apart by name") == 1
    named = imported(tmp_path, [one for one in spans if one["traceId"] == "0"]).workload
    assert [node.name for node in named.templates[0].nodes[:3]] == ["llm-1", "tool0-1", "tool1-1"]


def test_a_hundred_runs_take_seconds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import import_traces

    monkeypatch.setattr("sys.argv", ["import_traces.py", "--runs", "100", "--json"])
    import_traces.main()
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] < found["target_seconds"] == 10.0
    assert found["digest"] == found["digest_again"]


def test_the_command_says_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = write(tmp_path / "t.jsonl", document(LOOP)), tmp_path / "out.workload"
    assert main(["workload", "import", str(path), "-o", str(output)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("assumed: 2 steps that follow others by when they ran\n")
    assert "asks for large: executors must serve these" in told.err
    assert main(["workload", "import", str(path), "-o", str(output), "--models", "large=default", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["assumed"] == [
        "2 steps that follow others by when they ran",
        "1 calls whose prompt is at least as long as the one before with its answer: they repeat both",
    ]
    assert told.err == ""
    assert load(output).models == ("default",)
