"""A pool of worker processes that stops at once when its user does, and that knows what each of them does.

The standard library's pool loses track of that: when one of its processes dies, nobody can say of which task.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, TypeVar

from llmsched_gym.errors import RunError
from llmsched_gym.user_code.containment import contained
from llmsched_gym.user_code.faults import told

Task = tuple[Any, ...]
R = TypeVar("R")

_PATIENCE_S: Final = 5.0
"""Seconds that a process has to end before it is ended."""

_end_at_once: Final = os._exit
"""Ends this process though it runs users' code, for which `contained` replaces ``os._exit``."""


def run_tasks(
    function: Callable[..., R], tasks: Iterable[Task], workers: int, name: Callable[[Task], str]
) -> Generator[tuple[Task, R], None, None]:
    """Yield each task with ``function(*task)``, as they are finished.

    One worker means this process. Otherwise processes are spawned, never forked, so that they inherit no threads and
    behave the same on every platform. If the consumer stops early (an interrupt, an error), running tasks are dropped.

    Args:
        function: Importable, with picklable arguments and result.
        tasks: Argument tuples.
        workers: Number of processes.
        name: Says what a task is, for the message if a process dies of it.

    Raises:
        RunError: A worker process ended in the middle of a task.
    """
    tasks = list(tasks)
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, function(*task)
        return
    with worker_pool(workers) as pool:
        for position, result in pool.run(function, tasks, name):
            yield tasks[position], result


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """Give a pool of spawned processes, which leave Ctrl-C to this one; a block that is left early ends them at once.

    Args:
        workers: Number of processes.
    """
    pool = WorkerPool(workers)
    try:
        yield pool
    except BaseException:
        pool.end()
        raise
    pool.close()


@dataclass
class _Worker(Generic[R]):
    """A process, the connection to it, the position of the task that it has (None: idle), and whether it has begun."""

    process: SpawnProcess
    connection: Connection
    position: int | None = None
    begun: bool = False


class WorkerPool:
    """Processes that run tasks of any importable functions.

    Args:
        workers: Number of processes.
    """

    def __init__(self, workers: int) -> None:
        self._workers: list[_Worker[Any]] = []
        try:
            with _deaf_to_interrupts():
                for _ in range(workers):
                    self._workers.append(_launch())
        except BaseException:
            self.end()
            raise

    def run(
        self, function: Callable[..., R], tasks: Sequence[Task], name: Callable[[Task], str]
    ) -> Generator[tuple[int, R], None, None]:
        """Yield the position of each task with ``function(*task)``, as they are finished.

        Args:
            function: Importable, with picklable arguments and result.
            tasks: Argument tuples.
            name: Says what a task is, for the message if a process dies of it.

        Raises:
            RunError: A process ended in the middle of a task.
        """
        waiting = deque(range(len(tasks)))
        while waiting or any(worker.position is not None for worker in self._workers):
            for worker in self._workers:
                if worker.position is None and waiting:
                    worker.position = waiting.popleft()
                    self._send(worker, (function, tasks[worker.position]))
            busy = {worker.connection: worker for worker in self._workers if worker.position is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # pyright: ignore[reportArgumentType]
                position = worker.position
                assert position is not None
                try:
                    done, result = worker.connection.recv()
                except (EOFError, OSError):
                    what = name(tasks[position]) if worker.begun else "before it began"
                    raise RunError(f"{what}: {_death(worker.process)}") from None
                if not worker.begun:
                    worker.begun = True
                    continue
                worker.position = None
                if not done:
                    raise RunError(f"{name(tasks[position])}: {result}") if isinstance(result, str) else result
                yield position, result

    @staticmethod
    def _send(worker: _Worker[Any], work: tuple[Callable[..., Any], Task]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the process is gone: reading from it tells so
            worker.connection.send(work)

    def close(self) -> None:
        """Let the processes end, which have nothing left to do."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE_S)
        self.end()

    def end(self) -> None:
        """End the processes, whatever they do."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_PATIENCE_S)
            if worker.process.is_alive():  # a policy may have made it deaf to that, too
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()


def _launch() -> _Worker[Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    theirs.close()  # what is left is held by the process alone: its end is the end of the connection
    return _Worker(process, ours)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C: what is launched meanwhile does so from the start, for a process inherits that."""
    if threading.current_thread() is not threading.main_thread():  # no other may change what signals do
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _death(process: SpawnProcess) -> str:
    """Say how a process ended."""
    process.join(_PATIENCE_S)
    code = process.exitcode
    if code is None or code >= 0:
        return f"the worker process ended by itself, with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = " (out of memory? fewer workers may help)" if -code == signal.SIGKILL else ""
    return f"the worker process was killed by {name}{hint}"


def _serve(connection: Connection) -> None:
    """Run tasks until the parent closes the connection, or is gone."""
    # Ctrl-C reaches the whole process group: the parent decides what happens, and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with contained():
        connection.send((True, None))  # it has begun: from now on its end is the end of a task
        while True:
            try:
                work = connection.recv_bytes()
            except EOFError:
                return
            connection.send_bytes(_outcome(work))


def _outcome(work: bytes) -> bytes:
    """Run a task; return, pickled, whether it went well and what came of it: a result, an exception, or its text."""
    try:
        function, task = pickle.loads(work)
        return pickle.dumps((True, function(*task)))
    except Exception as error:  # whatever a task may raise is raised again in the parent
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            pickle.loads(content := pickle.dumps((False, error)))
        except Exception:
            return pickle.dumps((False, told(error)))
        return content
    except BaseException as error:  # raised again in the parent, it would end that
        return pickle.dumps((False, told(error)))


def _end_with(sentinel: int) -> None:
    """End this process when the parent is gone, however it went: an orphan would wait for tasks for ever."""
    wait([sentinel])
    _end_at_once(1)
