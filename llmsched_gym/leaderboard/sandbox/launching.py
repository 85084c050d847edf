"""Starting the process of a policy in namespaces of its own, and talking to it with a limit of time."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.leaderboard.sandbox import child
from llmsched_gym.user_code.installed import PACKAGE

_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
"""Where shared libraries are."""

_HIDDEN: Final = ("suites",)
"""Folders of this package that are empty for a policy."""

_CHILD: Final = Path(child.__file__)


@dataclass(frozen=True)
class Limits:
    """What a policy may take.

    Attributes:
        decision_s: Seconds per decision.
        load_s: Seconds to be loaded, and for its ``reset`` and first decision together.
        memory_bytes: Memory, all that it maps.
        patience: How many times as long as `decision_s` is waited for an answer that is late already.
    """

    decision_s: float = 1.0
    load_s: float = 60.0
    memory_bytes: int = 4 << 30
    patience: float = 10.0


class PolicyGone(Exception):
    """The process of a policy has ended, or was ended."""


class PolicyLate(Exception):
    """A policy has not answered in time; the answer that may still come is dropped."""


Kind = Literal["bubblewrap", "unshare"]


def find_sandbox() -> Kind:
    """Return by what a process can be shut in here.

    Raises:
        InputError: By nothing.
    """
    if shutil.which("bwrap"):
        return "bubblewrap"
    command = ["unshare", *_NAMESPACES, "true"]
    if shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return "unshare"
    allowed = "bubblewrap (bwrap), or a system that lets its users make namespaces (unshare --user)"
    raise InputError("sandbox", "", Plain("none"), allowed)


_NAMESPACES: Final = (
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--pid",
    "--ipc",
    "--uts",
    "--fork",
    "--kill-child",
)


def mounts(folder: Path) -> list[str]:
    """Return what the process can read: Python, its packages, shared libraries, this package, the submission."""
    wanted = [*_SYSTEM, sys.base_prefix, sys.prefix, str(PACKAGE), str(folder)]
    present = sorted({os.path.realpath(path) for path in wanted if os.path.exists(path)} | _links(wanted))
    return [path for path in present if not any(path.startswith(f"{other}/") for other in present)]


def _links(paths: list[str]) -> set[str]:
    """Return those paths that are links themselves (``/lib`` to ``/usr/lib``): they must be there by that name."""
    return {path for path in paths if os.path.islink(path) and os.path.exists(path)}


class Sandboxed:
    """A policy in a process of its own.

    Args:
        kind: What shuts it in.
        folder: Its submission.
        spec: Its name there.
        limits: What it may take.

    Raises:
        RunError: The sandbox cannot be made.
        PolicyGone: The policy cannot be loaded.
        PolicyLate: It takes too long to load.
    """

    def __init__(self, kind: Kind, folder: Path, spec: str, limits: Limits) -> None:
        self._limits, folder = limits, folder.resolve()
        self._root = Path(tempfile.mkdtemp(prefix="llmsched-gym-sandbox-"))
        visible = mounts(folder)
        hidden = [str(PACKAGE / name) for name in _HIDDEN]
        python = [sys.executable, "-I", "-B", str(_CHILD)]
        if kind == "bubblewrap":
            binds = [word for path in visible for word in ("--ro-bind", path, path)]
            covers = [word for path in hidden if os.path.isdir(path) for word in ("--tmpfs", path)]
            options = (
                "--unshare-all",
                "--die-with-parent",
                "--new-session",
                "--clearenv",
                "--dev",
                "/dev",
                "--proc",
                "/proc",
            )
            command = ["bwrap", *options, *binds, *covers, "--chdir", str(folder), *python]
        else:
            command = ["unshare", *_NAMESPACES, "--", *python]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._layout: list[list[Any]] = []
        self._first = True
        setting = {
            "root": None if kind == "bubblewrap" else str(self._root),
            "mounts": visible,
            "hidden": hidden,
            "folder": str(folder),
            "package": str(PACKAGE.parent),
            "memory_bytes": limits.memory_bytes,
            "spec": spec,
        }
        try:
            try:
                self._write(json.dumps(setting).encode(), limits.load_s)
                self._read(limits.load_s, limits.load_s)
            except PolicyGone as gone:  # no line of the policy has run
                raise RunError(f"the sandbox cannot be made here: {gone}") from None
            self._read(limits.load_s, limits.load_s)
        except BaseException:
            self.close()
            raise

    def begin(self, info: Mapping[str, Any], observation: Mapping[str, Any]) -> None:
        """Tell it what ``reset`` told."""
        self._layout = child.layout_of(dict(observation))
        mask = {"action_mask": info["action_mask"]}
        told = {name: value for name, value in info.items() if name != "action_mask"}
        begun = {"info": told, "layout": self._layout, "mask": child.layout_of(mask)}
        self._write(json.dumps(begun).encode(), self._limits.load_s)
        self._write(mask["action_mask"].tobytes(), self._limits.load_s)

    def act(self, observation: Mapping[str, Any]) -> int:
        """Ask for an action.

        Raises:
            PolicyLate: It has not answered in time.
            PolicyGone: It will not answer any more.
        """
        limits, first = self._limits, self._first
        self._first = False
        limit = limits.load_s if first else limits.decision_s
        started = time.monotonic()
        self._write(child.pack_arrays(dict(observation), self._layout), limit * limits.patience)
        answer = self._read(limit, limit * limits.patience, started)
        if len(answer) != 8:
            raise PolicyGone("an answer that is no action")
        return struct.unpack("<q", answer)[0]

    def close(self) -> None:
        """End the process, and all that it may have started."""
        self._process.kill()  # `unshare --kill-child` and a new namespace of processes take everything else along
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what is left to be written cannot be
                    stream.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _write(self, content: bytes, limit_s: float) -> None:
        """Write a frame."""
        rest, end = memoryview(struct.pack("<I", len(content)) + content), time.monotonic() + limit_s
        while rest:
            self._wait(self._input, selectors.EVENT_WRITE, end)
            try:
                rest = rest[os.write(self._input, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise PolicyGone(self._last_words()) from None

    def _read(self, limit_s: float, most_s: float, started: float | None = None) -> bytes:
        """Read a frame.

        Raises:
            PolicyLate: It came after `limit_s`.
            PolicyGone: It has not come within `most_s`, or is none.
        """
        started = time.monotonic() if started is None else started
        content = b""
        while len(content) < 4 or len(content) < 4 + int.from_bytes(content[:4], "little"):
            self._wait(self._output, selectors.EVENT_READ, started + most_s)
            try:
                piece = os.read(self._output, child.MOST_SAID)
            except BlockingIOError:
                continue
            if not piece:
                raise PolicyGone("it has ended by itself")
            content += piece
            if len(content) > child.MOST_SAID:
                raise PolicyGone("it says more than it was asked")
        late = time.monotonic() - started > limit_s
        answer = content[4:]
        if answer.startswith(b"{") and answer != b"{}" and len(answer) != 8:
            raise self._failure(answer)
        if late:
            raise PolicyLate
        return answer

    @staticmethod
    def _failure(answer: bytes) -> PolicyGone:
        try:
            return PolicyGone(str(json.loads(answer)["failed"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return PolicyGone("an answer that is no action")

    def _last_words(self) -> str:
        """Return what the process failed of, if it has said so."""
        try:
            self._read(0.0, 1.0)
        except PolicyGone as gone:
            return str(gone)
        except PolicyLate:
            pass
        return "it has ended by itself"

    def _wait(self, descriptor: int, event: int, end: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not selector.select(max(end - time.monotonic(), 0.0)):
                raise PolicyGone("it did not answer")
