"""A pool of worker processes that stops at once when its user does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, TypeVar

from llmsched_gym.errors import RunError

Task = tuple[Any, ...]
R = TypeVar("R")


def run_tasks(function: Callable[..., R], tasks: Iterable[Task], workers: int) -> Generator[tuple[Task, R], None, None]:
    """Yield each task with ``function(*task)``, as they are finished.

    One worker means this process. Otherwise processes are spawned, never forked, so that they inherit no threads and
    behave the same on every platform. If the consumer stops early (an interrupt, an error), running tasks are dropped.

    Args:
        function: Importable, with picklable arguments and result.
        tasks: Argument tuples.
        workers: Number of processes.

    Raises:
        RunError: A worker process was killed.
    """
    tasks = list(tasks)
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, function(*task)
        return
    with worker_pool(workers) as pool:
        pending = {pool.submit(function, *task): task for task in tasks}
        for future in as_completed(pending):
            yield pending[future], future.result()


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of spawned processes, which leave Ctrl-C to this one; a block that is left early ends them at once.

    Args:
        workers: Number of processes.

    Raises:
        RunError: A worker process was killed.
    """
    others = {child.pid for child in multiprocessing.active_children()}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    completed = False
    try:
        _launch(pool, workers)
        yield pool
        completed = True
    except BrokenProcessPool:
        raise RunError("a worker process was killed from outside (out of memory?); fewer workers may help") from None
    finally:
        pool.shutdown(wait=completed, cancel_futures=True)
        if not completed:
            for child in multiprocessing.active_children():
                if child.pid not in others:
                    child.terminate()


def _launch(pool: ProcessPoolExecutor, workers: int) -> None:
    """Launch the processes of a pool: deaf to Ctrl-C from the start, for a process inherits what its parent ignores."""
    if threading.current_thread() is not threading.main_thread():  # no other may change what signals do
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(workers):
            pool.submit(int)  # a task that finds no idle process launches one
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker() -> None:
    # Ctrl-C reaches the whole process group: the parent decides what happens, and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the parent is gone, however it went: an orphan would wait for tasks for ever."""
    wait([sentinel])
    os._exit(1)
