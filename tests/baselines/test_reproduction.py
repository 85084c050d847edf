"""The recipe end to end on a small scale: run, keep, freeze, read back, write the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from campaign import commits, freeze, run_cells, thaw
from grid import PARTS, POLICIES, QUICK, Cell, Scale, cells
from page_tables import fill
from reproduce_llmsched import REFERENCE, ROOT, main, write_page
from results_tables import makers

from llmsched_gym.cli.flags import parse_loads, parse_seeds
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.registry import learned_names, policy_names


def test_every_part_has_cells_of_its_own(tmp_path: Path) -> None:
    """Names are unique within a part, and every policy exists."""
    known = {*policy_names(), *learned_names()}
    for part in PARTS:
        found = cells((part,), QUICK, tmp_path / "nothing yet")
        names = [(cell.folder, cell.factor, cell.value, cell.policies) for cell in found]
        assert len(set(names)) == len(names) > 1
        assert {policy.partition("?")[0] for cell in found for policy in cell.policies} <= known
    assert set(POLICIES) <= known


def test_results_are_kept_and_come_back(tmp_path: Path) -> None:
    """A second run computes nothing, and frozen rows are read back as they were."""
    setting = Setting.make("chain", jobs=10)
    cell = Cell("try", "load", "0.9", setting, ("fcfs", "srtf"), (0, 1))
    rows = run_cells([cell], tmp_path, 1, Silent())
    episodes = sorted(tmp_path.rglob("episodes/*.json"))
    times = [path.stat().st_mtime_ns for path in episodes]
    assert run_cells([cell], tmp_path, 1, Silent()) == rows
    assert [path.stat().st_mtime_ns for path in episodes] == times
    assert len(rows) == len(episodes) == 4

    freeze(tmp_path / "frozen.csv", rows, "0123456789ab")
    assert thaw(tmp_path / "frozen.csv") == rows
    assert commits(tmp_path) == {"frozen.csv": "0123456789ab"}


def test_page_is_what_the_frozen_results_say(tmp_path: Path) -> None:
    """The committed page and no other comes out of the committed results."""
    if not (REFERENCE / "workloads.csv").exists():
        pytest.skip("no frozen results")
    write_page(REFERENCE, tmp_path)
    expected = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert (tmp_path / "reproduction.md").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/vllm.md"])
def test_tables_are_what_the_frozen_results_say(page: str) -> None:
    """Every table between marks comes out again."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert fill(text, makers(REFERENCE)) == text


def test_frozen_results_are_from_commits_that_can_be_looked_up() -> None:
    """Every table that recipes freeze is listed, and none was made with sources that nobody has."""
    source = commits(REFERENCE)
    curves = {"decima_curves.csv", "maskable_ppo.csv"}  # tables of pages, made by baselines/learning_curves.py
    assert source.keys() == {path.name for path in REFERENCE.glob("*.csv")} - curves | {"vllm_validation.json"}
    named = "[0-9a-f]{12}(, of [a-z_ ]+ [0-9a-f]{12})?"  # a few policies may be from an older commit
    assert all(re.fullmatch(named, commit) for commit in source.values())


def test_make_compare_runs_the_part_of_its_name() -> None:
    """The table that pages show for it is the one that it prints."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"llmsched-gym compare --scenario mixed --jobs (\d+) --load (\S+) --seeds (\S+)", makefile)
    assert found is not None
    part = cells(("compare",), Scale(), Path())
    assert {cell.setting.n_jobs for cell in part} == {int(found[1])}
    assert tuple(cell.setting.load for cell in part) == parse_loads(found[2])
    assert {cell.seeds for cell in part} == {parse_seeds(found[3])}
    assert {cell.setting.scenario.name for cell in part} == {"mixed"}
    assert {cell.policies for cell in part} == {policy_names()}


def test_report_without_results_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written."""
    assert main(["--quick", "--part", "report", "-o", str(tmp_path / "none")]) == 2
    assert "no results" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("policy", ["srtf", "llmsched"])
def test_frozen_episodes_are_those_of_this_code(policy: str) -> None:
    """A frozen episode comes out again, event by event."""
    rows = thaw(REFERENCE / "workloads.csv")
    if not rows:
        pytest.skip("no frozen results")
    (frozen,) = (r for r in rows if (r["scenario"], r["policy"], r["seed"]) == ("chain", policy, 0))
    again = run_episode(Setting.make("chain"), policy, 0)
    assert again["metrics"]["episode_digest"] == frozen["episode_digest"]
