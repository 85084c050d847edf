"""The verbs `profile fit`, `show` and `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.cli import main
from llmsched_gym.profiler.store import SHIPPED, load_profile

TRACE = Path(__file__).resolve().parents[2] / "configs" / "traces" / "example_job_trace.json"

Output = pytest.CaptureFixture[str]


def ask(capsys: Output, *words: object) -> dict[str, Any]:
    """Run a command with --json and return the object that it prints."""
    capsys.readouterr()
    assert main(["profile", *(str(word) for word in words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: Output, *words: object) -> str:
    """Run a command with bad input and return its one line."""
    capsys.readouterr()
    assert main(["profile", *(str(word) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_fit_again_is_the_shipped_profile(capsys: Output, tmp_path: Path):
    folder = tmp_path / "new" / "folder"
    content = ask(capsys, "fit", "--application", "document_merging", "-o", folder, "--figures", tmp_path)
    written = folder / "document_merging.json"
    assert [row["file"] for row in content["profiles"]] == [str(written)]
    assert written.read_bytes() == (SHIPPED / "document_merging.json").read_bytes()
    assert (tmp_path / "profile_document_merging.png").read_bytes()[:4] == b"\x89PNG"
    row = content["profiles"][0]
    assert row["loss"] < row["loss_held_out"] < row["loss_independent"]


def test_fit_several(capsys: Output, tmp_path: Path):
    names = "web_search,llm_compiler"
    content = ask(capsys, "fit", "--application", names, "--jobs", 200, "--bins", 3, "--seed", 4, "-o", tmp_path)
    assert [row["application"] for row in content["profiles"]] == names.split(",")
    profile = load_profile(tmp_path / "web_search.json")
    assert profile.provenance["jobs"] == 200
    assert max(variable.states - variable.absent for variable in profile.variables) == 3


def test_fit_own_jobs(capsys: Output, tmp_path: Path):
    """A user's job trace, alone and as a workload file beside it, is enough for a profile of the user's application."""
    trace = json.loads(TRACE.read_text())
    used = {job["application"] for job in trace["jobs"]}
    content = ask(capsys, "fit", "--workload", TRACE, "-o", tmp_path)
    assert {row["application"] for row in content["profiles"]} == used
    name = content["profiles"][0]["application"]
    assert content["profiles"][0]["jobs"] == sum(job["application"] == name for job in trace["jobs"])
    jobs = tmp_path / "jobs.workload"
    assert main(["workload", "convert", str(TRACE), "-o", str(jobs)]) == 0
    twice = ask(capsys, "fit", "--workload", TRACE, jobs, "--application", name, "-o", tmp_path)
    assert twice["profiles"][0]["jobs"] == 2 * content["profiles"][0]["jobs"]
    shown = ask(capsys, "show", tmp_path / f"{name}.json")
    assert shown["application"] == name
    assert len(shown["provenance"]["digests"]) == 2


def test_show(capsys: Output, tmp_path: Path):
    content = ask(capsys, "show", "code_generation", "--figure", tmp_path / "x.png")
    rows = {row["stage"]: row for row in content["variables"]}
    assert len(rows) == 29
    assert rows["code_1"]["present"] == 1.0
    assert 0.15 < rows["test_10"]["present"] < 0.25
    assert rows["code_3"]["parents"] == ["code_2", "reflect_3"]
    assert (tmp_path / "x.png").stat().st_size > 10_000
    assert main(["profile", "show", "llm_compiler"]) == 0
    out = capsys.readouterr().out
    assert "more_tasks" in out
    assert "10000 jobs at llama-2-7b-h100" in out


def test_export(capsys: Output, tmp_path: Path):
    path = tmp_path / "net.bif"
    content = ask(capsys, "export", "web_search", "-o", path)
    assert content == {"application": "web_search", "file": str(path)}
    assert path.read_text().count("probability (") == 13


def test_bad_input(capsys: Output, tmp_path: Path):
    assert "did you mean 'code_generation'" in complaint(capsys, "show", "code_generaton")
    assert "did you mean 'web_search'" in complaint(capsys, "fit", "--application", "web_serch", "-o", tmp_path)
    assert "bins: got 99" in complaint(capsys, "fit", "--bins", "99", "-o", tmp_path)
    assert "names separated by commas" in complaint(capsys, "fit", "--application", "a,,b", "-o", tmp_path)
    assert "latency profile" in complaint(capsys, "fit", "--latency", "none", "-o", tmp_path)
    assert "--output" in complaint(capsys, "export", "web_search")
    assert "no such file or directory" in complaint(capsys, "fit", "--workload", tmp_path / "none.json", "-o", tmp_path)
    taken = tmp_path / "file"
    taken.write_text("")
    assert "got a file; expected a folder" in complaint(capsys, "fit", "-o", taken)
    assert list(tmp_path.iterdir()) == [taken]
    whole = (SHIPPED / "web_search.json").read_text()
    taken.write_text(whole[: len(whole) // 2])
    assert "got no JSON" in complaint(capsys, "show", taken)
