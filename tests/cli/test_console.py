"""Tables for people: on a narrow terminal nothing of a value is lost."""

from __future__ import annotations

import pytest

from llmsched_gym.cli import console
from llmsched_gym.cli.console import EpisodeProgress, print_table

NAMES = ("policy", "mean JCT s", "below FCFS % [95 %]", "slowdown", "tokens per job", "about")
ROWS = [
    (
        f"policy_{i}",
        100.0 + i,
        f"{i}.5 [-{i}.0, {i}.9]",
        3.25 + i,
        1_234_567 + i,
        f"Takes candidate {i} of many, always.",
    )
    for i in range(3)
]


@pytest.mark.parametrize("width", [160, 80, 50, 20, 5])
def test_no_value_is_cut(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(console, "_WIDTH", width)
    print_table("a title", NAMES, ROWS)
    out = capsys.readouterr().out
    assert "…" not in out
    lines = out.splitlines()
    for name, jct, interval, slowdown, tokens, about in ROWS:
        for value in (f"{jct:.1f}", interval, f"{slowdown:.4g}", str(tokens)):
            assert any(line.startswith(name) and value in line for line in lines), (value, out)
        assert all(word in out for word in about.split())
    if width >= 50:
        assert max(map(len, lines)) <= width


def test_wide_table_is_one_block(capsys: pytest.CaptureFixture[str]):
    print_table("", NAMES, ROWS)
    header, *body = capsys.readouterr().out.splitlines()
    assert header.split() == " ".join(NAMES).split()
    assert len(body) == len(ROWS)


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]):
    print_table("", ("a [ms]", "b"), [("[bold]", 1)])
    out = capsys.readouterr().out
    assert "a [ms]" in out
    assert "[bold]" in out


def test_progress_says_what_it_is_within(capsys: pytest.CaptureFixture[str]):
    with EpisodeProgress(within="load 0.5") as progress:
        progress.begin(3, 1)
        progress.advance("fcfs")
    assert capsys.readouterr().err.splitlines() == [
        "load 0.5: 1 of 3 results were there already",
        "load 0.5: [2/3] fcfs",
    ]
