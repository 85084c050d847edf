"""Recordings that cannot be used: one line each, which names the file, the place, the value and what is allowed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from agent_recordings import agent, chat, document, span, tool, write

from llmsched_gym.cli import main
from llmsched_gym.errors import InputError
from llmsched_gym.workloads.importing.otel_exact import write_otel
from llmsched_gym.workloads.importing.workload import Choices, import_workload


def otel(*spans: dict[str, Any]) -> bytes:
    return json.dumps(document(spans)).encode()


def changed(one: dict[str, Any], **fields: Any) -> bytes:
    """A trace of one span, with other fields."""
    return otel({**one, **fields})


def told(key: str, value: Any) -> dict[str, Any]:
    """A call with one more attribute, as it stands in the file."""
    one = chat("1/b", 0, 1)
    one["attributes"] = [a for a in one["attributes"] if a["key"] != key] + [{"key": key, "value": value}]
    return one


def flow(**fields: Any) -> bytes:
    """A workflow of two tasks, with other fields of the specification."""
    tasks = [
        {"name": "a", "id": "1", "parents": [], "children": ["2"]},
        {"name": "b", "id": "2", "parents": ["1"], "children": []},
    ]
    whole = {"name": "flow", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": tasks, **fields}}}
    return json.dumps(whole).encode()


def ran(**fields: Any) -> bytes:
    """A workflow of one task that ran so."""
    task = {"name": "a", "id": "1", "parents": [], "children": []}
    execution = {"tasks": [{"id": "1", **fields}]}
    workflow = {"specification": {"tasks": [task]}, "execution": execution}
    return json.dumps({"name": "flow", "schemaVersion": "1.5", "workflow": workflow}).encode()


def steps(*rows: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps({"run": "r", "kind": "tool", **row}) for row in rows).encode()


TOKENS = "gen_ai.usage.input_tokens"
CALL = chat("1/b", 0, 1)
TASK = {"name": "a", "id": "1", "parents": [], "children": []}
DEEP = b'{"resourceSpans":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
NESTED = [agent("1/0", 0, 2)] + [
    one
    for n in range(400)
    for one in (agent(f"1/{n + 1}/{n}", 0, 2, f"a{n}"), chat(f"1/c{n}/{n}", 3 + 2 * n, 4 + 2 * n))
]
SIBLINGS = [agent("1/a", 0, 2), *(chat(f"1/c{n}/a", n, n + 1) for n in range(3001))]
LONG = [agent("1/a", 0, 2), *(chat(f"1/c{n}/a", n, n + 1) for n in range(1001))]

BAD: dict[str, tuple[bytes, str]] = {
    # files
    "empty": (b"", "got nothing; expected an OpenTelemetry trace"),
    "blank": (b" \n\n", "got nothing; expected an OpenTelemetry trace"),
    "binary": (b"\x93NUMPY\x01\x00", "line 1: got bytes that are no UTF-8"),
    "latin-1": ('{"resourceSpans": "é"}'.encode("latin-1"), "line 1: got bytes that are no UTF-8"),
    "UTF-16": ('{"resourceSpans": []}'.encode("utf-16"), "line 1: got UTF-16 text"),
    "cut gzip": (gzip.compress(otel(CALL))[:60], "got a gzip file that is cut short or changed"),
    "no gzip": (b"\x1f\x8b not", "got a gzip file that is cut short or changed"),
    "no JSON": (b"{resourceSpans: 1}", "line 1, column 2: got no JSON"),
    "cut JSON": (otel(CALL)[:-20], "got no JSON"),
    "cut last line": (otel(CALL) + b"\n" + otel(CALL)[:50], "line 2, column 51: got no JSON"),
    "no JSON line": (otel(CALL) + b"\n{}x", "line 2, column 3: got no JSON"),
    "other prose": (b"hello\nworld\n", "line 1: got a first line of hello; expected an OpenTelemetry trace"),
    "YAML": (b"resourceSpans:\n  - 1\n", "line 1: got a first line of resourceSpans:"),
    "deep JSON": (DEEP, "line 1: got values nested too deeply"),
    "a key twice": (b'{"resourceSpans": [], "resourceSpans": []}', "line 1: got 'resourceSpans' twice"),
    "a long number": (b'{"resourceSpans": ' + b"9" * 5000 + b"}", "line 1: got a number of too many digits"),
    "a list of numbers": (b"[1, 2]", "line 1: got 1; expected JSON objects"),
    "an empty list": (b"[]", "got an empty list"),
    "another object": (b'{"spans": []}', "got an object with spans; expected resourceSpans"),
    "a job trace": (b'{"format": "llmsched-gym/job-trace", "version": 1}', "got an object with format, version"),
    "metrics": (b'{"resourceMetrics": []}', "resourceMetrics: got metrics; expected traces: resourceSpans"),
    "logs": (b'{"resourceLogs": []}', "resourceLogs: got logs; expected traces: resourceSpans"),
    "traces and logs": (otel(CALL) + b'\n{"resourceLogs": []}', "line 2: got an object with resourceLogs"),
    # OTLP/JSON
    "no spans": (b'{"resourceSpans": []}', "got no call of an LLM or a tool; expected spans with gen_ai"),
    "no calls": (otel(span("1/a", "", 0, 1)), "got no call of an LLM or a tool; expected spans with gen_ai"),
    "spans are no list": (b'{"resourceSpans": 3}', "resourceSpans: got 3; expected a list"),
    "scopes are no list": (b'{"resourceSpans": [{"scopeSpans": "x"}]}', "resourceSpans.0.scopeSpans: got 'x'"),
    "a span is no mapping": (
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}',
        "spans.0: got 7; expected a map",
    ),
    "a resource is no mapping": (b'{"resourceSpans": [{"resource": [1]}]}', "resourceSpans.0.resource: got"),
    "attributes are no list": (changed(CALL, attributes={"a": 1}), "span b: attributes: got {'a': 1}; expected a list"),
    "an attribute without key": (
        changed(CALL, attributes=[{"value": {}}]),
        r"attributes.0.key: got None; expected text",
    ),
    "no trace id": (changed(CALL, traceId=""), "spans.0.traceId: got nothing; expected an identifier"),
    "no span id": (changed(CALL, spanId=None), "spans.0.spanId: got nothing; expected an identifier"),
    "a number as id": (changed(CALL, spanId=12), "spans.0.spanId: got 12; expected text"),
    "no start": (changed(CALL, startTimeUnixNano="0"), "startTimeUnixNano: got nothing; expected nanoseconds"),
    "a start of text": (changed(CALL, startTimeUnixNano="soon"), "startTimeUnixNano: got 'soon'; expected a whole"),
    "a negative start": (changed(CALL, startTimeUnixNano=-5), "startTimeUnixNano: got -5; expected a whole number"),
    "a start of NaN": (changed(CALL, startTimeUnixNano=float("nan")), "startTimeUnixNano: got nan; expected a whole"),
    "a fraction": (changed(CALL, startTimeUnixNano=1.5), "startTimeUnixNano: got 1.5; expected a whole number"),
    "a late start": (changed(CALL, startTimeUnixNano=str(2**63 - 1)), "expected nanoseconds since 1970, 1 to 2.62"),
    "an endless end": (changed(CALL, endTimeUnixNano="9" * 30), "endTimeUnixNano: got '9999"),
    "in itself": (otel(chat("1/a/a", 0, 1)), "trace 1, span a: parentSpanId: got spans that are inside each other"),
    "in a circle": (
        otel(chat("1/a/b", 0, 1), chat("1/b/a", 0, 1)),
        "parentSpanId: got spans that are inside each other",
    ),
    "a circle beside others": (otel(CALL, tool("1/x/y", 0, 1), tool("1/y/x", 0, 1)), "span x: parentSpanId: got spans"),
    "nested deeply": (otel(*NESTED), "trace 1: got deeper nesting; expected calls at most 300 levels deep"),
    "too many siblings": (otel(*SIBLINGS), "got 3001 calls of one caller; expected at most 3000"),
    "too many stages": (otel(*LONG), "application helper: got 1001 stages; expected at most 1000: stages of one kind"),
    # tokens and times
    "negative tokens": (otel(told(TOKENS, {"intValue": "-3"})), f"trace 1, span b: {TOKENS}: got -3; expected a whole"),
    "tokens of text": (otel(told(TOKENS, {"stringValue": "many"})), f"{TOKENS}: got 'many'; expected a whole number"),
    "half tokens": (otel(told(TOKENS, {"doubleValue": 10.5})), f"{TOKENS}: got 10.5; expected a whole number"),
    "tokens of NaN": (otel(told(TOKENS, {"doubleValue": float("nan")})), f"{TOKENS}: got nan; expected a whole number"),
    "endless tokens": (
        otel(told(TOKENS, {"doubleValue": float("inf")})),
        f"{TOKENS}: got inf; expected a whole number",
    ),
    "true tokens": (otel(told(TOKENS, {"boolValue": True})), f"{TOKENS}: got True; expected a whole number"),
    "tokens in a list": (otel(told(TOKENS, {"arrayValue": {"values": [{"intValue": 1}]}})), rf"{TOKENS}: got \[1\]"),
    "a book of tokens": (otel(told(TOKENS, {"intValue": "20000000"})), "input tokens: got 20000000; expected at most"),
    "no tokens at all": (
        otel(span("1/a", "chat", 0, 1)),
        "input tokens of llm: got nothing, in any call; expected a number",
    ),
    "a tool of a month": (otel(tool("1/a", 0, 3e6)), "duration of search: got 3000000.0; expected 0 to 1e.06 s"),
    "runs of a year": (otel(CALL, chat("2/b", 3e7, 3e7 + 1)), r"arrival_s: got 30000000.0; expected at most 2e.06 s"),
    "a long model": (
        otel(chat("1/b", 0, 1, model="m" * 300)),
        "model: got 'mmm.*expected a name of at most 200 letters",
    ),
    # WfCommons
    "no version": (b'{"name": "x", "workflow": {}}', "schemaVersion: got nothing; expected one of 1.4, 1.5, 1.6"),
    "another version": (b'{"name": "x", "schemaVersion": "0.9", "workflow": {}}', "schemaVersion: got '0.9'"),
    "no name": (b'{"schemaVersion": "1.5", "workflow": {}}', "name: got nothing; expected text"),
    "no tasks": (flow(tasks=[]), "workflow.specification.tasks: got none; expected at least one task"),
    "tasks are no list": (flow(tasks={"a": 1}), "workflow.specification.tasks: got {'a': 1}; expected a list"),
    "a workflow is no mapping": (
        b'{"name": "x", "schemaVersion": "1.5", "workflow": 3}',
        "workflow: got 3; expected a map",
    ),
    "a task without a name": (flow(tasks=[{"id": "1"}]), "tasks.0.name: got nothing; expected text"),
    "an id twice": (flow(tasks=[TASK, TASK]), "specification.tasks: got '1'; expected ids that differ"),
    "an unknown parent": (flow(tasks=[{**TASK, "parents": ["9"]}]), "tasks.0.parents: got '9'; expected one of 1"),
    "an unknown child": (flow(tasks=[{**TASK, "children": [9]}]), "tasks.0.children: got 9; expected one of 1"),
    "parents are no list": (flow(tasks=[{**TASK, "parents": "1"}]), "tasks.0.parents: got '1'; expected a list of ids"),
    "its own parent": (
        flow(tasks=[{**TASK, "parents": ["1"]}]),
        "got a circle of steps that wait for each other, a among",
    ),
    "a circle of tasks": (
        flow(tasks=[{**TASK, "parents": ["2"]}, {**TASK, "id": "2", "name": "b", "parents": ["1"]}]),
        "got a circle of steps that wait for each other",
    ),
    "a negative size": (flow(files=[{"id": "f", "sizeInBytes": -1}]), "files.0.sizeInBytes: got -1; expected a whole"),
    "a negative run time": (ran(runtimeInSeconds=-1), "runtimeInSeconds: got -1; expected a number of seconds >= 0"),
    "a run time of NaN": (
        ran(runtimeInSeconds=float("nan")),
        "runtimeInSeconds: got nan; expected a number of seconds",
    ),
    "a run time of text": (ran(runtimeInSeconds="1"), "runtimeInSeconds: got '1'; expected a number of seconds"),
    "a task that did not run": (ran(id="7"), "workflow.execution.tasks.0.id: got '7'; expected one of 1"),
    "negative tokens of a task": (ran(inputTokens=-1, outputTokens=1), "inputTokens: got -1; expected a whole number"),
    # step logs
    "no kind": (b'{"run": 1}', "line 1, kind: got nothing; expected text"),
    "another kind": (b'{"run": 1, "kind": "think"}', "line 1, kind: got 'think'; expected llm or tool"),
    "no run": (steps({}, {"run": None}), "line 2, run: got nothing; expected text"),
    "a step that ends before it starts": (
        steps({"start": 5, "end": 4}),
        "line 1, end: got 4; expected a time that is not",
    ),
    "a negative duration": (steps({"duration_s": -1}), "line 1, duration_s: got -1; expected seconds"),
    "a duration of NaN": (steps({"duration_s": float("nan")}), "line 1, duration_s: got nan; expected seconds"),
    "a start that is no time": (steps({"start": "noon"}), "line 1, start: got 'noon'; expected seconds, or a time"),
    "an impossible date": (steps({"start": "2026-02-30T10:00:00"}), "line 1, start: got '2026-02-30T10:00:00'"),
    "tokens of a tool": (steps({"input_tokens": 5}), "line 1, input_tokens: got 5; expected nothing: only llm steps"),
    "a tool of a call": (steps({"kind": "llm", "tool": "x"}), "line 1, tool: got 'x'; expected nothing"),
    "a step twice": (
        steps({"step": 1, "after": []}, {"step": 1}),
        "line 2, step: got '1'; expected steps of a run that",
    ),
    "after an unknown step": (steps({"after": "9"}), "line 1, after: got '9'; expected a step of the run: one of 1"),
    "after itself": (steps({"step": "a", "after": "a"}), "got a circle of steps that wait for each other"),
    "after a mapping": (steps({"after": {"a": 1}}), "line 1, after: got {'a': 1}; expected steps of the run"),
    "no column kind": (b"run,start\n1,2\n", "line 2, kind: got nothing; expected text"),
    "no column run": (b"id,kind\n1,llm\n", "line 1: got a first line of id, kind; expected"),
    "a column twice": (b"run,kind,kind\n1,llm,llm\n", "line 1: got 'kind'; expected column names that differ"),
    "no row": (b"run,kind\n", "got no row; expected at least one step"),
    "more values": (b"run,kind\n1,tool,3\n", "line 2: got more values; expected 2 values"),
    "an open quote": (b'run,kind\n1,"tool\n', "expected a CSV file"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_recordings_have_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recording"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        import_workload([path])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_workload([tmp_path / "none.json"])
    with pytest.raises(InputError, match="a folder"):
        import_workload([tmp_path])
    with pytest.raises(InputError, match="no file; expected at least one"):
        import_workload([])


def test_bad_choices(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", document([CALL]))
    with pytest.raises(InputError, match="--runs: got 'traces'; expected one of agent, trace; did you mean"):
        import_workload([path], Choices(runs="traces"))
    with pytest.raises(InputError, match="--format: got 'otlp'; expected one of otel, steps, wfcommons; did you mean"):
        import_workload([path], Choices(format="otlp"))
    with pytest.raises(InputError, match="application chat: got one run; expected two at least"):
        import_workload([path], Choices(past_share=0.5))
    with pytest.raises(InputError, match=r"t.jsonl: schemaVersion: got nothing"):
        import_workload([path], Choices(format="wfcommons"))


def test_exported_workloads_that_were_changed(tmp_path: Path) -> None:
    spans = [agent("1/a", 0, 9), CALL | {"parentSpanId": "a"}, tool("1/c/a", 2, 3)]
    first = import_workload([write(tmp_path / "t.jsonl", document(spans))]).workload
    write_otel(first, tmp_path / "out.jsonl")
    good = json.loads((tmp_path / "out.jsonl").read_text())

    def refused(message: str, **choices: Any) -> None:
        with pytest.raises(InputError, match=message):
            import_workload([write(tmp_path / "bad.jsonl", bad)], Choices(**choices))

    def members(content: dict[str, Any]) -> list[dict[str, Any]]:
        return content["resourceSpans"][0]["scopeSpans"][0]["spans"]

    bad = json.loads(json.dumps(good))
    refused("got an exported workload; expected none of --runs, --application", application="x")
    del members(bad)[2]
    refused("got 1 spans of tasks; expected 2, as were exported")
    del members(bad)[0]
    refused("got 0 spans of the whole job; expected one")
    bad = json.loads(json.dumps(good))
    attributes = members(bad)[1]["attributes"]
    next(a for a in attributes if a["key"] == TOKENS)["value"] = {"intValue": "0"}
    refused(r"jobs.0.stages.0.tasks.0.prompt_tokens: got 0; expected a whole number from 1")
    bad = json.loads(json.dumps(good))
    members(bad)[1]["attributes"] = [a for a in members(bad)[1]["attributes"] if "position" not in a["key"]]
    refused(r"llmsched_gym.position: got None; expected two numbers")
    bad = json.loads(json.dumps(good))
    bad["resourceSpans"][0]["resource"]["attributes"][1]["value"] = {"stringValue": "{"}
    refused("got no JSON")
    with pytest.raises(InputError, match="got an exported workload among other files"):
        import_workload([tmp_path / "out.jsonl", tmp_path / "t.jsonl"])


def test_the_command_writes_nothing_when_a_recording_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(otel(told(TOKENS, {"intValue": "-3"})))
    output, past = tmp_path / "out.json", tmp_path / "past.json"
    assert main(["workload", "import", str(path), "-o", str(output), "--past", str(past)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()
    assert not past.exists()
    assert main(["workload", "import", str(path), "-o", str(output), "--models", "a"]) == 2
    assert "--models: got 'a'; expected OLD=NEW" in capsys.readouterr().err
    assert main(["workload", "import", str(path), "-o", str(path)]) == 2
    assert "reads that file" in capsys.readouterr().err
