"""Options of dataclasses that are no verbs, as the training recipes read them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from llmsched_gym.cli.parsing import read_options
from llmsched_gym.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Settings of a recipe."""

    steps: int = 5
    learning_rate: float = 0.1
    jobs: tuple[int, ...] = (3, 4)
    entropy: tuple[float, float] = (0.1, 0.2)
    graph: bool = True
    weights: dict[str, int] = field(default_factory=lambda: {"mixed": 1})


def test_defaults_and_negations():
    assert read_options(Settings, "train", []) == Settings()
    default = Settings(steps=7)
    words = ["--no-graph", "--learning_rate=0.5", "--jobs", "1", "2"]
    assert read_options(Settings, "train", words, default=default) == Settings(7, 0.5, (1, 2), graph=False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "x"], "train: --steps: got 'x'; expected a whole number (see train --help)"),
        (["--steps", "2", "--steps=1.5"], "train: --steps: got '1.5'; expected a whole number (see train --help)"),
        (["--learning-rate", "-x"], "train: --learning-rate: got nothing; expected a number (see train --help)"),
        (["--learning_rate", "x"], "train: --learning-rate: got 'x'; expected a number (see train --help)"),
        (
            ["--jobs", "1", "y", "--steps", "3"],
            "train: --jobs: got '1 y'; expected whole numbers, separated by spaces (see train --help)",
        ),
        (
            ["--entropy", "1", "y"],
            "train: --entropy: got '1 y'; expected numbers, separated by spaces (see train --help)",
        ),
        (["--weights.mixed", "x"], "train: --weights.mixed: got 'x'; expected a whole number (see train --help)"),
        (["--graph", "y"], "train: got 'y'; expected no such word here (see train --help)"),
        (["--stps", "1"], "train: option: got '--stps'; expected one of --entropy, --graph, --help, --jobs, "),
    ],
)
def test_complaints_are_one_line(words: list[str], told: str):
    with pytest.raises(InputError) as error:
        read_options(Settings, "train", words)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)
