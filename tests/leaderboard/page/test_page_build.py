"""The page of a few submissions: what is on it, and that it is the same whenever it is made."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest
from reading_pages import Page, assert_harmless
from verified_entries import verify

from llmsched_gym.cli import main
from llmsched_gym.leaderboard.page import build
from llmsched_gym.leaderboard.page.board import make_board
from llmsched_gym.leaderboard.page.entries import read_entry
from llmsched_gym.suites.running import run_suite
from llmsched_gym.suites.suite import Suite

INDEX, RESULTS = "index.html", "results.json"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def site(handed_in: Path, board_suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("site") / "site"
    build(handed_in, output, [board_suite])
    return output


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {name: Page(content.decode()) for name, content in files(site).items() if name.endswith(".html")}


def test_a_page_per_entry(pages: dict[str, Page]) -> None:
    assert set(pages) == {
        INDEX,
        "entries/board-v1/2026-01-02_first.html",
        "entries/board-v1/2026-01-03_shortest.html",
        "entries/board-v1/2026-01-04_two_runs.html",
        "entries/board-v1/2026-01-05_truth.html",
    }


def test_equal_submissions_give_equal_files(site: Path, changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    for path in sorted(changeable.rglob("*"), reverse=True):
        path.touch()
    build(changeable, tmp_path / "again", [board_suite])
    assert files(tmp_path / "again") == files(site)


def test_building_again_writes_nothing(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    output = tmp_path / "site"
    build(changeable, output, [board_suite])
    before = {path: path.stat().st_ino for path in output.rglob("*.html")}
    build(changeable, output, [board_suite])
    assert {path: path.stat().st_ino for path in output.rglob("*.html")} == before


def test_pages_are_whole_and_harmless(pages: dict[str, Page]) -> None:
    for page in pages.values():
        assert_harmless(page)
        assert page.one("html").attributes["lang"] == "en"
        assert page.all("title")[0].text
        assert len(page.all("h1")) == len(page.all("main")) == len(page.all("header")) == 1


def test_policies_name_what_runs_and_nothing_else(pages: dict[str, Page]) -> None:
    for page in pages.values():
        expected = {}
        for kind in ("style", "script"):
            digests = (hashlib.sha256(one.text.encode()).digest() for one in page.all(kind))
            expected[f"{kind}-src"] = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
        given = {name: rest for name, *rest in (part.split() for part in page.policy.split(";"))}
        assert given["default-src"] == ["'none'"]
        assert {name: given[name] for name in expected} == expected
        assert given["img-src"] == ["data:"]
        assert given["base-uri"] == given["form-action"] == ["'none'"]


def test_links_within_lead_somewhere(pages: dict[str, Page], site: Path) -> None:
    ids = {
        name: [one.attributes["id"] for one in page.elements if "id" in one.attributes] for name, page in pages.items()
    }
    for name, page in pages.items():
        assert len(set(ids[name])) == len(ids[name])
        for one in page.all("a"):
            path, _, part = one.attributes["href"].partition("#")
            if not path.startswith("https:"):
                target = (site / name).parent / path if path else site / name
                assert target.is_file(), one.attributes
                assert not part or part in ids[target.resolve().relative_to(site.resolve()).as_posix()]
        for reference in re.findall(r"url\(#([^)]*)\)", page.content):
            assert reference in ids[name]


def test_tables_and_pictures_tell_what_they_are(pages: dict[str, Page]) -> None:
    for page in pages.values():
        assert all("scope" in one.attributes for one in page.all("th"))
        assert len(page.all("table")) == len(page.all("caption")) > 0
        for one in page.all("svg", "div"):
            if one.attributes.get("role") in ("img", "region", "group", "toolbar"):
                assert len(one.attributes["aria-label"]) > 10
        assert [one.text for one in page.all("figcaption") if len(one.text) < 4] == []
        assert all(one.text.strip() for one in page.all("label", "summary", "legend"))


def test_scores_are_those_of_suite_run(site: Path, board_suite: Suite, tmp_path: Path) -> None:
    found = run_suite(board_suite, ["fcfs", "sjf+mct", "oracle_srtf"], tmp_path, 1)
    expected = {one.policy: one for one in found.scores}
    entries = {one["name"]: one for one in json.loads((site / RESULTS).read_text())["suites"][0]["entries"]}
    for name, label in {"first": "fcfs", "shortest": "sjf+mct", "truth": "oracle_srtf"}.items():
        assert entries[name]["score"] == expected[label].overall.as_list()
        for scenario, interval in expected[label].scenarios.items():
            assert entries[name]["scenarios"][scenario]["score"] == interval.as_list()
    shown = Page((site / INDEX).read_text()).all("tr")
    (row,) = (
        one
        for one in shown
        if one.attributes.get("data-entry") == "2026-01-03_shortest" and "data-track" in one.attributes
    )
    assert f"{expected['sjf+mct'].overall.mid:.3f}" in row.text


def test_runs_are_put_together_per_seed(site: Path) -> None:
    (suite,) = json.loads((site / RESULTS).read_text())["suites"]
    (entry,) = (one for one in suite["entries"] if one["name"] == "two runs")
    logs = [
        log(run[seed] / base)
        for scenario in suite["scenarios"]
        for run in entry["scenarios"][scenario["name"]]["runs"]
        for seed, base in enumerate(scenario["reference_values"])
    ]
    assert len(logs) == 3 * 2 * 4
    assert entry["score"][1] == pytest.approx(exp(sum(logs) / len(logs)))


def test_without_verified_entries_there_are_no_ranks(site: Path, pages: dict[str, Page]) -> None:
    (suite,) = json.loads((site / RESULTS).read_text())["suites"]
    assert not suite["ranked"]
    assert [one["rank"] for one in suite["entries"]] == [None] * 4
    scores = [one["score"][1] for one in suite["entries"]]
    assert scores == sorted(scores)
    assert "No entry of this suite is verified yet" in pages[INDEX].content
    assert "Rank" not in [one.text for one in pages[INDEX].all("th")]


def test_verified_entries_rank_and_oracles_never(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    for name in ("2026-01-02_first", "2026-01-03_shortest", "2026-01-04_two_runs", "2026-01-05_truth"):
        verify(changeable / "board-v1" / name, board_suite)
    build(changeable, tmp_path / "site", [board_suite])
    (suite,) = json.loads((tmp_path / "site" / RESULTS).read_text())["suites"]
    badges = {one["name"]: one["badge"] for one in suite["entries"]}
    assert badges == {"first": "verified", "shortest": "verified", "truth": "verified", "two runs": "claimed"}
    ranks = {one["name"]: one["rank"] for one in suite["entries"]}
    assert suite["ranked"]
    assert ranks["truth"] is None
    assert ranks["two runs"] is None  # whose actions nobody replayed
    assert min(ranks["first"], ranks["shortest"]) == 1
    page = Page((tmp_path / "site" / INDEX).read_text())
    assert "No entry of this suite is verified yet" not in page.content
    cells = {one.attributes["data-entry"]: one.text for one in page.all("tr") if "data-track" in one.attributes}
    assert [name for name, text in cells.items() if "not ranked" in text] == list(cells)[2:]
    assert {name.partition("_")[2] for name in list(cells)[2:]} == {"truth", "two_runs"}


def test_equals_stand_by_date(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    for name in ("2026-01-02_first", "2026-01-03_shortest"):
        verify(changeable / "board-v1" / name, board_suite)
    (board,) = build(changeable, tmp_path / "site", [board_suite])
    first, second = board.rows[:2]
    assert (first.place, second.place) == ("1=", "1=")  # of four seeds
    assert first.entry.submission.date < second.entry.submission.date
    assert first.score.overall.mid > second.score.overall.mid


def test_tracks_rank_among_themselves(changeable: Path, board_suite: Suite) -> None:
    entries = []
    for number, name in enumerate(("2026-01-02_first", "2026-01-03_shortest")):
        verify(changeable / "board-v1" / name, board_suite)
        entry = read_entry(changeable / "board-v1" / name, board_suite)
        said = entry.submission.model_copy(update={"track": ("online", "search")[number]})
        entries.append(replace(entry, submission=said))
    board = make_board(board_suite, entries)
    assert [(row.entry.submission.track, row.place) for row in board.rows] == [("online", "1"), ("search", "1")]


def test_sealed_instances_are_told_apart(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    folder = changeable / "board-v1" / "2026-01-03_shortest"
    verify(folder, board_suite)
    build(changeable, tmp_path / "site", [board_suite])
    (suite,) = json.loads((tmp_path / "site" / RESULTS).read_text())["suites"]
    (entry,) = (one for one in suite["entries"] if one["name"] == "shortest")
    for name, found in entry["sealed"].items():
        assert found["instances"] == 4
        assert found["score"][1] == pytest.approx(entry["scenarios"][name]["score"][1])
        assert found["decision_us_mean"] == 100.0
    assert list(entry["sealed"]) == ["crowd", "plans", "models"]
    assert "c" * 64 in (tmp_path / "site" / "entries" / "board-v1" / f"{folder.name}.html").read_text()
    verify(folder, board_suite, instances="open", tag=None, commitment=None)
    build(changeable, tmp_path / "site", [board_suite])
    (suite,) = json.loads((tmp_path / "site" / RESULTS).read_text())["suites"]
    (entry,) = (one for one in suite["entries"] if one["name"] == "shortest")
    assert (entry["badge"], entry["sealed"]) == ("replayed", None)


def test_badges_are_of_what_was_checked(site: Path) -> None:
    (suite,) = json.loads((site / RESULTS).read_text())["suites"]
    badges = {one["name"]: one["badge"] for one in suite["entries"]}
    assert badges == {"first": "replayed", "shortest": "replayed", "truth": "replayed", "two runs": "claimed"}


def test_lower_bounds_where_they_are_known(site: Path) -> None:
    (suite,) = json.loads((site / RESULTS).read_text())["suites"]
    bounds = {one["name"]: one["lower_bounds"] for one in suite["scenarios"]}
    assert bounds["plans"] is None
    for name in ("crowd", "models"):
        for entry in suite["entries"]:
            for run in entry["scenarios"][name]["runs"]:
                assert all(low <= value for low, value in zip(bounds[name], run, strict=True))


def test_the_chart_has_every_task(site: Path, pages: dict[str, Page], board_suite: Suite) -> None:
    scenario = board_suite.scenario("models")
    page = pages["entries/board-v1/2026-01-03_shortest.html"]
    (tasks,) = re.findall(r"(\d+) tasks of 4 jobs", page.content)
    boxes = [
        one
        for one in page.all("rect")
        if one.attributes.get("fill", "").startswith("url(#app") and "x" in one.attributes
    ]
    assert len(boxes) == int(tasks) > 0
    assert f"models, seed {scenario.seeds[0]}" in page.content


def test_the_commitment_is_on_the_page(handed_in: Path, board_folder: Path, tmp_path: Path) -> None:
    key, published = tmp_path / "key", tmp_path / "published.json"
    assert main(["leaderboard", "key", "new", str(key)]) == 0
    assert main(["leaderboard", "key", "publish", str(key), "-o", str(published)]) == 0
    words = ["leaderboard", "build", "--submissions", str(handed_in), "--suite", str(board_folder / "board")]
    assert main([*words, "--commitment", str(published), "-o", str(tmp_path / "site")]) == 0
    commitment = json.loads(published.read_text())["commitment"]
    assert json.loads((tmp_path / "site" / RESULTS).read_text())["commitment"] == commitment
    assert commitment in (tmp_path / "site" / INDEX).read_text()
    published.write_text('{"commitment": "<script>"}')
    assert main([*words, "--commitment", str(published), "-o", str(tmp_path / "site")]) == 2


def test_entries_that_are_gone_lose_their_pages(changeable: Path, board_suite: Suite, tmp_path: Path) -> None:
    output = tmp_path / "site"
    build(changeable, output, [board_suite])
    (output / "CNAME").write_text("example.org\n")
    shutil.rmtree(changeable / "board-v1" / "2026-01-02_first")
    build(changeable, output, [board_suite])
    names = set(files(output))
    assert "entries/board-v1/2026-01-02_first.html" not in names
    assert {"CNAME", "entries/board-v1/2026-01-03_shortest.html"} <= names


def test_nothing_handed_in(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    build(tmp_path / "submissions", tmp_path / "site")
    assert json.loads((tmp_path / "site" / RESULTS).read_text())["suites"] == []
    assert "Nothing has been handed in yet" in (tmp_path / "site" / INDEX).read_text()


def test_the_command(
    handed_in: Path, board_folder: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["leaderboard", "build", "--submissions", str(handed_in), "--suite", str(board_folder / "board")]
    assert main([*words, "-o", str(tmp_path / "site"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == {"board-v1": 4}
    assert files(tmp_path / "site") == files(site)
