"""vLLM servers that we start, watch and end.

Every server runs in a process group of its own. It ends with `Server.stop`, at the end of a ``with``, at the exit of
the interpreter, and through its guard (`guard.py`) when this process is killed.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from llmsched_gym.backends.vllm import guard
from llmsched_gym.backends.vllm.launch_spec import DUMMY, SERVER_MODULE, LaunchSpec, find_python, python_environment
from llmsched_gym.errors import InputError, RunError

STOP_S: Final = 10.0
"""Time that a server has to end in good order before it is killed."""

_DEFAULT_ENVIRONMENT: Final = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The CPU build: idle OpenMP threads spin, so two servers with several each on a small machine starve one another.
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
_DUMMY_ENVIRONMENT: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks this machine itself, whatever proxy the environment names."""


class Server:
    """One running server. `launch` makes it.

    Attributes:
        spec: How it was started.
        url: Its root.
        model: Name of its model in requests.
        log: File that its output goes to.

    Args:
        spec: How to start it.
        log_dir: Folder of the log; by default a temporary one that goes when the server stops.
        python: Interpreter, from `find_python`.
    """

    def __init__(self, spec: LaunchSpec, log_dir: Path | None, python: str) -> None:
        self.spec = spec
        self._python = python
        self._port = spec.port or _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.model = spec.served_model
        # For vLLM's temporary files. Short: it holds sockets, whose paths may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="llmsched-"))
        folder = self._folder if log_dir is None else log_dir
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"vllm-{self._port}.log"
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        """Show where it is."""
        return f"Server({self.spec.model!r}, {self.url!r}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        """Process, and process group, of the server; None while it does not run."""
        return self._process.pid if self._process is not None else None

    def alive(self) -> bool:
        """Whether its main process runs; that it answers is another question."""
        process = self._process
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Start it, without waiting until it is ready.

        Raises:
            InputError: Another process listens on its port.
        """
        with self._lock:
            self.kill()
            _check_free(self._port)
            self._folder.mkdir(exist_ok=True)
            command = [self._python, "-m", SERVER_MODULE, *self.spec.words(self._port)]
            with self.log.open("ab") as log:
                log.write(f"$ {' '.join(command)}\n".encode())
                log.flush()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=self._environment(),
                )
            words = [sys.executable, "-I", "-S", guard.__file__, str(self._process.pid), str(self._folder)]
            self._guard = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
            atexit.register(self.stop)

    def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            RunError: It ended, or was not ready in time.
        """
        deadline = time.monotonic() + self.spec.start_timeout_s
        while not self._answers():
            if not self.alive():
                raise RunError(f"{self.spec.model}: the server ended while it started: {self._last_error()}")
            if time.monotonic() > deadline:
                waited = f"not ready after {self.spec.start_timeout_s:g} s"
                raise RunError(f"{self.spec.model}: {waited} (start_timeout_s), log in {self.log}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End it at once, as a crash would; `restart` brings it back."""
        with self._lock:
            if self._process is not None:
                guard.end_group(self._process.pid)
                self._gone()

    def restart(self) -> None:
        """Start it again on the same port, and wait until it serves.

        Raises:
            RunError: It does not start.
        """
        self.start()
        self.wait_ready()

    def stop(self) -> None:
        """End it in good order, and leave nothing behind but the log."""
        with self._lock:
            process = self._process
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGCONT)  # it may be stopped, and would not hear
                    process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                self.kill()
            atexit.unregister(self.stop)
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _gone(self) -> None:
        """Take leave of the ended process and its guard."""
        if self._process is not None:
            self._process.wait()
        if self._guard is not None:
            with suppress(BrokenPipeError):
                self._guard.communicate(b"ended\n")
        self._process = self._guard = None

    def _environment(self) -> dict[str, str]:
        defaults = {**_DEFAULT_ENVIRONMENT, **(_DUMMY_ENVIRONMENT if self.spec.model.startswith(DUMMY) else {})}
        return {**defaults, **python_environment(self._python), "TMPDIR": str(self._folder), **self.spec.env}

    def _answers(self) -> bool:
        try:
            with _DIRECT.open(f"{self.url}/health", timeout=2) as response:
                return response.status == 200
        except OSError:  # URLError is one
            return False

    def _last_error(self) -> str:
        """Return the last line of the log that tells an error, else the last line."""
        if not self.log.exists():
            return "it was stopped"
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        error = re.compile(r"\b\w*(Error|Exception)\b: \S|\berror: \S")
        telling = [line for line in lines if error.search(line) and "WARNING" not in line]
        return (telling or lines or ["no output"])[-1][-300:]


def launch(
    spec: LaunchSpec | Mapping[str, object] | str, log_dir: Path | None = None, *, python: str | None = None
) -> Server:
    """Start a server and wait until it serves.

    Args:
        spec: What to start.
        log_dir: Folder of its log; by default a temporary one.
        python: Interpreter that has vLLM; see `find_python`.

    Raises:
        InputError: The spec is wrong, or vLLM is not installed.
        RunError: It does not start.
    """
    return launch_all([spec], log_dir, python=python)[0]


def launch_all(
    specs: Iterable[LaunchSpec | Mapping[str, object] | str],
    log_dir: Path | None = None,
    *,
    python: str | None = None,
) -> Sequence[Server]:
    """Start several servers side by side and wait until all serve; if one fails, none stays."""
    checked = [LaunchSpec.of(spec) for spec in specs]
    interpreter = find_python(python)
    servers: list[Server] = []
    try:
        for spec in checked:
            servers.append(Server(spec, log_dir, interpreter))
            servers[-1].start()
        for server in servers:
            server.wait_ready()
    except BaseException:  # Ctrl-C as well
        for server in servers:
            server.stop()
        raise
    return servers


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _check_free(port: int) -> None:
    """Raise an `InputError` where something listens already: it would be taken for the server to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError("server", "port", port, f"a free port ({error.strerror}); 0 finds one") from None
