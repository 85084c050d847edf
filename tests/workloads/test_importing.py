"""Recordings of agents become the jobs that ran: structure, tokens, prefixes, and nothing assumed without a word."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_recordings import S, agent, chat, document, lines_of, random_runs, span, tool, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsched_gym.cli import main
from llmsched_gym.workloads.importing.ordering import OVERLAP_NS, Item, predecessors
from llmsched_gym.workloads.importing.otel_exact import write_otel
from llmsched_gym.workloads.importing.workload import Choices, Imported, import_workload
from llmsched_gym.workloads.jobtrace import read_job_trace, write_job_trace
from llmsched_gym.workloads.store import load
from llmsched_gym.workloads.workload import Workload


def imported(tmp_path: Path, spans: Sequence[dict[str, Any]], choices: Choices | None = None) -> Imported:
    return import_workload([write(tmp_path / "trace.jsonl", document(spans))], choices)


def names(workload: Workload, job: int = 0) -> list[str]:
    """The stages of a job that are there, in their order."""
    nodes = workload.templates[workload.jobs["app"][job]].nodes
    return [nodes[stage["node"]].name for stage in rows(workload, job) if stage["present"]]


def rows(workload: Workload, job: int) -> Any:
    first, count = (int(workload.jobs[column][job]) for column in ("first_stage", "n_stages"))
    return workload.stages[first : first + count]


def edges(workload: Workload, job: int = 0) -> set[tuple[str, str]]:
    """Which stages that are there follow which, through absent ones."""
    nodes = workload.templates[workload.jobs["app"][job]].nodes
    first = int(workload.jobs["first_stage"][job])
    stages = rows(workload, job)
    found = set()
    for stage in stages:
        below = workload.children[stage["first_child"] : stage["first_child"] + stage["n_children"]] - first
        found |= {(nodes[stage["node"]].name, nodes[stages[c]["node"]].name) for c in below}
    present = set(names(workload, job))
    return {(a, b) for a, b in found if a in present and b in present}


def assumed(found: Imported, words: str) -> int:
    """How often something was assumed."""
    counts = [int(line.split()[0]) for line in found.assumptions if words in line]
    assert len(counts) <= 1, found.assumptions
    return counts[0] if counts else 0


LOOP = [
    agent("1/a", 0, 10),
    chat("1/b/a", 0, 1, (100, 10), model="large"),
    tool("1/c/a", 1.01, 2, "search"),
    chat("1/d/a", 2.1, 3, (150, 20), model="large"),
]


# OpenTelemetry: structure


def test_a_loop_becomes_a_chain(tmp_path: Path) -> None:
    longer = [agent("2/a", 5, 20), chat("2/b/a", 5, 6), tool("2/c/a", 6.1, 7), chat("2/d/a", 7.1, 8)]
    longer += [tool("2/e/a", 8.1, 9, "fetch"), chat("2/f/a", 9.1, 10)]
    found = imported(tmp_path, [*LOOP, *longer])
    workload = found.workload
    assert [(n.name, n.parents, n.revealed_by) for n in workload.templates[0].nodes] == [
        ("llm-1", (), None),
        ("search-1", ("llm-1",), None),
        ("llm-2", ("search-1",), None),
        ("fetch-2", ("llm-2",), "llm-2"),
        ("llm-3", ("fetch-2",), "llm-2"),
    ]
    assert workload.templates[0].name == "helper"
    assert workload.templates[0].type == "chain"
    assert names(workload) == ["llm-1", "search-1", "llm-2"]
    assert workload.jobs["arrival_ns"].tolist() == [0, 5 * S]
    assert workload.tasks["prompt_tokens"].tolist()[:3] == [100, 0, 150]
    assert workload.tasks["duration_ns"][1] == 0.99 * S
    assert workload.models == ("default", "large")


def test_order_of_spans_and_of_lines_does_not_matter(tmp_path: Path) -> None:
    documents = random_runs(3, 12)
    flat = [one for part in documents for one in part["resourceSpans"][0]["scopeSpans"][0]["spans"]]
    random.Random(5).shuffle(flat)
    by_run = import_workload([write(tmp_path / "a.jsonl", *documents)])
    single = write(tmp_path / "b.jsonl", *(document([one], **{"service.name": "made-up"}) for one in flat))
    assert import_workload([single]).workload.digest == by_run.workload.digest
    whole = tmp_path / "c.json"
    whole.write_text(json.dumps(document(flat, **{"service.name": "made-up"}), indent=1))
    assert import_workload([whole]).workload.digest == by_run.workload.digest
    packed = tmp_path / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(single.read_bytes()))
    assert import_workload([packed]).workload.digest == by_run.workload.digest


def test_tools_side_by_side_are_tasks_of_one_stage(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1), chat("1/f/a", 4.1, 5)]
    spans += [tool(f"1/t{k}/a", 1.1, 2 + k, "search") for k in range(3)] + [tool("1/u/a", 1.2, 3, "fetch")]
    workload = imported(tmp_path, spans).workload
    assert names(workload) == ["llm-1", "fetch-1", "search-1", "llm-2"]
    assert workload.stages["n_tasks"].tolist() == [1, 1, 3, 1]
    assert edges(workload) == {("llm-1", "fetch-1"), ("llm-1", "search-1"), ("fetch-1", "llm-2"), ("search-1", "llm-2")}


def test_agents_side_by_side_wait_for_nothing_of_each_other(tmp_path: Path) -> None:
    """By time alone the second call of each would follow the first call of the other, too."""
    spans = [agent("1/r", 0, 20), chat("1/p/r", 0, 1)]
    for name, start in (("left", 1.1), ("right", 1.2)):
        spans += [agent(f"1/{name}/r", start, start + 6, name), chat(f"1/{name}1/{name}", start, start + 1)]
        spans += [tool(f"1/{name}2/{name}", start + 1.01, start + 3), chat(f"1/{name}3/{name}", start + 3.5, start + 5)]
    spans += [chat("1/z/r", 8, 9)]
    workload = imported(tmp_path, spans).workload
    assert edges(workload) == {
        ("llm-1", "left.llm-2"),
        ("llm-1", "right.llm-2"),
        ("left.llm-2", "left.search-2"),
        ("right.llm-2", "right.search-2"),
        ("left.search-2", "left.llm-3"),
        ("right.search-2", "right.llm-3"),
        ("left.llm-3", "llm-4"),
        ("right.llm-3", "llm-4"),
    }


def test_a_tool_that_calls_an_llm_keeps_the_time_of_its_own(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1), tool("1/c/a", 1.1, 5.1, "ask"), chat("1/d/c", 2, 4)]
    found = imported(tmp_path, [*spans, chat("1/e/a", 6, 7)])
    assert names(found.workload) == ["llm-1", "ask-1", "llm-2", "llm-3"]
    assert found.workload.tasks["duration_ns"][1] == 2 * S
    assert assumed(found, "tools that call others") == 1


def test_calls_that_two_libraries_recorded_count_once(tmp_path: Path) -> None:
    outer = chat("1/b/a", 0, 2, (70, 7), model="large")
    spans = [agent("1/a", 0, 9), outer, span("1/http/b", "", 0, 2), span("1/c/http", "chat", 0.1, 1.9)]
    spans += [tool("1/t/a", 2.1, 3, "search"), tool("1/u/t", 2.2, 2.9, "search")]
    found = imported(tmp_path, spans)
    assert names(found.workload) == ["llm-1", "search-1"]
    assert assumed(found, "calls of an LLM that hold others") == 1
    assert assumed(found, "tools inside the very same tool") == 1


def test_attempts_inside_one_call_are_calls(tmp_path: Path) -> None:
    failed = span("1/c/b", "chat", 0.1, 0.5, status={"code": 2})
    spans = [agent("1/a", 0, 9), span("1/b/a", "chat", 0, 3), failed, chat("1/d/b", 0.6, 1), chat("1/e/b", 1.1, 2)]
    found = imported(tmp_path, spans)
    assert names(found.workload) == ["llm-1", "llm-2"]
    assert assumed(found, "failed without output") == 1


def test_callers_that_were_sampled_away_are_counted(tmp_path: Path) -> None:
    found = imported(tmp_path, [one for one in LOOP if one["spanId"] != "a"])
    assert names(found.workload) == ["llm-1", "search-1", "llm-2"]
    assert found.workload.templates[0].name == "chat"
    assert assumed(found, "whose caller is not in the file") == 3


def test_clocks_of_other_processes_are_moved_into_the_call(tmp_path: Path) -> None:
    """A tool server whose clock is 100 s late, between two calls of the agent."""
    here = document([agent("1/a", 0, 9), chat("1/b/a", 0, 1), tool("1/c/a", 1.1, 4, "ask"), chat("1/f/a", 5, 6)], pid=1)
    there = document([chat("1/d/c", -99, -98), chat("1/e/c", -97.9, -97)], pid=2)
    found = import_workload([write(tmp_path / "t.jsonl", here, there)])
    assert assumed(found, "start before their caller") == 2
    assert edges(found.workload) == {("llm-1", "ask-1"), ("ask-1", "llm-2"), ("llm-2", "llm-3"), ("llm-3", "llm-4")}


def test_slightly_overlapping_calls_follow_each_other(tmp_path: Path) -> None:
    """A stream that is closed after the tool was started."""
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1), tool("1/c/a", 0.9995, 2), chat("1/d/a", 1.9995, 3)]
    assert names(imported(tmp_path, spans).workload) == ["llm-1", "search-1", "llm-2"]


def test_agents_of_which_nothing_was_recorded(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1), agent("1/c/a", 1.1, 3, "remote")]
    spans += [agent("1/d/a", 3.1, 5, "told", input_tokens=50, output_tokens=5)]
    found = imported(tmp_path, spans)
    assert names(found.workload) == ["llm-1", "remote-1", "llm-2"]
    assert found.workload.tasks["prompt_tokens"].tolist() == [100, 0, 50]
    assert assumed(found, "a tool of their duration") == assumed(found, "one call of an LLM with their tokens") == 1


def test_what_is_a_tool_and_what_is_left_out(tmp_path: Path) -> None:
    spans = [
        agent("1/a", 0, 20),
        span("1/b/a", "create_agent", 0, 1),
        span("1/c/a", "embeddings", 1, 2, input_tokens=9),
    ]
    spans += [span("1/d/a", "retrieval", 2.1, 3), span("1/e/a", "plan", 3.1, 5), chat("1/f/e", 3.2, 4)]
    spans += [span("1/g/a", "", 5, 6), span("1/h/a", "dream", 6, 7), span("1/i/a", "dream", 7, 8, tool="nap")]
    found = imported(tmp_path, spans)
    assert names(found.workload) == ["embeddings-0", "retrieval-0.2", "llm-1", "nap-1"]
    assert assumed(found, "create_agent") == 1
    assert (
        assumed(found, "'dream', which is not known: tools")
        == assumed(found, "'dream', which is not known: callers")
        == 1
    )


def test_older_names_are_read(tmp_path: Path) -> None:
    attributes = {"gen_ai.system": "openai", "gen_ai.response.model": "old", "gen_ai.usage.prompt_tokens": 7}
    old = span("1/a", "", 0, 1)
    old["attributes"] = [
        {"key": key, "value": {"intValue": value} if isinstance(value, int) else {"stringValue": value}}
        for key, value in {**attributes, "gen_ai.usage.completion_tokens": 3}.items()
    ]
    workload = imported(tmp_path, [old]).workload
    assert workload.models == ("old",)
    assert workload.tasks[["prompt_tokens", "output_tokens"]].tolist() == [(7, 3)]


def test_traces_of_other_programs_are_left_out(tmp_path: Path) -> None:
    found = imported(tmp_path, [*LOOP, span("9/a", "", 0, 1), span("9/b/a", "", 0, 1)])
    assert found.workload.n_jobs == 1
    assert assumed(found, "traces without a call") == 1


def test_runs_by_agent(tmp_path: Path) -> None:
    batch = [span("1/root", "", 0, 100)]
    for k in range(3):
        batch += [agent(f"1/a{k}/root", 10 * k, 10 * k + 5), chat(f"1/b{k}/a{k}", 10 * k, 10 * k + 1)]
    assert imported(tmp_path, batch).workload.n_jobs == 1
    workload = imported(tmp_path, batch, Choices(runs="agent")).workload
    assert workload.jobs["arrival_ns"].tolist() == [0, 10 * S, 20 * S]
    assert len(workload.templates) == 1


# OpenTelemetry: tokens, models, prefixes


def test_conversations_repeat_what_they_held(tmp_path: Path) -> None:
    tokens = [(100, 10), (150, 20), (165, 5), (400, 30), (50, 5), (80, 5)]
    spans = [agent("1/a", 0, 99)]
    spans += [chat(f"1/c{k}/a", 10.0 * k, 10.0 * k + 1, both) for k, both in enumerate(tokens)]
    found = imported(tmp_path, spans)
    tasks = found.workload.tasks
    assert tasks["job_prefix_tokens"].tolist() == [0, 110, 165, 170, 0, 55]
    assert len(set(tasks["job_prefix"][:4].tolist())) == 1
    assert len(set(tasks["job_prefix"].tolist())) == 2
    assert assumed(found, "no room for the whole answer") == 1
    assert assumed(found, "a shorter prompt") == 1


def test_conversations_do_not_mix(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 99)]
    for k, name in enumerate(["x", "y", "x", "y"]):
        spans.append(chat(f"1/c{k}/a", 10.0 * k, 10.0 * k + 1, (100 * (k + 1), 10), conversation=name))
    assert imported(tmp_path, spans).workload.tasks["job_prefix_tokens"].tolist() == [0, 0, 110, 210]


def test_siblings_share_what_was_before_both(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 99), chat("1/b/a", 0, 1, (100, 10))]
    spans += [chat(f"1/c{k}/a", 2, 5 + k, (200 + k, 10), model=f"m{k // 2}") for k in range(2)]
    tasks = imported(tmp_path, list(spans)).workload.tasks
    assert tasks["job_prefix"].tolist() == [-1, -1, -1]  # other models hold other caches
    spans = [agent("1/a", 0, 99), chat("1/b/a", 0, 1, (100, 10))]
    spans += [chat(f"1/c{k}/a", 2, 5 + k, (200 + k, 10)) for k in range(2)]
    tasks = imported(tmp_path, spans).workload.tasks
    assert tasks["job_prefix_tokens"].tolist() == [0, 110, 110]


def test_cached_tokens_of_first_calls_are_shared_by_runs(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1, (100, 10), cached=64), chat("1/c/a", 2, 3, (150, 10), cached=96)]
    tasks = imported(tmp_path, spans).workload.tasks
    assert tasks["app_prefix"].tolist() == [0, 0]
    assert tasks["app_prefix_tokens"].tolist() == [64, 64]
    assert tasks["job_prefix_tokens"].tolist() == [64, 110]


def test_missing_tokens_are_those_of_the_most_similar_calls(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 99)]
    spans += [chat(f"1/c{k}/a", 2.0 * k, 2.0 * k + 1, (100 + k, 10 + k), model="m") for k in range(4)]
    spans += [span("1/x/a", "chat", 20, 21, model="m"), chat("1/y/a", 22, 23, (0, 3))]
    found = imported(tmp_path, spans)
    assert found.workload.tasks[["prompt_tokens", "output_tokens"]].tolist()[-2:] == [(101, 11), (1, 3)]
    assert assumed(found, "calls without input tokens") == assumed(found, "calls of no input tokens") == 1


def test_tools_without_a_duration(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 99), chat("1/b/a", 0, 1)]
    spans += [tool("1/c/a", 2, 4), tool("1/d/a", 5, 8), tool("1/e/a", 10, 9), tool("1/f/a", 12, 12, "other")]
    spans[-1]["endTimeUnixNano"] = "0"
    found = imported(tmp_path, spans)
    assert found.workload.tasks["duration_ns"].tolist() == [0, 2 * S, 3 * S, 2 * S, 0]
    assert assumed(found, "end before they start") == 1
    assert assumed(found, "a duration: the median of the same tool") == assumed(found, "a duration: no time") == 1


def test_models_may_be_replaced(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), chat("1/b/a", 0, 1, model="x"), chat("1/c/a", 2, 3, model="y"), chat("1/d/a", 4, 5)]
    assert imported(tmp_path, spans).workload.models == ("default", "x", "y")
    assert imported(tmp_path, spans, Choices(models={"x": "z", "": "z"})).workload.models == ("y", "z")
    assert imported(tmp_path, spans, Choices(models={"*": "default"})).workload.models == ("default",)


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
