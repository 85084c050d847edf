"""Code that will be needed is compiled by several processes, once something of it is missing.

A *part* of the code is made by calling a function of this package that uses it. Whoever knows what this process is
going to do announces parts; nothing happens before a compiled function is called that is not in the cache. Then one
process per core works through the parts. They share what they make through the cache, function by function, so that
none is made twice; a process that meets others at this work waits for them.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

from llmsched_gym._code import interrupts, store
from llmsched_gym._code.progress import progress

Part = tuple[str, ...]
"""``module:function`` and its arguments."""

ALONE_S: Final = 2.0
"""Seconds of compiling that this process does itself; for less, others need not start."""

_LOOK_S: Final = 0.2
"""Longest time between two looks whether Ctrl-C was pressed."""


@dataclass
class Announced:
    """What this process is going to need.

    Attributes:
        parts: Parts that nobody was asked to compile yet, in the order announced.
        asked: Parts that others were asked to compile.
        helpers: Most processes that may help; None: one per core.
        helping: Whether this process helps another one, and so gets no help.
    """

    parts: dict[Part, None] = field(default_factory=dict)
    asked: set[Part] = field(default_factory=set)
    helpers: int | None = None
    helping: bool = False


announced: Final = Announced()


def announce(*parts: Part, helpers: int | None = None) -> None:
    """Say which parts of the code this process will need, the longest first.

    Args:
        parts: See `Part`.
        helpers: Most processes that may help to compile them; None leaves that as it is.
    """
    announced.parts.update({part: None for part in parts if part not in announced.asked})
    announced.helpers = announced.helpers if helpers is None else helpers


def describe(part: Part) -> str:
    """Name a part for people."""
    path, *arguments = part
    return ": ".join(filter(None, (path.rpartition(":")[2].replace("_", " "), ", ".join(arguments))))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_help(name: str) -> None:
    """Have all that was announced compiled, if that is more than this process should do alone.

    Args:
        name: What is missing in the store.
    """
    parts = tuple(announced.parts)
    helpers = min(cores() if announced.helpers is None else announced.helpers, len(parts))
    little = progress.seconds < ALONE_S and not store.is_empty()
    if helpers < 2 or announced.helping or little or store.folder_in_use() is None:
        return
    with store.claim("all", waiting=lambda: progress.show(store.folder_in_use(), "another process does")):
        if not store.holds(name):
            finished = 0
            for report in compile_parts(parts, helpers):
                progress.functions += report.made
                finished += len(report.finished)
                far = f"{finished} of {len(parts)} parts, {progress.functions} functions"
                progress.show(store.folder_in_use(), far)
    announced.asked.update(parts)
    announced.parts.clear()
    progress.last_word()


@dataclass(frozen=True)
class Report:
    """What has happened since the last one.

    Attributes:
        made: Functions compiled.
        finished: Parts that are done, in whatever way.
        failed: Why parts could not be done.
    """

    made: int
    finished: tuple[Part, ...]
    failed: tuple[str, ...]


def compile_parts(parts: Sequence[Part], helpers: int) -> Iterator[Report]:
    """Have parts compiled by other processes; yield several times a second. If the consumer stops, they end.

    A process that dies takes its part with it: whoever needs it compiles it.
    """
    waiting = deque(parts)
    with ExitStack() as running, selectors.DefaultSelector() as selector:
        for _ in range(min(helpers, len(parts))):
            helper = _Helper()
            running.callback(helper.end)
            selector.register(helper.output, selectors.EVENT_READ, helper)
            helper.give(waiting)
        while selector.get_map():
            made, finished, failed = 0, list[Part](), list[str]()
            for key, _ in selector.select(_LOOK_S):
                helper: _Helper = key.data
                for word, _, text in (line.partition(" ") for line in helper.lines()):
                    if word == "made":
                        made += 1
                        continue
                    if text:
                        failed.append(f"{describe(helper.part)}: {text}")
                    finished.append(helper.part)
                    helper.give(waiting)
                if helper.ended:
                    selector.unregister(helper.output)
                    if helper.part:
                        failed.append(f"{describe(helper.part)}: its process was killed (out of memory?)")
            interrupts.let_through()
            yield Report(made, tuple(finished), tuple(failed))


class _Helper:
    """A process that compiles one part after the other (`helper.py`).

    Attributes:
        part: What it is at.
        output: Descriptor of what it says.
        ended: Whether it will say no more.
    """

    def __init__(self) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        # In a process group of its own it does not hear Ctrl-C: this process ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llmsched_gym._code.helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.output = self._output.fileno()
        self._rest = b""
        self.part: Part = ()
        self.ended = False

    def give(self, waiting: deque[Part]) -> None:
        """Give it the next part that waits, or nothing more to do."""
        with suppress(BrokenPipeError):
            if not waiting:
                self.part = ()
                self._input.close()
                return
            self.part = waiting.popleft()
            self._input.write(json.dumps(self.part).encode() + b"\n")
            self._input.flush()

    def lines(self) -> list[str]:
        """Return what it has said by now."""
        said = os.read(self.output, 1 << 16)
        self.ended = not said
        *lines, self._rest = (self._rest + said).split(b"\n")
        return [line.decode() for line in lines]

    def end(self) -> None:
        """End it, whatever it is doing: what it has kept is whole."""
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
