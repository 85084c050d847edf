"""Ctrl-C while something is compiled: inside of Numba and LLVM it would be lost, or leave something half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
_came: list[tuple[int, FrameType | None]] = []


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals that Python handles wait for `let_through`, or the end of the block; within another block do nothing.

    An interrupt that passes loses its traceback, of which all lines would tell of the compiler.
    """
    if _handlers or threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):
            _handlers[number] = handler
            signal.signal(number, _wait)
    try:
        try:
            yield
        finally:
            while _handlers:
                number, handler = _handlers.popitem()
                signal.signal(number, handler)
        let_through()
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(*interrupt.args) from None
    finally:
        _came.clear()


def let_through() -> None:
    """Handle the signals that have come: nothing is half done."""
    while _came and threading.current_thread() is threading.main_thread():
        number, frame = _came.pop(0)
        handler = _handlers.get(number) or signal.getsignal(number)
        if callable(handler):
            handler(number, frame)


def _wait(number: int, frame: FrameType | None) -> None:
    _came.append((number, frame))
