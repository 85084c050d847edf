"""Tasks spread over a Ray cluster: many machines, or this one. Optional: the extra ``ray``."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.extras import install_hint, is_installed
from llmsched_gym.user_code.containment import contained

Task = tuple[Any, ...]
R = TypeVar("R")

_AHEAD = 4
"""Tasks handed over per core, so that no core waits for the next one, and little is dropped at an interrupt."""

_PATIENCE_S = 10.0
"""Seconds that a cluster has to answer."""

_LAST_WORDS_S = 1.5
"""Seconds before a cluster of our own ends: Ray brings what tasks have printed some time after their results."""


def check_ray() -> None:
    """Make sure that Ray can be used.

    Raises:
        InputError: It is not installed.
    """
    if not is_installed("ray"):
        raise InputError("--ray", "", Plain("Ray is not installed"), install_hint("ray"))


def run_on_ray(
    function: Callable[..., R], tasks: Iterable[Task], name: Callable[[Task], str]
) -> Generator[tuple[Task, R], None, None]:
    """Yield each task with ``function(*task)``, as they are finished anywhere on the cluster.

    The cluster is the one that ``RAY_ADDRESS`` names, else one on this machine that ends with the generator. Every
    machine needs this package in the same version, and the files that the tasks name.

    Args:
        function: Importable, with picklable arguments and result.
        tasks: Argument tuples.
        name: Says what a task is, for the message if it is lost.

    What tasks print appears on standard error; on a cluster that was joined before by the caller, as it was told then.

    Raises:
        InputError: No cluster answers at that address.
        RunError: A machine or worker was lost, and with it a task, more often than Ray retries.
    """
    waiting = list(reversed(list(tasks)))
    if not waiting:
        return
    import ray
    from ray.exceptions import RayError, RayTaskError

    started_here = not ray.is_initialized()
    if started_here:
        _start()

    def task(*arguments: Any) -> R:
        with contained():
            return function(*arguments)

    remote = ray.remote(num_cpus=1)(task)
    limit = max(int(ray.cluster_resources().get("CPU", 1)), 1) * _AHEAD
    pending: dict[Any, Task] = {}
    try:
        while waiting or pending:
            while waiting and len(pending) < limit:
                arguments = waiting.pop()
                pending[remote.remote(*arguments)] = arguments
            for reference in ray.wait(list(pending))[0]:
                finished = pending.pop(reference)
                try:
                    result = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause from None  # what the function raised there, as if it had been called here
                except RayError as error:
                    raise RunError(f"{name(finished)}: lost by Ray: {' '.join(str(error).split())}") from None
                yield finished, result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if started_here:
            time.sleep(_LAST_WORDS_S)
            ray.shutdown()


def _start() -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
        except OSError:
            raise InputError("RAY_ADDRESS", "", address, "the address of a running Ray cluster, host:port") from None
    ray.init(address=address, **quiet)
