"""A process that compiles parts of the code for another one (`ahead.py`): ``python -m llmsched_gym._code.helper``.

It reads a part per line, says a line for every function that it has compiled and for every part that is done, and ends
with its input.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
from typing import TextIO

from numba.core import event

from llmsched_gym._code import ahead
from llmsched_gym._code.dispatch import Compiled
from llmsched_gym._code.progress import progress


class _Counter(event.Listener):
    """Says when one of our functions is compiled."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def on_start(self, event: event.Event) -> None:
        """A function begins."""

    def on_end(self, event: event.Event) -> None:
        """A function is done."""
        if isinstance((event.data or {}).get("dispatcher"), Compiled):
            print("made", file=self._output, flush=True)


def main() -> None:
    """Compile what is asked for."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the functions called may print is not for the other process
    progress.silent = True
    ahead.announced.helping = True
    event.register("numba:compile", _Counter(output))
    parts: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(parts,), daemon=True).start()
    while True:
        path, *arguments = parts.get()
        module, _, name = path.partition(":")
        reason = ""
        try:
            getattr(importlib.import_module(module), name)(*arguments)
        except Exception as error:  # the other process meets it again where it can be told
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        print("done", reason, file=output, flush=True)


def _read(parts: queue.SimpleQueue[list[str]]) -> None:
    for line in sys.stdin:
        parts.put(json.loads(line))
    os._exit(0)  # nobody waits for the rest, or the other process is gone


if __name__ == "__main__":
    main()
