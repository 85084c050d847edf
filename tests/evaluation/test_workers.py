"""A pool of workers whose user presses Ctrl-C ends at once, and only the process that the user started speaks."""

from __future__ import annotations

import ctypes
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupts import hearing_interrupts

from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.workers import run_tasks, worker_pool
from llmsched_gym.workloads.splits import check_seed

PROGRAM = """
import os, signal, sys, threading, time
from llmsched_gym.evaluation.workers import worker_pool

if __name__ == "__main__":
    try:
        with worker_pool(2) as pool:
            if sys.argv[1] == "while they work":
                assert sorted(pool.run(int, [("1",), ("2",)], str)) == [(0, 1), (1, 2)]
                threading.Timer(0.5, os.killpg, (0, signal.SIGINT)).start()
                list(pool.run(time.sleep, [(60.0,), (60.0,)], str))
            os.killpg(0, signal.SIGINT)
            time.sleep(60.0)
    except KeyboardInterrupt:
        print("interrupted")
"""

UNIMPORTABLE = """
from llmsched_gym.evaluation.workers import run_tasks

list(run_tasks(int, [(1,), (2,)], 2, str))
"""


@pytest.mark.parametrize("moment", ["while they start", "while they work"])
def test_interrupted_workers_say_nothing(tmp_path: Path, moment: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), moment]
    with hearing_interrupts():
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, start_new_session=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_a_program_without_a_guard_blames_no_task(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNIMPORTABLE)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50.0, check=False)
    assert done.returncode == 1
    assert "RunError: before it began: the worker process ended by itself, with exit code 1" in done.stderr


def end_by_c(code: int) -> None:
    """End the process where Python cannot know of it."""
    ctypes.CDLL(None)._exit(code)


def leave(code: int) -> None:
    """End the process where Python does know."""
    os._exit(code)


def kill(signal_number: int) -> None:
    """Kill the process that this runs in."""
    os.kill(os.getpid(), signal_number)
    time.sleep(60.0)


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (end_by_c, 0, "task 0: the worker process ended by itself, with exit code 0"),
        (end_by_c, 3, "task 3: the worker process ended by itself, with exit code 3"),
        (kill, signal.SIGSEGV, "task 11: the worker process was killed by SIGSEGV"),
        (kill, signal.SIGKILL, r"task 9: the worker process was killed by SIGKILL \(out of memory"),
        (leave, 0, r"task 0: SystemExit: os\._exit\(0\)"),
        (sys.exit, 0, "task 0: SystemExit: 0"),
        (operator.truediv, "x", "unsupported operand"),
    ],
)
def test_a_process_that_ends_in_a_task_is_told_with_it(function: Callable[..., Any], argument: Any, words: str) -> None:
    arguments = (argument, argument) if function is operator.truediv else (argument,)
    with pytest.raises((RunError, TypeError), match=words):
        list(run_tasks(function, [arguments] * 2, 2, lambda task: f"task {int(task[0])}"))


def test_what_a_task_raises_is_raised_here() -> None:
    with pytest.raises(InputError, match="a whole number from 0"):
        list(run_tasks(check_seed, [(-1,), (-2,)], 2, str))


def test_a_pool_runs_one_list_of_tasks_after_the_other() -> None:
    with worker_pool(2) as pool:
        for n in (5, 1, 3):
            assert sorted(pool.run(str, [(k,) for k in range(n)], str)) == [(k, str(k)) for k in range(n)]
