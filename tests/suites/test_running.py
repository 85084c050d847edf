"""Policies on a suite: what is run, kept, scored and printed."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from llmsched_gym.cli import main
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.suites import load_suite
from llmsched_gym.suites.freezing import freeze_references
from llmsched_gym.suites.running import run_suite, summary


def test_references_are_run_only_where_they_are_not_frozen(folder: Path, tmp_path: Path) -> None:
    suite, policies = load_suite(folder), ["fcfs", "srtf", "oracle_srtf"]
    first = run_suite(suite, policies, tmp_path / "run", workers=1)
    assert [one.label for one in first.comparisons["plans"].contestants] == policies
    found = {one.policy: one for one in first.scores}
    assert found["oracle_srtf"].scenarios["crowd"].mid == pytest.approx(1.0)
    assert found["srtf"].scenarios["plans"].mid == pytest.approx(1.0)
    assert found["fcfs"].scenarios["crowd"].mid > 1.0
    assert found["oracle_srtf"].rank is None

    assert freeze_references(suite, tmp_path / "references", 1, lambda _: nullcontext(Silent())) == 6
    frozen = load_suite(folder)
    assert frozen.frozen
    again = run_suite(frozen, ["fcfs"], tmp_path / "run", workers=1)
    assert [one.label for one in again.comparisons["plans"].contestants] == ["fcfs"]
    assert again.comparisons["plans"].resumed == 6, "three episodes and three bounds were there"
    assert again.scores[0].overall.as_list() == pytest.approx(found["fcfs"].overall.as_list())


def test_other_jobs_are_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    path = folder / "workloads.csv"
    lines = path.read_text().splitlines()
    scenario, seed, digest = lines[1].split(",")
    path.write_text("\n".join([lines[0], f"{scenario},{seed},{digest[::-1]}", *lines[2:]]) + "\n")
    with pytest.raises(
        RunError, match=f"suite tiny-v1: scenario crowd, seed 7: jobs with the digest {digest} are drawn"
    ):
        run_suite(load_suite(folder), ["fcfs"], tmp_path / "run", workers=1)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_results_is_refused(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "run" / "plans"
    place.mkdir(parents=True)
    (place / "setting.json").write_text(json.dumps({"format": 1, "scenario": "other"}))
    with pytest.raises(InputError, match="the folder holds another comparison"):
        run_suite(load_suite(folder), ["fcfs"], tmp_path / "run", workers=1)
    assert not (tmp_path / "run" / "crowd").exists()


def test_the_verbs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, where = tmp_path / "out", str(folder)
    words = ["suite", "run", where, "--policies", "fcfs,srtf", "-o", str(out), "--workers", "1"]
    assert main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["suite"] == "tiny-v1"
    assert content["scenarios"]["plans"] == {"metric": "makespan_s", "reference": "srtf", "frozen": False}
    assert set(content["policies"]) == {"fcfs", "srtf"}
    assert content == json.loads((out / "summary.json").read_text())
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert [row["scenario"] for row in rows] == ["suite", "crowd", "plans"] * 2
    assert float(rows[0]["score"]) == content["policies"][rows[0]["policy"]]["score"][1]
    assert (out / "crowd" / "results.csv").is_file()

    assert main(words) == 0
    shown = capsys.readouterr()
    assert "tiny-v1: 2 scenarios × 3 seeds" in shown.out
    assert "references are not frozen, and were run: crowd, plans" in shown.out
    assert "results were there already" in shown.err

    assert main(["suite", "show", where]) == 0
    assert "planning_heavy" in capsys.readouterr().out
    assert main(["suite", "show", where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [7, 8, 9]
    assert main(["suite", "list"]) == 0
    assert "standard-v1" in capsys.readouterr().out
    assert main(["suite", "verify", where]) == 0
    assert "all 6 workloads" in capsys.readouterr().out


def test_verify_names_the_first_jobs_that_differ(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "workloads.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], *(f"{line[:-1]}x" for line in lines[3:])]) + "\n")
    assert main(["suite", "verify", str(folder)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("failed: suite tiny-v1: scenario crowd, seed 9: workload digest ")
    assert main(["suite", "verify", "lihgt-v1"]) == 2
    assert "did you mean 'light-v1'" in capsys.readouterr().err
    assert main(["suite", "show"]) == 2


def test_summary_has_every_scenario_of_every_policy(folder: Path, tmp_path: Path) -> None:
    content = summary(run_suite(load_suite(folder), ["fcfs", "sjf"], tmp_path / "run", workers=1))
    for policy in content["policies"].values():
        assert set(policy["scenarios"]) == {"crowd", "plans"}
        low, mid, high = policy["score"]
        assert low <= mid <= high
