"""Names in pictures: whatever their characters mean to matplotlib, they are shown as they are."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure

from llmsched_gym.pictures import in_picture


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
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_title(in_picture(name))
    axes.plot([0, 1], label=in_picture(name))
    legend = axes.legend()
    figure.savefig(io.BytesIO())
    assert [text.get_text() for text in legend.get_texts()] == [shown]
