"""`latency fit --log`, from files to a profile."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from llmsched_gym.cli import main

TRUTH = "9,0.03,0.03,0.00015"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "engine.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with a load and what an engine made of it."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{0.3 * i},{200 + 371 * (i % 11)},{50 + 7 * (i % 60)}" for i in range(150)]
    Path("load.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]))
    assert main(["engine", "replay", "load.csv", "--coefficients", TRUTH, "--max-num-seqs", "8", "-o", "log.csv"]) == 0
    return tmp_path


def fit(words: str) -> int:
    return main(["latency", "fit", *words.split()])


def rewrite(name: str, **columns: str) -> None:
    """Change columns of the log in every tenth row."""
    with open("log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::10]:
        row.update(columns)
    with open(name, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_known_coefficients_and_slots_come_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert fit("--start llama-2-7b-h100 --log log.csv --share 0.2 --figure fit.png -o mine.json --json") == 0
    said = capsys.readouterr()
    content = json.loads(said.out)
    log_fit = content["provenance"]["log_fit"]
    assert content["name"] == "mine"
    assert log_fit["rest"]["end_to_end"]["mean_pct"] < 2.0
    assert log_fit["engine"]["max_num_seqs"] == 8
    assert log_fit["engine"]["async_scheduling"] is False
    assert "max_num_seqs 8" in said.err
    assert "end to end, other 120 requests" in said.err
    assert Path("fit.png").stat().st_size > 10_000
    assert Path("fit.pdf").exists()
    # A profile is one that a replay takes, and its errors are those that were told.
    assert (
        main(["engine", "replay", "load.csv", "--profile", "mine.json", "--max-num-seqs", "8", "-o", "again.csv"]) == 0
    )
    with open("log.csv", newline="") as first, open("again.csv", newline="") as second:
        pairs = zip(csv.DictReader(first), csv.DictReader(second), strict=True)
        off = [abs(_end(theirs) / _end(ours) - 1.0) for ours, theirs in pairs]
    told = [log_fit[part]["end_to_end"] for part in ("part", "rest")]
    assert 100 * sum(off) == pytest.approx(sum(each["mean_pct"] * each["requests"] for each in told), abs=1.0)


def _end(row: dict[str, str]) -> float:
    return float(row["finish_s"]) - float(row["arrival_s"])


def test_failed_requests_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite("failed.csv", output_tokens="0", first_token_s="", finish_s="")
    assert fit("--start llama-2-7b-h100 --log failed.csv --max-num-seqs 8 -o mine.json") == 0
    assert "15 requests without prompt or output are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--log log.csv", "neither a table nor --start"),
        ("--start llama-2-7b-h100", "neither --requests nor --log"),
        ("table.csv --requests load.csv --log log.csv", "--requests and --log"),
        ("table.csv --start llama-2-7b-h100 --log log.csv", "a table and --start"),
        ("table.csv --requests load.csv --figure a.png", "--figure"),
        ("--start llama-2-7b-h100 --requests load.csv", "--start"),
        ("--start llama-2-7b-h100 --log load.csv", "a column finish_s"),
        ("--start llama-2-7b-h100 --log log.csv --share 0.01", "2 to fit to"),
        ("--start llama-2-7b-h100 --log log.csv --share 1", "--share"),
        ("--start llama-2-7b-h100 --log log.csv --max-num-seqs 4", "8 requests that decode at once"),
        ("--start llama-2-7b-h100 --log log.csv --kv-blocks 20", "KV capacity"),
        ("--start llama-2-7b-h100 --log log.csv --figure a.txt", "a.txt"),
        ("--start llama-2-7b-h100 --log log.csv --figure none/a.png", "none"),
        ("--start llama-2-7b --log log.csv", "did you mean"),
    ],
)
def test_refused_in_one_line(words: str, complaint: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert fit(f"{words} -o mine.json") == 2
    said = capsys.readouterr()
    assert complaint in said.err.splitlines()[-1]
    assert not said.out
    assert not Path("mine.json").exists()


def test_the_command_of_the_page_on_a_real_log(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most 5 % per request: what the page shows is what comes of it."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"^llmsched-gym (latency fit llama31(?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert found is not None
    words = shlex.split(found[1].replace("\\\n", " "))
    for word in words:
        for path in (shared / "reference").rglob(word):
            (tmp_path / word).symlink_to(path)
    assert main([*words, "--json"]) == 0
    rest = json.loads(capsys.readouterr().out)["provenance"]["log_fit"]["rest"]
    shown = [f"{told['mean_pct']:.1f} % " for told in rest.values()]
    row = next(line for line in text.splitlines() if "a tenth of the log" in line)
    assert f"end to end {shown[0]}" in row
    assert f"first token {shown[1]}" in row
    assert rest["end_to_end"]["mean_pct"] <= 5.0
