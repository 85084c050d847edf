"""What only the program may do while it runs users' code: speak on standard output, and end the process."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Final, NoReturn

_STDOUT: Final = 1
_STDERR: Final = 2


@contextmanager
def contained() -> Generator[None]:
    """Send whatever is written to standard output to standard error, and make an end of the process an exception.

    ``print``, writes to file descriptor 1 by compiled code and what child processes write are all sent there, so that
    standard output holds results only. ``os._exit`` raises SystemExit, as ``sys.exit`` does by itself: a process that
    ended in the middle with exit code 0 would pass for one that had done its work. To be used as context or decorator;
    both count for the whole process, as standard output does.
    """
    with ExitStack() as stack:
        stack.enter_context(_descriptor_turned())
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(_kept_alive())
        yield


@contextmanager
def _descriptor_turned() -> Generator[None]:
    """Point file descriptor 1 at standard error, or nowhere if that is closed."""
    _flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # standard output is closed: nothing can be written there
        yield
        return
    try:
        try:
            os.dup2(_STDERR, _STDOUT)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, _STDOUT)
            os.close(nowhere)
        yield
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _flush() -> None:
    """Write out what Python and the C library still hold for standard output."""
    with suppress(AttributeError, OSError, ValueError):  # None, full, or closed
        sys.__stdout__.flush()  # pyright: ignore[reportOptionalMemberAccess]
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    with suppress(AttributeError, OSError, TypeError):  # no C library to be had
        ctypes.CDLL(None).fflush(None)


@contextmanager
def _kept_alive() -> Generator[None]:
    """Let ``os._exit`` raise SystemExit in this process; its forked children end by the real one."""
    end, process = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            end(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = end
