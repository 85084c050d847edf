"""Threads that do one short piece of compiled work together, over and over."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel, threaded_kernel
from llmsched_gym.envs.atomic import counters, exchange, fetch, fetch_add

_LOOKS: Final = 1_000_000
"""How often a thread looks for the others before it sleeps: well below a millisecond, many times what waking takes."""

_DISMISSED: Final = -1


class Rounds(NamedTuple):
    """What threads tell each other. All but `looks` are `counters`.

    Attributes:
        begun: One row: how many rounds have begun; negative once there will be no more.
        finished: A row per thread: how many rounds it has finished.
        asleep: A row per thread: 1 if it must be woken for the next round.
        looks: How often to look for what one waits for before sleeping.
    """

    begun: NDArray[np.int64]
    finished: NDArray[np.int64]
    asleep: NDArray[np.int64]
    looks: int


class Team:
    """A fixed number of threads, the caller's included.

    A pool of Python's own hands work over and back under Python's lock, which costs much beside a short round. Here
    threads wait for each other in compiled code, without asking for that lock, and sleep only after a while: so they
    do not meet Python from one round to the next if those follow each other quickly.

    Args:
        threads: Their number; at least 1.
        processors: How many processors there are: with fewer than threads, these do not look for each other.

    Attributes:
        rounds: For `enter` and `leave`.
    """

    def __init__(self, threads: int, processors: int) -> None:
        looks = _LOOKS if threads <= processors else 0
        self.rounds = Rounds(counters(1), counters(threads), counters(threads), looks)
        self._board = board = _Board(self.rounds)
        helpers = [
            threading.Thread(target=_serve, args=(board, thread), name=f"llmsched-gym team {thread}", daemon=True)
            for thread in range(1, threads)
        ]
        for helper in helpers:
            helper.start()
        self._dismiss = weakref.finalize(self, _dismiss, board, helpers)

    def run(self, work: Callable[[int], bool]) -> None:
        """Let every thread do its part of a round, and wait until all have.

        Args:
            work: Called as ``work(thread)``, 0 being the caller's, when it has to be; returns what its only compiled
                function does. That is one which runs without Python's lock, and has this form::

                    going, over = enter(rounds, thread), True
                    while going:
                        ...  # a part of the round
                        over = leave(rounds, thread)
                        going = thread > 0 and enter(rounds, thread)
                    return over

                Threads that have not left it since do not take notice of another `work`.

        Raises:
            RuntimeError: The threads have been ended.
            BaseException: What one of the calls raised.
        """
        if not self._dismiss.alive:
            raise RuntimeError("the threads have been ended: the environment was closed")
        board = self._board
        board.work = work
        board.wake()
        over = False
        try:
            over = work(0)
        finally:
            if not over:
                board.wait()
        if board.errors:
            errors, board.errors = board.errors, []
            raise errors[0]

    def dismiss(self) -> None:
        """End the threads; done by itself when nobody refers to the team any more."""
        self._dismiss()


class _Board:
    """What the threads of a team share. It does not refer to the team, so that a forgotten team can go.

    Attributes:
        rounds: What they tell each other in compiled code.
        work: What to do.
        dismissed: Whether there is nothing more to do.
        errors: What was raised by other threads than the caller's.
        alarms: A lock per thread other than the caller's, open to wake it.
    """

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.work: Callable[[int], bool] | None = None
        self.dismissed = False
        self.errors: list[BaseException] = []
        self.alarms = [threading.Lock() for _ in range(1, len(rounds.finished))]
        for alarm in self.alarms:
            alarm.acquire()
        rounds.asleep[1:, 0] = 1

    def wake(self) -> None:
        """Wake those who sleep; one that has just found something to do will not sleep next time."""
        for thread, alarm in enumerate(self.alarms, 1):
            if self.rounds.asleep[thread, 0] and alarm.locked():
                alarm.release()

    def wait(self) -> None:
        """Wait until the round is over. An interrupt waits too: the threads still write to the caller's arrays."""
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                while not _others_have_finished(self.rounds):
                    self.wake()
                    time.sleep(0)
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def _dismiss(board: _Board, helpers: list[threading.Thread]) -> None:
    """End the threads, before the interpreter takes itself apart around them."""
    board.dismissed = True
    _end(board.rounds)
    board.wake()
    for helper in helpers:
        if helper is not threading.current_thread():
            helper.join()


def _serve(board: _Board, thread: int) -> None:
    """Work, and sleep when there has been nothing to do for a while."""
    while not board.dismissed:
        board.alarms[thread - 1].acquire()
        if board.dismissed or board.work is None:
            return
        try:
            board.work(thread)
        except BaseException as error:  # the caller raises it
            board.errors.append(error)
            _give_up(board.rounds, thread)


@kernel
def enter(rounds: Rounds, thread: int) -> bool:
    """Begin a round, or take part in it; what was written before it began is seen by whoever takes part.

    Args:
        rounds: `Team.rounds`.
        thread: The thread. The caller's, 0, begins a round; others wait for that.

    Returns:
        False if there was none for a while: it has to return, to sleep.
    """
    if thread == 0:
        fetch_add(rounds.begun, 0, 1)
        return True
    exchange(rounds.asleep, thread, 0)
    done = fetch(rounds.finished, thread)
    for _ in range(rounds.looks):
        begun = fetch(rounds.begun, 0)
        if begun != done:
            return begun != _DISMISSED
    exchange(rounds.asleep, thread, 1)
    if fetch(rounds.begun, 0) <= done:
        return False
    exchange(rounds.asleep, thread, 0)  # one has begun in between, perhaps by a caller who did not see that
    return True


@kernel
def leave(rounds: Rounds, thread: int) -> bool:
    """End a thread's part of a round; what it has written before is seen by whoever sees that.

    Args:
        rounds: `Team.rounds`.
        thread: The thread. The caller's, 0, waits for the others, as long as it is worth while without sleeping.

    Returns:
        Whether all threads have ended theirs, as far as is known.
    """
    fetch_add(rounds.finished, thread, 1)
    return thread == 0 and _look(rounds)


@kernel
def _look(rounds: Rounds) -> bool:
    """Look whether the other threads have finished the round, until they have or that takes long."""
    begun = fetch(rounds.begun, 0)
    thread = 1
    for _ in range(rounds.looks + len(rounds.finished)):
        if thread == len(rounds.finished):
            return True
        thread += fetch(rounds.finished, thread) == begun
    return False


@threaded_kernel
def _others_have_finished(rounds: Rounds) -> bool:
    return _look(rounds)


@threaded_kernel
def _end(rounds: Rounds) -> None:
    """Tell the threads that there will be no more rounds."""
    exchange(rounds.begun, 0, _DISMISSED)


@threaded_kernel
def _give_up(rounds: Rounds, thread: int) -> None:
    """Sleep, and report for a thread that could not."""
    exchange(rounds.asleep, thread, 1)
    exchange(rounds.finished, thread, fetch(rounds.begun, 0))
