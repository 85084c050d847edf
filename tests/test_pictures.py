"""Pictures come as PNG and PDF, equal ones as equal files, with plain numbers on logarithmic axes."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.pictures import caption, in_picture, make_logarithmic, new_figure, plain, write_figure


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "load-0.9.png"])
def test_both_files_are_written_and_equal_each_time(tmp_path: Path, name: str) -> None:
    files = []
    stem = name.rpartition(".")[0]
    for _ in range(2):
        figure = new_figure(4, 3)
        figure.add_subplot().plot([1, 2], [1, 100])
        caption(figure, "two points")
        write_figure(figure, tmp_path / name)
        assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.png", f"{stem}.pdf"}
        files.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert files[0] == files[1]
    assert files[0][f"{stem}.png"].startswith(b"\x89PNG")
    assert files[0][f"{stem}.pdf"].startswith(b"%PDF")
    assert b"/Type3" not in files[0][f"{stem}.pdf"]  # what journals refuse


@pytest.mark.parametrize("name", ["a.jpg", "a.svg", "a"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected \.png or \.pdf"):
        write_figure(new_figure(1, 1), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("high", [1.5, 4.0, 30.0, 1e3, 1e7])
def test_a_logarithmic_axis_has_plain_numbers(high: float) -> None:
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    axes.plot([0.9, high], [1, 2])
    make_logarithmic(axes.xaxis, "time [s]")
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    labels = [text.get_text() for tick, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "time [s], logarithmic"
    assert all(set(label) <= set("0123456789.") for label in labels)
    shown = [
        text.get_window_extent()
        for tick, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert len(shown) >= 3
    assert all(one.x1 < other.x0 for one, other in pairwise(shown))


def test_numbers_without_an_exponent() -> None:
    assert [plain(value) for value in (0.5, 1.0, 20.0, 1e-5, 2e7, 0.1 + 0.2)] == [
        "0.5",
        "1",
        "20",
        "0.00001",
        "20000000",
        "0.3",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain_name", "plain_name"),
        ("$\\x$", r"\$\x\$"),
        ("_hidden", " _hidden"),
        ("two\nlines", r"two\nlines"),
    ],
)
def test_names_are_labels(name: str, shown: str) -> None:
    assert in_picture(name) == shown
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.set_title(in_picture(name))
    axes.plot([0, 1], label=in_picture(name))
    legend = axes.legend()
    figure.savefig(io.BytesIO())
    assert [text.get_text() for text in legend.get_texts()] == [shown]
