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
from llmsched_gym.envs.team import Team, report


@threaded_kernel
def count(numbers: np.ndarray, times: int, finished: np.ndarray, thread: int) -> bool:
    """Add 1 to a number that all threads add to."""
    for _ in range(times):
        fetch_add(numbers, 1, 1)
    return report(finished, thread)


@threaded_kernel
def end(finished: np.ndarray, thread: int) -> bool:
    """Do nothing more."""
    return report(finished, thread)


def helpers() -> int:
    return sum(thread.name.startswith("llmsched-gym team") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nothing_is_lost_between_threads(threads: int) -> None:
    team, numbers = Team(threads), counters(3)
    for _ in range(50):
        team.run(lambda thread: count(numbers, 1000, team.finished, thread))
    assert numbers[:, 0].tolist() == [0, 50 * 1000 * threads, 0]
    assert not numbers[:, 1:].any()
    team.dismiss()


def test_a_round_ends_when_the_slowest_thread_has_ended() -> None:
    team, ended = Team(3), set()

    def work(thread: int) -> bool:
        time.sleep(0.02 * thread)
        ended.add(thread)
        return end(team.finished, thread)

    for _ in range(3):
        ended.clear()
        team.run(work)
        assert ended == {0, 1, 2}
    team.dismiss()


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_reach_the_caller_and_the_team_goes_on(failing: int) -> None:
    team, done = Team(2), []

    def work(thread: int) -> bool:
        if thread == failing:
            raise ValueError("no decision")
        time.sleep(0.01)
        done.append(thread)
        return end(team.finished, thread)

    with pytest.raises(ValueError, match="no decision"):
        team.run(work)
    assert done == [1 - failing]
    failing = -1
    team.run(work)
    assert sorted(done[1:]) == [0, 1]
    team.dismiss()


def test_threads_end_with_the_team() -> None:
    before = helpers()
    team = Team(4)
    team.run(lambda thread: end(team.finished, thread))
    assert helpers() == before + 3
    team.dismiss()
    team.dismiss()
    assert helpers() == before
    with pytest.raises(RuntimeError, match="closed"):
        team.run(lambda thread: end(team.finished, thread))
    forgotten = Team(2)
    assert helpers() == before + 1
    del forgotten
    gc.collect()
    assert helpers() == before


def test_a_program_ends_with_threads_that_nobody_has_ended() -> None:
    program = "from llmsched_gym.envs.team import Team; team = Team(3); print('end')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
