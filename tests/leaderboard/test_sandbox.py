"""What a policy can do in the sandbox, and what it cannot: everything here is really tried, outside too."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.leaderboard.sandbox.launching import Kind, Limits, PolicyGone, Sandboxed, find_sandbox
from llmsched_gym.user_code.installed import PACKAGE

HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.fixture(scope="module")
def kind() -> Kind:
    """What shuts processes in here."""
    try:
        return find_sandbox()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission of the hostile policy, and a secret beside it."""
    place = tmp_path / "submission"
    place.mkdir()
    shutil.copy(HOSTILE, place / "policy.py")
    (tmp_path / "secret").write_text("0123456789")
    return place


@pytest.fixture
def port() -> Iterator[int]:
    """A port that something listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def inside(kind: Kind, folder: Path, attack: str, **how: Any) -> str:
    """What comes of an attack in the sandbox."""
    query = "&".join(f"{name}={value}" for name, value in {"attack": attack, **how}.items())
    with pytest.raises(PolicyGone) as gone:
        Sandboxed(kind, folder, f"policy.py:Hostile?{query}", Limits(memory_bytes=2 << 30))
    return str(gone.value).removeprefix("RuntimeError: ")


def outside(attack: str, **how: Any) -> str:
    """What comes of it elsewhere."""
    code = f"import hostile; print(hostile.outcome({attack!r}, **{how!r}))"
    environment = {**os.environ, "PYTHONPATH": f"{HOSTILE.parent}{os.pathsep}{PACKAGE.parent}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_secret_cannot_be_read(kind: Kind, folder: Path) -> None:
    for path in (folder.parent / "secret", "/etc/passwd", folder / ".." / "secret", "/proc/1/root/etc/passwd"):
        assert outside("read", path=str(path)).startswith("got ") or str(path).startswith("/proc/")
        assert inside(kind, folder, "read", path=path) == "refused: FileNotFoundError"
    assert inside(kind, folder, "read", path="policy.py").startswith("got "), "its own files it can read"


def test_a_link_in_a_submission_leads_nowhere(kind: Kind, folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    assert inside(kind, folder, "read", path="link") == "refused: FileNotFoundError"


def test_suites_cannot_be_seen(kind: Kind, folder: Path) -> None:
    assert outside("suites") == "got small-v1"
    assert inside(kind, folder, "suites") == "refused: ModuleNotFoundError"
    path = PACKAGE / "suites" / "small-v1" / "workloads.csv"
    assert outside("read", path=str(path)).startswith("got ")
    assert inside(kind, folder, "read", path=path) == "refused: FileNotFoundError"


def test_the_environment_is_empty(kind: Kind, folder: Path) -> None:
    assert "PATH" in outside("environment")
    assert inside(kind, folder, "environment") == "got ([], b'')"


def test_no_other_process_can_be_seen(kind: Kind, folder: Path) -> None:
    assert int(outside("count_processes").removeprefix("got ")) > 2
    assert int(inside(kind, folder, "count_processes").removeprefix("got ")) <= 2


def test_there_is_no_network(kind: Kind, folder: Path, port: int) -> None:
    assert outside("connect", port=port) == "got connected"
    assert inside(kind, folder, "connect", port=port) == "refused: PermissionError"


@pytest.mark.parametrize("attack", ["fork", "program"])
def test_there_are_no_more_processes(attack: str, kind: Kind, folder: Path) -> None:
    assert outside(attack).startswith("got ")
    assert inside(kind, folder, attack) == "refused: PermissionError"


def test_nor_by_way_of_the_c_library(kind: Kind, folder: Path) -> None:
    assert outside("libc_fork") == "got forked"
    assert inside(kind, folder, "libc_fork") == "got Operation not permitted"


def test_threads_are_taken(kind: Kind, folder: Path) -> None:
    assert inside(kind, folder, "threads") == "got 1"


def test_memory_has_a_limit(kind: Kind, folder: Path) -> None:
    assert inside(kind, folder, "memory") == "refused: MemoryError"
    assert outside("anonymous_file") == "got 1"
    assert inside(kind, folder, "anonymous_file") == "refused: OSError"


def test_nothing_can_be_written(kind: Kind, folder: Path) -> None:
    target = folder.parent / "written"
    assert outside("write", path=str(target)) == "got 1"
    target.unlink()
    for path in (target, "/tmp/written", "written", "policy.py", PACKAGE / "py.typed", PACKAGE / "suites" / "x", "/x"):
        assert inside(kind, folder, "write", path=path).startswith("refused: "), path
    assert inside(kind, folder, "write", path="/dev/null") == "got 1"
    assert not target.exists()
    assert (folder / "policy.py").read_text() == HOSTILE.read_text()
    assert not (folder / "written").exists()


@pytest.mark.parametrize("attack", ["mount", "namespace"])
def test_the_walls_stay(attack: str, kind: Kind, folder: Path) -> None:
    assert inside(kind, folder, attack) == "got Operation not permitted"


def test_there_are_no_capabilities(kind: Kind, folder: Path) -> None:
    assert set(inside(kind, folder, "capabilities").removeprefix("got ")) == {"0"}


def test_what_is_left_of_it_is_taken_away(kind: Kind, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    process = Sandboxed(kind, folder, "fcfs", Limits())
    assert list(tmp_path.glob("llmsched-gym-sandbox-*"))
    process.close()
    assert not list(tmp_path.glob("llmsched-gym-sandbox-*"))


def descendants(process: int) -> set[int]:
    """Processes below one, as this side numbers them."""
    found = {int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()}
    return found.union(*map(descendants, found))


def test_a_policy_that_does_not_end_is_ended(kind: Kind, folder: Path) -> None:
    query = "policy.py:Hostile?attack=threads_for_ever"
    with pytest.raises(PolicyGone, match="did not answer"):
        Sandboxed(kind, folder, query, Limits(load_s=3.0))
    process = Sandboxed(kind, folder, "fcfs", Limits())
    alive = descendants(process._process.pid)
    assert alive
    process.close()
    end = time.monotonic() + 5.0
    while any(Path(f"/proc/{one}").exists() for one in alive) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{one}").exists() for one in alive)


def test_where_nothing_shuts_in_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match=r"sandbox: got none; expected bubblewrap"):
        find_sandbox()
