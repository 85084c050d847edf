"""OpenTelemetry traces of agents become the jobs that ran: structure, tokens, models, prefixes."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from agent_recordings import S, agent, chat, document, random_runs, span, tool, write
from imported import LOOP, assumed, edges, imported, names

from llmsched_gym.workloads.importing.workload import Choices, import_workload

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
