"""Code on disk is whole or not there, shared by processes, and never a reason for anything to fail."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import COUNT, environment, run

from llmsched_gym._code import store

MODULE = """
import time
from llmsched_gym._jit import kernel

@kernel
def add(x):
    return x + {}

@kernel
def twice(x):
    return add(x) + add(x)
"""
PROGRAM = f"from functions import twice\nprint(twice(10)){COUNT}"
WARNING = "llmsched_gym: compiled code cannot be kept in "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of two compiled functions."""
    (tmp_path / "functions.py").write_text(MODULE.format(1))
    return tmp_path


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this process keeps code in for as long as a test runs."""
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path / "own"))
    monkeypatch.delenv("_LLMSCHED_GYM_SPARE_CACHE", raising=False)
    found = store.code_folder()
    assert found is not None
    return found


def numbers(done: subprocess.CompletedProcess[str]) -> list[int]:
    """What `PROGRAM` printed: a result, and how many functions it compiled."""
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_the_folder_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("LLMSCHED_GYM_CACHE", raising=False)
    assert store.cache_root() == tmp_path / "xdg" / "llmsched_gym"
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path / "own"))
    assert store.cache_root() == tmp_path / "own" / "llmsched_gym"
    monkeypatch.delenv("LLMSCHED_GYM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache_root() == tmp_path / ".cache" / "llmsched_gym"


def test_what_is_kept_is_found_and_what_is_damaged_is_not(kept: Path) -> None:
    assert store.is_empty()
    assert store.find("module/name") is None
    store.keep("module/name", b"content")
    assert store.find("module/name") == b"content"
    assert store.holds("module/name")
    assert not store.is_empty()
    file = kept / "module" / "name"
    whole = file.read_bytes()
    for damaged in (b"", whole[:5], whole[:-1], whole[:-1] + b"?", b"?" + whole[1:]):
        file.write_bytes(damaged)
        assert store.find("module/name") is None
        assert not file.exists()
    store.keep("module/name", b"again")
    assert store.find("module/name") == b"again"


def test_forgotten_files_are_removed(kept: Path) -> None:
    passing = kept / ".passing"
    passing.mkdir(parents=True)
    for name, age_s in (("old", 7200.0), ("new", 0.0)):
        (passing / name).touch()
        os.utime(passing / name, (time.time() - age_s, time.time() - age_s))
    store.keep("module/name", b"content")
    assert [file.name for file in passing.iterdir()] == ["new"]


def test_a_damaged_file_is_compiled_again(folder: Path) -> None:
    assert numbers(run(folder, PROGRAM)) == [22, 2]
    assert numbers(run(folder, PROGRAM)) == [22, 0]
    files = sorted((folder / "cache").rglob("functions/*"))
    assert [file.name.split("-")[0] + file.suffix for file in files] == ["add.bc", "twice.o"]
    entry = files[1]
    entry.write_bytes(entry.read_bytes()[:100])
    assert numbers(run(folder, PROGRAM)) == [22, 1]
    body = b"no pickle at all"
    entry.write_bytes(store._checksum(body) + body)
    done = run(folder, PROGRAM)
    assert numbers(done) == [22, 1]
    assert done.stderr == ""


@pytest.mark.parametrize("cache", ["/proc/nope", "functions.py", "nothing"])
def test_a_folder_that_cannot_be_made_is_named_once_and_old_code_never_runs(folder: Path, cache: str) -> None:
    """A child shares what its parent compiled; a new process compiles again, and the sources lie as they did."""
    place = {"/proc/nope": "/proc/nope", "functions.py": str(folder / "functions.py"), "nothing": "/dev/null/x"}[cache]
    child = f"import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {PROGRAM!r}], text=True))"
    for addend in (1, 2):
        (folder / "functions.py").write_text(MODULE.format(addend))
        done = run(folder, f"{PROGRAM}\n{child}", LLMSCHED_GYM_CACHE=place, TMPDIR=str(folder))
        assert numbers(done) == [20 + 2 * addend, 2, 20 + 2 * addend, 0]
        assert done.stderr.startswith(WARNING + place)
        assert done.stderr.count("\n") == 1
        assert "LLMSCHED_GYM_CACHE names another folder" in done.stderr
    assert not list(folder.rglob("*.nb?"))
    assert not list(folder.glob("llmsched-gym-*")), "the temporary folder goes with the process"


def test_code_stays_in_memory_where_nothing_can_be_written_at_all(folder: Path) -> None:
    done = run(folder, PROGRAM, LLMSCHED_GYM_CACHE="/proc/nope", TMPDIR="/proc", PYTHONDONTWRITEBYTECODE="1")
    if done.returncode == 0 and any(Path("/tmp").glob("llmsched-gym-*")):
        pytest.skip("Python finds another folder for temporary files")
    assert numbers(done) == [22, 2]
    assert done.stderr.count("\n") == 1


def test_no_home(folder: Path) -> None:
    code = "import pathlib\ndef home():\n    raise RuntimeError\npathlib.Path.home = home\n"
    done = run(folder, code + PROGRAM, LLMSCHED_GYM_CACHE="", XDG_CACHE_HOME="")
    assert numbers(done) == [22, 2]
    assert done.stderr.startswith("llmsched_gym: compiled code cannot be kept anywhere (no home folder)")


def test_a_folder_that_can_only_be_read_serves_without_a_word(folder: Path) -> None:
    assert numbers(run(folder, PROGRAM)) == [22, 2]
    with read_only(folder / "cache") as place:
        done = run(folder, PROGRAM, LLMSCHED_GYM_CACHE=str(place))
        assert numbers(done) == [22, 0]
        assert done.stderr == ""
        (folder / "functions.py").write_text(MODULE.format(3))
        done = run(folder, PROGRAM, LLMSCHED_GYM_CACHE=str(place))
        assert numbers(done) == [26, 2]
        assert done.stderr.count("\n") == 1


class read_only:  # noqa: N801
    """Mounts a folder a second time so that not even root can write to it; skips where it may not."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._place = folder, folder.with_name("readonly")

    def __enter__(self) -> Path:
        """Mount it."""
        self._place.mkdir()
        mount("--bind", "-o", "ro", self._folder, self._place)
        return self._place

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        subprocess.run(["umount", str(self._place)], check=True)


