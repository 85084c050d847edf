"""Threads that work together: each does its part, errors reach the caller, and none outlives the team."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from llmsched_gym._jit import threaded_kernel
from llmsched_gym.envs.atomic import counters, fetch_add
from llmsched_gym.envs.team import Rounds, Team, enter, leave


@threaded_kernel
def count(numbers: np.ndarray, times: int, failing: np.ndarray, rounds: Rounds, thread: int) -> bool:
    """Add 1 to a number that all threads add to."""
    going, over = enter(rounds, thread), True
    while going:
        if failing[0] == thread:
            raise ValueError("no decision")
        for _ in range(times):
            fetch_add(numbers, 1, 1)
        over = leave(rounds, thread)
        going = thread > 0 and enter(rounds, thread)
    return over


def helpers() -> int:
    return sum(thread.name.startswith("llmsched-gym team") for thread in threading.enumerate())


class Counting:
    """A team that counts."""

    def __init__(self, threads: int, times: int, processors: int | None = None) -> None:
        self.numbers, self.failing = counters(3), np.array([-1])
        self.entered: list[int] = []
        self.team = team = Team(threads, threads if processors is None else processors)
        arguments, entered = (self.numbers, times, self.failing, team.rounds), self.entered

        def work(thread: int) -> bool:
            entered.append(thread)
            return count(*arguments, thread)

        self.work = work

    def run(self) -> None:
        self.team.run(self.work)

    @property
    def counted(self) -> int:
        return int(self.numbers[1, 0])


@pytest.mark.parametrize("processors", [1, 5], ids=["sleeping", "looking"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nothing_is_lost_between_threads(threads: int, processors: int) -> None:
    one = Counting(threads, 1000, processors)
    for n in range(1, 51):
        one.run()
        assert one.counted == n * 1000 * threads  # the slowest thread has ended too
    assert not one.numbers[:, 1:].any()
    one.team.dismiss()


def test_threads_sleep_in_the_end_and_wake_up_again() -> None:
    one = Counting(3, 10)
    for n in range(1, 6):
        one.run()
        assert one.counted == n * 30
        deadline = time.monotonic() + 60.0
        while not one.team.rounds.asleep[1:, 0].all():
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert min(one.entered.count(thread) for thread in range(3)) >= 5
    one.team.dismiss()


def test_a_thread_that_is_awake_goes_on_without_being_woken() -> None:
    one = Counting(2, 10)
    while one.entered.count(0) < 10_000 and one.entered.count(0) < one.entered.count(1) + 100:
        one.run()
    assert one.entered.count(0) >= one.entered.count(1) + 100
    assert one.counted == 20 * one.entered.count(0)
    one.team.dismiss()


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_reach_the_caller_and_the_team_goes_on(failing: int) -> None:
    one = Counting(2, 10)
    one.run()
    one.failing[0] = failing
    for n in range(3):
        with pytest.raises(ValueError, match="no decision"):
            one.run()
        assert one.counted == 20 + 10 * (n + 1)
    one.failing[0] = -1
    one.run()
    assert one.counted == 70
    one.team.dismiss()


def test_threads_end_with_the_team() -> None:
    before = helpers()
    one = Counting(4, 1)
    one.run()
    assert helpers() == before + 3
    one.team.dismiss()
    one.team.dismiss()
    assert helpers() == before
    with pytest.raises(RuntimeError, match="closed"):
        one.run()
    forgotten = Counting(2, 1)
    forgotten.run()
    assert helpers() == before + 1
    del forgotten
    gc.collect()
    assert helpers() == before


def test_a_program_ends_with_threads_that_nobody_has_ended() -> None:
    program = "from llmsched_gym.envs.team import Team; team = Team(3, 3); print('end')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
