"""Threads that take shares of a piece of work off the caller, if they get to run."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Helpers:
    """Threads beside the caller's. Where they come late, the caller does their share.

    A share belongs to whoever takes its lock first: the helper that was woken for it, or the caller when it has done
    its own. So a round never waits for a thread that the system has not let run yet, and costs little more than without
    helpers where processors are busy. Nothing spins.

    Args:
        count: Number of threads beside the caller's.

    Raises:
        BaseException: From `run`: what a share raised.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._crew: _Crew | None = None

    def run(self, shares: list[Callable[[], object]]) -> None:
        """Do all shares, of which the last `count` may be done by helpers; returns when all are done.

        Args:
            shares: As many as there are threads.
        """
        if self._crew is None or self._crew.process != os.getpid():  # a forked child has no threads but its own
            self._crew = _Crew(self._count)
            weakref.finalize(self, self._crew.dismiss)
        self._crew.run(shares)

    def dismiss(self) -> None:
        """End the threads; the next `run` starts others."""
        if self._crew is not None:
            self._crew.dismiss()
            self._crew = None


class _Helper:
    """What the caller and one thread tell each other.

    Attributes:
        wanted: Released by the caller when there is a share; acquired by the thread.
        share: What to do; whoever takes it off does it.
        free: Held while a share is there that nobody has taken.
        done: Released when the thread has done a share that it took.
        error: What the share raised.
    """

    def __init__(self) -> None:
        self.wanted = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.guard = threading.Lock()
        self.share: Callable[[], object] | None = None
        self.error: BaseException | None = None
        self.ended = False

    def take(self) -> Callable[[], object] | None:
        """Take the share off, if it is there."""
        with self.guard:
            share, self.share = self.share, None
            return share


class _Crew:
    """The threads of one process."""

    def __init__(self, count: int) -> None:
        self.process = os.getpid()
        self._helpers = [_Helper() for _ in range(count)]
        for number, helper in enumerate(self._helpers, 1):
            threading.Thread(target=_serve, args=(helper,), name=f"llmsched-gym helper {number}", daemon=True).start()

    def run(self, shares: list[Callable[[], object]]) -> None:
        own, given = shares[: -len(self._helpers)], shares[-len(self._helpers) :]
        for helper, share in zip(self._helpers, given, strict=True):
            helper.share = share
            helper.wanted.release()
        errors: list[BaseException] = []
        for share in own:
            _attempt(share, errors)
        for helper in self._helpers:
            left = helper.take()
            if left is not None:
                _attempt(left, errors)
                continue
            _wait(helper.done, errors)
            if helper.error is not None:
                errors.append(helper.error)
                helper.error = None
        if errors:
            raise errors[0]

    def dismiss(self) -> None:
        for helper in self._helpers:
            helper.ended = True
            helper.wanted.release()


def _attempt(share: Callable[[], object], errors: list[BaseException]) -> None:
    try:
        share()
    except BaseException as error:  # raised once no thread writes to the caller's arrays any more
        errors.append(error)


def _wait(done: threading.Semaphore, errors: list[BaseException]) -> None:
    """Wait until a helper is through. An interrupt waits too: the helper still writes to the caller's arrays."""
    while True:
        try:
            done.acquire()
            return
        except KeyboardInterrupt as error:
            errors.append(error)


def _serve(helper: _Helper) -> None:
    while True:
        helper.wanted.acquire()
        if helper.ended:
            return
        share = helper.take()
        if share is None:
            continue  # the caller was faster
        try:
            share()
        except BaseException as error:  # the caller raises it
            helper.error = error
        helper.done.release()
