"""No command writes over a file that it reads, however the file is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmsched_gym.cli import main
from llmsched_gym.profiler.store import SHIPPED

TRACE = Path(__file__).resolve().parents[2] / "configs" / "traces" / "example_job_trace.json"
LOG = "arrival_s,prompt_tokens,output_tokens\n0,10,5\n"
TABLE = "n_decode,prefill_tokens,total_decode_context,iter_time_ms\n1,0,100,5\n"
PROFILE = {"schema": 1, "name": "p", "iteration_ms": 5, "decode_ms": 0, "prefill_ms": 0.1, "context_ms": 0}
CLUSTER = "executors: [{kind: llm, latency: p.json}, {kind: regular}]\n"
ARRIVALS = "arrivals: {kind: trace, path: times.csv, format: csv}\n"
SCENARIO = f"name: mine\napplications: {{web_search: 1}}\njobs: 2\nrate: 1\ncluster: cluster.yaml\n{ARRIVALS}"
POLICY = "from llmsched_gym.policies.fcfs import FCFS as Mine\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with a file of each kind."""
    files = {
        "log.csv": LOG,
        "table.csv": TABLE,
        "p.json": json.dumps(PROFILE),
        "cluster.yaml": CLUSTER,
        "times.csv": "t_s,in_tokens,out_tokens\n0,1,1\n1,1,1\n",
        "mine.yaml": SCENARIO,
        "t.json": TRACE.read_text(),
        "net.json": (SHIPPED / "web_search.json").read_text(),
        "mine.py": POLICY,
        "out/summary.json": TRACE.read_text(),
        "out/trace.json": TRACE.read_text(),
        "out/gantt.pdf": TRACE.read_text(),
        "net.pdf": (SHIPPED / "web_search.json").read_text(),
        "out/manifest.json": SCENARIO.replace("cluster.yaml", "../cluster.yaml").replace("times", "../times"),
    }
    (tmp_path / "out").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    os.link(tmp_path / "t.json", tmp_path / "link.json")
    (tmp_path / "symlink.csv").symlink_to(tmp_path / "log.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "reader"),
    [
        ("workload convert t.json -o t.json", "workload"),
        ("workload convert t.json -o out/../t.json", "workload"),
        ("run --workload out/gantt.pdf -o out", "workload"),
        ("profile show net.pdf --figure net.png", "profile"),
        ("workload convert t.json -o link.json", "workload"),
        ("workload convert t.json --history out/trace.json -o out/trace.json", "history"),
        ("workload generate --scenario mine.yaml -o mine.yaml", "scenario"),
        ("workload generate --scenario mine.yaml -o cluster.yaml", "scenario"),
        ("workload generate --scenario mine.yaml -o times.csv", "scenario"),
        ("workload generate --scenario mine.yaml -o p.json", "scenario"),
        ("workload generate --cluster cluster.yaml -o cluster.yaml", "cluster"),
        ("workload generate --cluster cluster.yaml -o p.json", "cluster"),
        ("engine replay log.csv --profile p.json -o log.csv", "requests"),
        ("engine replay symlink.csv --profile p.json -o log.csv", "requests"),
        ("engine replay log.csv --profile p.json -o p.json", "profile"),
        ("latency fit table.csv --requests log.csv -o table.csv", "table"),
        ("latency fit table.csv --requests log.csv -o log.csv", "requests"),
        ("profile show net.json --figure net.json", "profile"),
        ("profile export net.json -o net.json", "profile"),
        ("profile fit --workload t.json --application t -o .", "workload"),
        ("run --workload out/trace.json -o out", "workload"),
        ("run --workload out/summary.json -o out", "workload"),
        ("compare --policies fcfs --scenario out/manifest.json -o out", "scenario"),
        ("calibrate --server http://a --max-num-seqs 8 --max-num-batched-tokens 8 --scenario mine.yaml -o mine.yaml",
         "scenario"),
    ],
)  # fmt: skip
def test_an_output_that_is_an_input_is_refused(
    words: str, reader: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.rstrip().endswith(f"expected another path: {reader} reads that file")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_policy_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workload", "convert", "t.json", "-o", "new.json"]) == 0
    assert main(["calibrate", "--server=http://a", "--max-num-seqs=8", "--max-num-batched-tokens=8", "-o", "out"]) == 2
    capsys.readouterr()
