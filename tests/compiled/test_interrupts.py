"""Ctrl-C while something is compiled ends it in good order: a short traceback, and nothing broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from interrupts import hearing_interrupts
from programs import environment, run

from llmsched_gym._code import interrupts

CHAIN = "from llmsched_gym._jit import kernel\n\n@kernel\ndef f0(x):\n    return x\n" + "".join(
    f"\n@kernel\ndef f{n}(x):\n    total = 0\n    for i in range(3):\n        total += f{n - 1}(x + i) % {n + 7}\n"
    "    return max(total, int(abs(x)))\n"
    for n in range(1, 13)
)
PROGRAM = "import functions\nprint('begin', flush=True)\nprint(functions.f12(3))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of functions that call each other twelve deep."""
    (tmp_path / "functions.py").write_text(CHAIN)
    return tmp_path


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.6])
def test_an_interrupted_process_is_short_and_leaves_nothing_broken(folder: Path, delay_s: float) -> None:
    with hearing_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment(folder),
            start_new_session=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGINT, said
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert len(said.splitlines()) < 25
    assert "ignored" not in said
    assert "numba/core/typeinfer" not in said
    assert not list((folder / "cache").rglob(".passing/*"))
    done = run(folder, PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == str(expected(12, 3))


def expected(n: int, x: int) -> int:
    """What the functions compute."""
    return x if n == 0 else max(sum(expected(n - 1, x + i) % (n + 7) for i in range(3)), abs(x))


def test_signals_wait_until_they_are_let_through() -> None:
    seen: list[str] = []

    def press() -> None:
        with interrupts.held_back():
            os.kill(os.getpid(), signal.SIGINT)
            seen.append("goes on")

    def press_within() -> None:
        with interrupts.held_back():
            press()  # the inner block does not end the outer one
            interrupts.let_through()
            seen.append("not reached")

    with hearing_interrupts():
        for function in (press, press_within):
            with pytest.raises(KeyboardInterrupt):
                function()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert seen == ["goes on", "goes on"]


def test_a_handler_of_the_users_own_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with interrupts.held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_hold_nothing_back() -> None:
    def hold() -> None:
        with interrupts.held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    seen: list[Any] = []
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