def mount(*words: object) -> None:
    """Mount something; skip the test where that is not allowed."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", place)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up(folder: Path, full_disk: Path) -> None:
    (full_disk / "llmsched_gym").mkdir()
    with (full_disk / "filler").open("wb") as filler:
        filler.write(bytes(60 << 10))
    done = run(folder, PROGRAM, LLMSCHED_GYM_CACHE=str(full_disk))
    assert numbers(done) == [22, 2]
    assert done.stderr.startswith(WARNING + str(full_disk))
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    left = [file for file in full_disk.rglob("*") if file.is_file() and file.name != "filler"]
    assert all(store._checksum(file.read_bytes()[16:]) == file.read_bytes()[:16] for file in left)


def test_files_that_may_not_grow(folder: Path) -> None:
    """The same where nothing can be mounted; the temporary folder fails as well, and code stays in memory."""
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1024, {resource.RLIM_INFINITY}))\n"
    done = run(folder, limit + PROGRAM, PYTHONDONTWRITEBYTECODE="1")
    assert numbers(done) == [22, 2]
    assert done.stderr.startswith(WARNING)
    assert done.stderr.count("\n") == 1
    assert not [file for file in (folder / "cache").rglob("*") if file.is_file()]


def test_processes_that_compile_at_once_compile_once(folder: Path) -> None:
    words = [sys.executable, "-c", PROGRAM]
    running: list[Any] = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment(folder))
        for _ in range(4)
    ]
    seen = [[int(word) for word in process.communicate(timeout=300)[0].split()] for process in running]
    assert [result for result, _ in seen] == [22] * 4
    assert sum(made for _, made in seen) == 2
    assert not list((folder / "cache").rglob(".passing/*"))


def test_a_claim_is_waited_for(kept: Path) -> None:
    waited: list[float] = []
    with store.claim("module/name"):
        claimant = threading.Thread(target=lambda: _claim(waited))
        claimant.start()
        deadline = time.monotonic() + 20.0
        while not waited and time.monotonic() < deadline:
            time.sleep(0.01)
        assert waited
        assert claimant.is_alive()
    claimant.join(20.0)
    assert not claimant.is_alive()
    assert not list((kept / ".passing").iterdir())


def _claim(waited: list[float]) -> None:
    with store.claim("module/name", waiting=lambda: waited.append(time.monotonic())):
        pass


FORKING = """
import os, time
from llmsched_gym._code import store
with store.claim("module/name"):
    child = os.fork()
    if not child:
        os.close(1), os.close(2)
        time.sleep(60)
        os._exit(0)
print(child)
"""


def test_a_claim_ends_with_its_process_even_if_a_child_lives_on(kept: Path, tmp_path: Path) -> None:
    done = run(tmp_path, FORKING, LLMSCHED_GYM_CACHE=os.environ["LLMSCHED_GYM_CACHE"])
    try:
        began = time.monotonic()
        with store.claim("module/name"):
            assert time.monotonic() - began < 20.0
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)
