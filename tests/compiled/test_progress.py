"""Compiling says how far it is, where there is a terminal on one line, and says nothing if it is over at once."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmsched_gym._code import progress as module
from llmsched_gym._code.progress import Progress


class Screen(io.StringIO):
    """Standard error, as a terminal or not."""

    terminal = False

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.terminal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still at the number in a list."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """What is written to."""
    shown = Screen()
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=shown))
    monkeypatch.delenv(module.QUIET_VARIABLE, raising=False)
    return shown


def work(progress: Progress, clock: list[float], seconds: int) -> None:
    """Compile a function per second."""
    progress.begin()
    for _ in range(seconds):
        clock[0] += 1.0
        progress.functions += 1
        progress.show(Path("/kept"))
    progress.end()


def test_a_few_lines_without_a_terminal(clock: list[float], screen: Screen) -> None:
    progress = Progress()
    work(progress, clock, 32)
    progress.last_word()
    assert screen.getvalue().splitlines() == [
        "llmsched_gym: compiling, the first time only; kept in /kept: 1 functions, 1 s",
        *(f"llmsched_gym: compiling: {n} functions, {n} s" for n in (11, 21, 31)),
        "llmsched_gym: compiled 32 functions in 32 s",
    ]


def test_one_line_on_a_terminal(clock: list[float], screen: Screen) -> None:
    screen.terminal = True
    progress = Progress()
    work(progress, clock, 3)
    clock[0] += 1000.0  # the process does something else
    work(progress, clock, 2)
    progress.last_word()
    text = screen.getvalue()
    assert text.count("\n") == 1
    lines = re.split(r"\r\x1b\[K", text)
    assert lines[0] == ""
    assert lines[3] == "llmsched_gym: compiling, the first time only; kept in /kept: 3 functions, 3 s"
    assert lines[4] == ""  # nothing is left there for what the process says itself
    assert lines[-1] == "llmsched_gym: compiled 5 functions in 5 s\n"


def test_what_is_over_at_once_is_not_worth_a_word(clock: list[float], screen: Screen) -> None:
    progress = Progress()
    progress.begin()
    clock[0] += 0.9
    progress.show(None)
    progress.end()
    progress.last_word()
    assert screen.getvalue() == ""


def test_nothing_is_said_if_the_user_wants_so(
    clock: list[float], screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.QUIET_VARIABLE, "1")
    progress = Progress()
    work(progress, clock, 30)
    progress.last_word()
    assert screen.getvalue() == ""
