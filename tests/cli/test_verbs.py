"""Every verb does its job, and with --json prints one object and nothing else."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym._code import ahead
from llmsched_gym._code.parts import episode_parts
from llmsched_gym.cli import main
from llmsched_gym.cli.flags import parse_loads, parse_names, parse_seeds
from llmsched_gym.workloads import store

Ask = Callable[..., dict[str, Any]]

OPTIONS = ("--policies", "fcfs", "--seeds", "0", "--workers", "1")
"""Of a quick comparison."""


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command with --json and return the object that it prints."""

    def run(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*(str(word) for word in words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_seeds():
    assert parse_seeds("0:4") == (0, 1, 2, 3)
    assert parse_seeds("5") == (5,)
    assert parse_seeds("7,0:2") == (7, 0, 1)
    assert parse_loads(None) == (None,)
    assert parse_loads("0.5,1.2") == (0.5, 1.2)
    assert parse_names("--policies", "a, b") == ("a", "b")


@pytest.mark.parametrize("words", [["--help"], ["workload", "--help"]])
def test_overview(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 0
    assert "usage: llmsched-gym" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["compare", "--help"], ["latency", "fit", "-h"], ["workload", "fit", "--help"]])
def test_help_of_a_verb(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "usage: llmsched-gym" in out
    assert "None" not in out


def test_compare(ask: Ask, tmp_path: Path):
    options = ("--scenario", "toy", "--policies", "fcfs,srtf", "--seeds", "0:2", "--workers", "1")
    content = ask("compare", *options, "-o", tmp_path)
    assert list(content["policies"]) == ["fcfs", "srtf"]
    assert content == json.loads((tmp_path / "summary.json").read_text())
    assert content["lower_bound_mean_jct_s"] <= content["policies"]["srtf"]["mean_jct_s"]


def test_compare_at_several_loads(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = (
        "compare",
        "--policies",
        "fcfs,sjf",
        "--seeds",
        "0:2",
        "--jobs",
        "5",
        "--workers",
        "1",
        "--load",
        "0.4,0.8",
    )
    content = ask(*options, "-o", tmp_path)
    assert [one["load"] for one in content["comparisons"]] == [0.4, 0.8]
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"jct_over_load.png", "jct_over_load.pdf"}
    assert (tmp_path / "load-0.4" / "results.csv").exists()
    assert main([*options, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert re.search(r"load 0\.8: \w+ has the lowest mean JCT", told.out)
    assert "load 0.8: 6 of 6 results were there already" in told.err


def test_folder_of_another_number_of_loads_is_refused(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def refused(out: Path, *words: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert main(["compare", *OPTIONS, *words, "-o", str(out)]) == 2
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        return capsys.readouterr().err

    one, several = tmp_path / "one", tmp_path / "several"
    ask("compare", *OPTIONS, "--jobs", "5", "--load", "0.4", "-o", one)
    ask("compare", *OPTIONS, "--jobs", "5", "--load", "0.4,0.8", "-o", several)
    assert re.search(r"load-0\.4/setting\.json: .*jobs: got 5; expected 6 as asked", refused(several, "--jobs", "6"))
    assert "jobs: got 5; expected 6 as asked" in refused(several, "--jobs", "6", "--load", "0.3,0.9")
    assert "jobs: got 5; expected 6 as asked" in refused(one, "--jobs", "6", "--load", "0.4,0.8")
    assert "loads: got 'several'; expected 'one' as asked" in refused(several, "--jobs", "5", "--load", "0.4")
    assert "loads: got 'one'; expected 'several' as asked" in refused(one, "--jobs", "5", "--load", "0.4,0.8")
    assert len(ask("compare", *OPTIONS, "--jobs", "5", "--load", "0.2,0.4", "-o", several)["comparisons"]) == 2
    assert len(ask("compare", *OPTIONS, "--jobs", "5", "--load", "0.4", "-o", one)["policies"]) == 1


def test_fixed_jobs_are_compared_once(ask: Ask, tmp_path: Path):
    options = ("--scenario", "two_jobs", "--policies", "fcfs,sjf", "--workers", "1")
    content = ask("compare", *options, "-o", tmp_path)
    assert (content["seeds"], content["jobs"]) == ([0], 2)
    assert ask("compare", *options, "--seeds", "0:2", "-o", tmp_path)["seeds"] == [0, 1]


def test_compare_table_marks_privileged_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--scenario", "toy", "--policies", "fcfs,oracle_srtf", "--seeds", "0", "--workers", "1"]
    assert main(["compare", *options, "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "oracle_srtf *" in out
    assert "* sees the truth" in out
    assert "n= cannot" not in out
    assert "lower bound of the mean JCT" in out


def test_compare_explains_only_marks_that_its_table_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--scenario", "two_jobs", "--policies", "fcfs,sjf,srtf", "--seeds", "0", "--workers", "1"]
    assert main(["compare", *options, "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert ("n= cannot be told apart" in out) == bool(re.search(r" \d= ", out))
    assert "sees the truth" not in out
    assert "decision µs: time inside the policy" in out
    heads = next(line for line in out.splitlines() if line.startswith("policy "))
    quantities = ["mean JCT s", "P50 JCT s", "P95 JCT s", "P99 JCT s", "makespan s", "P50 decision µs"]
    assert all(quantity in heads for quantity in quantities)


@pytest.mark.parametrize("words", [["run", "--scenario", "toy"], ["compare", "--scenario", "toy", *OPTIONS]])
def test_what_will_be_needed_is_announced(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that several processes compile it at the first miss."""
    fresh = ahead.Announced()
    monkeypatch.setattr(ahead, "announced", fresh)
    assert main([*words, "-o", str(tmp_path)]) == 0
    assert set(episode_parts(["web_search"], profiler=True)) <= {*fresh.parts, *fresh.asked}


def test_run_writes_summary_picture_and_trace(ask: Ask, tmp_path: Path):
    content = ask("run", "--scenario", "toy", "--policy", "srtf", "-o", tmp_path)
    assert content["policy"] == "srtf"
    assert json.loads((tmp_path / "summary.json").read_text())["episode_digest"] == content["episode_digest"]
    assert (tmp_path / "gantt.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "gantt.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((tmp_path / "trace.json").read_text())


def test_run_prints_for_people(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--scenario", "toy"]) == 0
    assert "mean_jct_s" in capsys.readouterr().out


def test_workload_there_and_back(ask: Ask, tmp_path: Path):
    first, trace, second = tmp_path / "a.workload", tmp_path / "a.json", tmp_path / "b.workload"
    made = ask("workload", "generate", "--scenario", "planning", "--jobs", "8", "--seed", "4", "-o", first)
    assert made["digest"] == store.load(first).digest == ask("workload", "inspect", first)["digest"]
    assert made["applications"][-1]["jobs"] == 8
    assert ask("workload", "convert", first, "-o", trace)["digest"] == made["digest"]
    assert ask("workload", "convert", trace, "-o", second)["digest"] == made["digest"]
    options = ("--policies", "fcfs", "--seeds", "0", "--workers", "1", "-o", tmp_path / "out")
    assert ask("compare", "--workload", second, *options)["jobs"] == 8


def test_means_from_the_very_jobs_are_told(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A trace without history says so in the table, with --json and in the manifest; one with other jobs' does not."""
    trace = Path(__file__).resolve().parents[2] / "configs" / "traces" / "example_job_trace.json"
    seen, blind = tmp_path / "seen.workload", tmp_path / "blind.workload"
    ask("workload", "convert", trace, "-o", seen)
    ask("workload", "convert", trace, "--history", trace, "-o", blind)
    back = tmp_path / "back.json"
    ask("workload", "convert", seen, "-o", back)
    for number, (file, history) in enumerate(((trace, "self"), (seen, "self"), (back, "self"), (blind, str(trace)))):
        out = tmp_path / f"out{number}"
        words = ("compare", "--workload", str(file), *OPTIONS, "-o", str(out))
        assert ask(*words)["history"] == history
        assert json.loads((out / "manifest.json").read_text())["history"] == history
        assert ask("run", "--workload", file)["history"] == history
        for command in (words, ("run", "--workload", str(file))):
            assert main([*command]) == 0
            assert ("come from the very jobs" in capsys.readouterr().out) == (history == "self")


def test_workload_inspect_prints_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    example = Path(__file__).resolve().parents[2] / "configs" / "traces" / "example_job_trace.json"
    assert main(["workload", "inspect", str(example)]) == 0
    assert "ticket" in capsys.readouterr().out


def test_workload_fit(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, facts, figures = shared / "data", tmp_path / "facts", tmp_path / "figures"
    assert main(["workload", "fit", "--data", str(data), "-o", str(facts), "--figures", str(figures)]) == 0
    assert "wrote 6 files" in capsys.readouterr().out
    assert len(list(facts.glob("*.json"))) == len(list(figures.glob("*.png"))) == 6


def test_engine_replay_of_one_request_by_hand(ask: Ask, tmp_path: Path):
    log, out = tmp_path / "log.csv", tmp_path / "out.csv"
    log.write_text("request_id,arrival_s,prompt_tokens,output_tokens\nr,1.0,100,3\n")
    content = ask("engine", "replay", log, "--coefficients", "10,1,0.1,0.01", "-o", out)
    # prefill 10 + 100·0.1 ms; then two decode iterations with 100 or 101 tokens of context, the token just made aside
    prefill, decode = 20.0, 2 * (10 + 1) + (101 + 102) * 0.01
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["first_token_s"]) == pytest.approx(1 + prefill * 1e-3, abs=1e-9)
    assert float(row["finish_s"]) == pytest.approx(1 + (prefill + decode) * 1e-3, abs=5e-5)
    assert content["requests"] == 1
    assert content["mean_e2e_s"] == pytest.approx(float(row["finish_s"]) - 1)


def test_engine_replay_of_a_reference_case(shared: Path, tmp_path: Path):
    case = shared / "reference" / "engine_cases" / "c01_single_vllm" / "result_lin.csv"
    if not case.exists():
        pytest.skip("the reference case is not there")
    out = tmp_path / "out.csv"
    assert main(["engine", "replay", str(case), "--coefficients", "6,0.02,0.03,0.0002", "-o", str(out)]) == 0
    with case.open(newline="") as first, out.open(newline="") as second:
        assert csv.DictReader(first).fieldnames == csv.DictReader(second).fieldnames


def test_latency_fit_finds_the_coefficients_of_a_linear_table(ask: Ask, tmp_path: Path):
    a, b, c, d = 8.0, 0.05, 0.04, 0.0003
    rows = ["n_decode,decode_avg_context,prefill_tokens,total_decode_context,iter_time_ms"]
    for n in (0, 1, 2, 4, 8, 16, 32, 64, 128):
        for context in (16, 256, 1024, 4096):
            for prefill in (0, 64, 512, 2048):
                if n or prefill:
                    total = n * context
                    rows.append(f"{n},{context},{prefill},{total},{a + b * n + c * prefill + d * total}")
    log = [
        "arrival_s,prompt_tokens,output_tokens",
        *(f"{i * 0.3},{200 + 37 * (i % 11)},{50 + i % 60}" for i in range(80)),
    ]
    table, requests, profile = tmp_path / "t.csv", tmp_path / "l.csv", tmp_path / "mine.json"
    table.write_text("\n".join(rows))
    requests.write_text("\n".join(log))
    content = ask("latency", "fit", table, "--requests", requests, "-o", profile)
    fitted = content["coefficients_ms"]
    assert fitted["a"] == pytest.approx(a, rel=0.02)
    assert fitted["c"] == pytest.approx(c, rel=0.02)
    assert fitted["d"] == pytest.approx(d, rel=0.05)
    assert ask("latency", "show", profile)["coefficients_ms"] == fitted
    assert ask("latency", "show", profile)["name"] == "mine"


def test_lists(ask: Ask, capsys: pytest.CaptureFixture[str]):
    content = ask("list")
    assert content["environments"]["LLMSched/Mixed-v0"] == "mixed"
    assert content["policies"]["oracle_srtf"]["privileged"] is True
    assert [content["scenarios"][name]["jobs"] for name in ("mixed", "toy", "two_jobs")] == [300, 5, 2]
    assert "llama-2-7b-h100" in content["latency_profiles"]
    assert content["latency_profiles"] == list(ask("latency", "list")["profiles"])
    assert main(["list"]) == 0
    assert "carbyne" in capsys.readouterr().out
