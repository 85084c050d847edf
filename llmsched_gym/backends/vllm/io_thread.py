"""An event loop on a thread of its own: sockets and timers live there, so that a slow policy never holds them up."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp

from llmsched_gym.backends.vllm.client import open_session

T = TypeVar("T")


class IoThread:
    """A running event loop with one HTTP session; `close` leaves no task, socket or thread behind.

    Attributes:
        session: For use inside the loop.
    """

    session: aiohttp.ClientSession

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        # A daemon, so that a process that ends without `close` is not held up; then `atexit` closes it.
        self._thread = threading.Thread(target=self._run, name="llmsched-gym I/O", daemon=True)
        self._thread.start()
        self.session = self.call(_open())
        atexit.register(self.close)

    def _run(self) -> None:
        """Run the loop until it is stopped: a task that a user's tool spawned breaks it off by raising SystemExit."""
        while True:
            try:
                return self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # the task has its exception, whoever awaits it gets it
                continue

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result; not to be called from the loop itself."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call a function soon. May be called from any thread."""
        self._loop.call_soon_threadsafe(function, *args)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a coroutine; to be called in the loop."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Cancel what runs, close all connections and end the thread; doing it again changes nothing."""
        if self._loop.is_closed():
            return
        atexit.unregister(self.close)
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()
        await self._loop.shutdown_default_executor()


async def _open() -> aiohttp.ClientSession:
    return open_session()
