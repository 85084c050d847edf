"""Ends a server's process group when the process that launched it is gone, however that died.

Run as a script by the launcher, which holds the other end of standard input: a line tells the guard that all is well
and it may go; the end of the input, that the launcher died. It imports the standard library only, to start at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def group_members(group: int) -> list[int]:
    """Return the living processes of a process group (Linux; elsewhere none are found)."""
    members: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            # "pid (name) state parent group ...": the name may hold spaces and parentheses.
            state, _, found = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(found) == group and state not in "ZX":
                members.append(int(entry.name))
    return members


def end_group(group: int, patience_s: float = 3.0) -> None:
    """Kill a process group at once, so that nothing of it stays, shared memory included.

    A killed process cannot free its shared memory; Python's resource tracker, a process of the same group, does so as
    soon as the others are gone. It is given `patience_s` for it.
    """
    deadline = time.monotonic() + patience_s
    while (members := group_members(group)) and time.monotonic() < deadline:
        for member in members:
            with suppress(OSError):
                tracker = b"resource_tracker" in Path(f"/proc/{member}/cmdline").read_bytes()
                os.kill(member, signal.SIGCONT if tracker else signal.SIGKILL)
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main(group: int, folder: str) -> None:
    """Wait for a line or the end of the input.

    Args:
        group: The process group.
        folder: Removed after the group.
    """
    if not sys.stdin.readline():
        end_group(group)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
