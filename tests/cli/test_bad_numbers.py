"""Every number that a file or an option holds, made bad in every way: one line that names it, and nothing written.

The numbers are found by the types of the fields, so that a new field is tested without a word here.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from bad_values import EDGES, Field, bad_values, number_fields
from hetero import LEAST
from tyro.conf import Positional

from llmsched_gym.cli import _VERBS, main
from llmsched_gym.cli.options import Range
from llmsched_gym.cluster.executors import LLMExecutors, RegularExecutors
from llmsched_gym.cluster.latency import ATTENTION, COEFFICIENTS
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.scenario import Scenario
from llmsched_gym.workloads.arrivals import Arrivals
from llmsched_gym.workloads.jobtrace_schema import HistoryRecord, JobTrace

CLUSTER: dict[str, Any] = {
    "executors": [{"kind": "llm", "latency": "llama-2-7b-h100"}, {"kind": "regular"}],
}
SCENARIO: dict[str, Any] = {
    "name": "tiny",
    "applications": {"web_search": 1},
    "jobs": 3,
    "load": 0.5,
    "cluster": CLUSTER,
}
ARRIVALS: dict[str, dict[str, Any]] = {
    "poisson": {},
    "gamma": {"cv": 2},
    "mmpp": {"ratios": [1, 2], "dwell_s": [3, 4]},
    "diurnal": {},
    "trace": {"path": "times.csv"},
}
TRACE: dict[str, Any] = {
    "format": "llmsched-gym/job-trace",
    "version": 1,
    "applications": [
        {
            "name": "ask",
            "stages": [{"name": "tell", "kind": "llm"}],
            "history": [dict.fromkeys(HistoryRecord.model_fields, 1.0)],
        }
    ],
    "jobs": [
        {
            "application": "ask",
            "arrival_s": 0.0,
            "stages": [{"stage": "tell", "tasks": [{"prompt_tokens": 100, "output_tokens": 20}]}],
        }
    ],
}
PROFILE: dict[str, Any] = {"schema": 1, "name": "mine", **dict.fromkeys((*COEFFICIENTS, ATTENTION), 1.0)}

Told = Callable[..., str]


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a command with bad input; check that it ends as it should, and return its one line."""

    def run(*words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(list(words)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1, err
        assert sorted(tmp_path.rglob("*")) == before, "something was left behind"
        return err

    return run


def check(line: str, source: str, field: str) -> None:
    """Check that a line names source, field, value and what is allowed."""
    where, _, rest = line.partition(": got ")
    value, _, allowed = rest.partition("; expected ")
    assert source in where, line
    assert where.endswith(field), line
    assert value, line
    assert any(word in allowed for word in ("number", "list", "milliseconds")), line
    assert len(line) < 400, line


def with_value(content: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of some content with another value at a place."""
    changed = copy.deepcopy(content)
    inside = changed
    for part in place[:-1]:
        inside = inside[part] if isinstance(part, int) else inside.setdefault(part, {})
    inside[place[-1]] = value
    return changed


def dotted(place: tuple[str | int, ...]) -> str:
    """Return a place as messages name it."""
    return ".".join(map(str, place))


def named(fields: list[Field], prefix: tuple[str | int, ...] = ()) -> list[Any]:
    """Return fields as parameters of a test, named by their places."""
    return [pytest.param(*field, id=dotted((*prefix, *field[0]))) for field in fields]


SCENARIO_FIELDS = [
    (tuple("web_search" if part == "*" else part for part in place), kind, limits)
    for place, kind, limits in number_fields(Scenario)
    if place[0] not in ("arrivals", "cluster")
]
ARRIVAL_FIELDS = [
    pytest.param(model, *field, id=dotted((model.__name__, *field[0])))
    for model in get_args(get_args(Arrivals)[0])
    for field in number_fields(model)
]
GROUP_FIELDS = [
    pytest.param(index, *field, id=dotted((model.__name__, *field[0])))
    for index, model in enumerate((LLMExecutors, RegularExecutors))
    for field in number_fields(model)
    if field[0][0] not in ("serves", "load")
]
MODELS_FIELDS = [
    (tuple("small" if part == "*" else part for part in place), kind, limits)
    for place, kind, limits in number_fields(ClusterSpec)
    if place[-1] not in RegularExecutors.model_fields and place != ("executors", 0, "kv_tokens")
]
TRACE_FIELDS = number_fields(JobTrace)
FIELDS: list[Any] = [
    *SCENARIO_FIELDS,
    *MODELS_FIELDS,
    *TRACE_FIELDS,
    *(case.values[1:] for case in (*ARRIVAL_FIELDS, *GROUP_FIELDS)),
]


@pytest.mark.parametrize(("place", "kind", "limits"), named(SCENARIO_FIELDS))
def test_numbers_of_a_scenario(
    place: tuple[str | int, ...], kind: type, limits: dict[str, float], tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "mine.yaml"
    for value in bad_values(kind, limits):
        file.write_text(yaml.safe_dump(with_value(SCENARIO, place, value)))
        check(told("workload", "generate", "--scenario", str(file), "-o", str(tmp_path / "out")), "mine", dotted(place))


@pytest.mark.parametrize(("model", "place", "kind", "limits"), ARRIVAL_FIELDS)
def test_numbers_of_arrivals(
    model: type, place: tuple[str | int, ...], kind: type, limits: dict[str, float], tmp_path: Path, told: Told
) -> None:
    name = get_args(get_type_hints(model)["kind"])[0]
    scenario = {**SCENARIO, "arrivals": {"kind": name, **ARRIVALS[name]}}
    file, field = tmp_path / "mine.yaml", ("arrivals", *place)
    for value in bad_values(kind, limits):
        file.write_text(yaml.safe_dump(with_value(scenario, field, value)))
        check(told("workload", "generate", "--scenario", str(file), "-o", str(tmp_path / "out")), "mine", dotted(field))


@pytest.mark.parametrize(("index", "place", "kind", "limits"), GROUP_FIELDS)
def test_numbers_of_a_cluster(
    index: int, place: tuple[str | int, ...], kind: type, limits: dict[str, float], tmp_path: Path, told: Told
) -> None:
    file, field = tmp_path / "cluster.yaml", ("executors", index, *place)
    for value in bad_values(kind, limits):
        file.write_text(yaml.safe_dump(with_value(CLUSTER, field, value)))
        line = told("workload", "generate", "--cluster", str(file), "-o", str(tmp_path / "out"))
        check(line, "cluster.yaml", dotted(field))


@pytest.mark.parametrize(("place", "kind", "limits"), named(MODELS_FIELDS))
def test_numbers_of_a_cluster_with_models_and_links(
    place: tuple[str | int, ...], kind: type, limits: dict[str, float], tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "cluster.yaml"
    for value in bad_values(kind, limits):
        file.write_text(yaml.safe_dump(with_value(LEAST, place, value)))
        line = told("workload", "generate", "--cluster", str(file), "-o", str(tmp_path / "out"))
        check(line, "cluster.yaml", dotted(place))


@pytest.mark.parametrize(("place", "kind", "limits"), named(TRACE_FIELDS))
def test_numbers_of_a_job_trace(
    place: tuple[str | int, ...], kind: type, limits: dict[str, float], tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "trace.json"
    for value in bad_values(kind, limits):
        file.write_text(json.dumps(with_value(TRACE, place, value)))
        check(told("workload", "inspect", str(file)), "trace.json", dotted(place))


@pytest.mark.parametrize("name", [*COEFFICIENTS, ATTENTION])
def test_numbers_of_a_latency_profile(name: str, tmp_path: Path, told: Told) -> None:
    file = tmp_path / "profile.json"
    for value in bad_values(float, {"ge": 1e-6 if name == COEFFICIENTS[0] else 0.0, "le": 1e6}):
        file.write_text(json.dumps(PROFILE | {name: value}))
        check(told("latency", "show", str(file)), "profile.json", name)


BAD_CELLS = ("nan", "inf", "-inf", "many", "", "-1", "1e30", "true", "[1]")


@pytest.mark.parametrize("column", ["arrival_s", "prompt_tokens", "output_tokens"])
def test_numbers_of_a_request_log(column: str, tmp_path: Path, told: Told) -> None:
    good = {"arrival_s": "0.5", "prompt_tokens": "100", "output_tokens": "10"}
    file = tmp_path / "log.csv"
    more = () if column == "arrival_s" else ("0", "1.5")
    for cell in (*BAD_CELLS, *more):
        file.write_text(",".join(good) + "\n" + ",".join((good | {column: cell}).values()) + "\n")
        line = told("engine", "replay", str(file), "--coefficients=6,0,0,0", "-o", str(tmp_path / "out"))
        check(line, "log.csv, line 2", column)


@pytest.mark.parametrize("column", ["n_decode", "prefill_tokens", "total_decode_context", "iter_time_ms"])
def test_numbers_of_a_table_of_iterations(column: str, tmp_path: Path, told: Told) -> None:
    good = {"n_decode": "1", "prefill_tokens": "10", "total_decode_context": "100", "iter_time_ms": "5"}
    table, log = tmp_path / "table.csv", tmp_path / "log.csv"
    log.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    for cell in BAD_CELLS:
        table.write_text(",".join(good) + "\n" + ",".join((good | {column: cell}).values()) + "\n")
        line = told("latency", "fit", str(table), "--requests", str(log), "-o", str(tmp_path / "out"))
        check(line, "table.csv, line 2", column)


@pytest.mark.parametrize("column", ["t_s", "in_tokens", "out_tokens"])
def test_numbers_of_a_trace_of_arrivals(column: str, tmp_path: Path, told: Told) -> None:
    good = {"t_s": "0.5", "in_tokens": "100", "out_tokens": "10"}
    scenario, times = tmp_path / "mine.yaml", tmp_path / "times.csv"
    arrivals = {"kind": "trace", "path": "times.csv", "format": "csv"}
    scenario.write_text(yaml.safe_dump(SCENARIO | {"load": None, "rate": 1, "arrivals": arrivals}))
    for cell in BAD_CELLS:
        times.write_text(",".join(good) + "\n" + ",".join((good | {column: cell}).values()) + "\n")
        line = told("workload", "generate", "--scenario", str(scenario), "-o", str(tmp_path / "out"))
        check(line, "times.csv, line 2", column)


# Options


def verb_class(name: str) -> Any:
    """Return the options of a verb."""
    module, _, attribute = _VERBS[name][0].partition(":")
    return getattr(importlib.import_module(f"llmsched_gym.cli.{module}"), attribute)


def needed(verb: Any, but: str) -> list[str]:
    """Return words for all options that a verb needs, but for one."""
    hints, words = get_type_hints(verb, include_extras=True), []
    for field in dataclasses.fields(verb):
        if field.default is dataclasses.MISSING and field.name != but:
            value = "8" if get_args(hints[field.name])[:1] == (int,) else "x"
            positional = Positional in getattr(hints[field.name], "__metadata__", ()) or "Positional" in str(
                hints[field.name]
            )
            words.append(value if positional else f"--{field.name.replace('_', '-')}={value}")
    return words


def numbers(verb: Any) -> dict[str, tuple[type, Range | None]]:
    """Return the options of a verb that are numbers, and their ranges."""
    found: dict[str, tuple[type, Range | None]] = {}
    for name, hint in get_type_hints(verb, include_extras=True).items():
        bare, marks = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
        kind = next((one for one in (int, float) if one in {bare, *get_args(bare)}), None)
        if kind is not None:
            found[name] = kind, next((mark for mark in marks if isinstance(mark, Range)), None)
    return found


OPTIONS = [(verb, option) for verb in _VERBS for option in numbers(verb_class(verb))]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_numbers_of_options(
    name: str, option: str, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verb = verb_class(name)
    kind, allowed = numbers(verb)[option]
    assert allowed is not None, "a number without a range"
    flag = f"--{option.replace('_', '-')}"
    texts = ["nan", "inf", "-inf", "many", "", "true", "[1]", *(["1.5"] if kind is int else ["1e400"])]
    texts += [str(edge) for edge in EDGES if edge not in allowed]
    for text in texts:
        line = told(*name.split(), *needed(verb, option), f"{flag}={text}")
        check(line, f"llmsched-gym {name}", flag)


def test_a_cluster_with_good_numbers_is_taken() -> None:
    assert ClusterSpec.model_validate(LEAST).serves_several


def test_there_are_enough_cases() -> None:
    assert sum(len(bad_values(kind, limits)) for _, kind, limits in FIELDS) >= 300
    assert len(OPTIONS) >= 30


def test_every_number_of_a_file_has_limits() -> None:
    for place, _, limits in FIELDS:
        assert {"ge", "gt"} & limits.keys(), place
        assert {"le", "lt"} & limits.keys(), place
