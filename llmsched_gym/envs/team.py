"""Threads that do one short piece of compiled work together, over and over."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel, threaded_kernel
from llmsched_gym.envs.atomic import counters, fetch_add

_LOOKS: Final = 20_000
"""How often to look for the others before another thread or process gets the processor: some 100 µs."""

_PAUSE: Final = 2_000
"""How often a thread looks away when it has reported: some 10 µs, in which the caller gets hold of Python's lock."""


class Team:
    """A fixed number of threads, the caller's included.

    A pool of Python's own hands work over and back under Python's lock, which costs much beside a short round. Here
    each thread sleeps on a lock until there is work; all end at about the same time, and look for each other's end
    without sleeping or asking for Python's lock, in compiled code (`report`).

    Args:
        threads: Their number; at least 1.

    Attributes:
        finished: `counters`: how many rounds each thread has finished; for `report`.
    """

    def __init__(self, threads: int) -> None:
        self._board = board = _Board(threads)
        self.finished = board.finished
        helpers = [
            threading.Thread(target=_serve, args=(board, thread), name=f"llmsched-gym team {thread}", daemon=True)
            for thread in range(1, threads)
        ]
        for helper in helpers:
            helper.start()
        self._dismiss = weakref.finalize(self, _dismiss, board, helpers)

    def run(self, work: Callable[[int], bool]) -> None:
        """Call ``work(thread)`` on every thread, 0 being the caller's, and wait until all have returned.

        Args:
            work: Calls one function that is compiled to run without Python's lock, and ends with `report`; returns
                what that does.

        Raises:
            RuntimeError: The threads have been ended.
            BaseException: What one of the calls raised.
        """
        if not self._dismiss.alive:
            raise RuntimeError("the threads have been ended: the environment was closed")
        board = self._board
        board.start(work)
        over = False
        try:
            over = work(0)
        finally:
            if not over:
                board.finished[0, 0] = board.round  # it may have failed to report
                board.wait()
        if board.errors:
            raise board.errors[0]

    def dismiss(self) -> None:
        """End the threads; done by itself when nobody refers to the team any more."""
        self._dismiss()


class _Board:
    """What the threads of a team share. It does not refer to the team, so that a forgotten team can go.

    Attributes:
        finished: `counters`: how many rounds each thread has finished.
        round: The number of the present round.
        work: What to do in it; None ends the threads.
        errors: What was raised in it by other threads than the caller's.
        starts: A lock per thread other than the caller's, open once there is work for it.
    """

    def __init__(self, threads: int) -> None:
        self.finished = counters(threads)
        self.round = 0
        self.work: Callable[[int], bool] | None = None
        self.errors: list[BaseException] = []
        self.starts = [threading.Lock() for _ in range(1, threads)]
        for start in self.starts:
            start.acquire()

    def start(self, work: Callable[[int], bool] | None) -> None:
        """Begin a round."""
        self.round += 1
        self.work = work
        self.errors = []
        for start in self.starts:
            start.release()

    def wait(self) -> None:
        """Wait until the round is over. An interrupt waits too: the threads still write to the caller's arrays."""
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                while not _all_finished(self.finished, self.round, _LOOKS):
                    time.sleep(0)
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def _dismiss(board: _Board, helpers: list[threading.Thread]) -> None:
    """End the threads, before the interpreter takes itself apart around them."""
    board.start(None)
    for helper in helpers:
        if helper is not threading.current_thread():
            helper.join()


def _serve(board: _Board, thread: int) -> None:
    """Work, round by round."""
    while True:
        board.starts[thread - 1].acquire()
        if board.work is None:
            return
        try:
            board.work(thread)
        except BaseException as error:  # the caller raises it
            board.errors.append(error)
            _report_failure(board.finished, thread)


@kernel
def report(finished: NDArray[np.int64], thread: int) -> bool:
    """End a thread's part of a round; what it has written before is seen by whoever sees that.

    Args:
        finished: `Team.finished`.
        thread: The thread. The caller's, 0, waits for the others, as long as it is worth while without sleeping.

    Returns:
        Whether all threads have reported.
    """
    rounds = fetch_add(finished, thread, 1) + 1
    if thread == 0:
        return _look(finished, rounds, _LOOKS)
    for _ in range(_PAUSE):
        fetch_add(finished, thread, 0)
    return False


@threaded_kernel
def _report_failure(finished: NDArray[np.int64], thread: int) -> None:
    """Report for a thread that could not."""
    fetch_add(finished, thread, 1)


@threaded_kernel
def _all_finished(finished: NDArray[np.int64], rounds: int, looks: int) -> bool:
    """Look up to so many times whether all threads but the first have finished so many rounds."""
    return _look(finished, rounds, looks)


@kernel
def _look(finished: NDArray[np.int64], rounds: int, looks: int) -> bool:
    """Do what `_all_finished` does."""
    thread = 1
    for _ in range(looks):
        while thread < len(finished) and fetch_add(finished, thread, 0) == rounds:
            thread += 1
        if thread >= len(finished):
            return True
    return False
