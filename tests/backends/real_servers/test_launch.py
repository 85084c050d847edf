"""Servers that start, end and leave nothing behind, whatever happens to the process that launched them."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

import pytest
from interrupts import hearing_interrupts

from llmsched_gym.backends.vllm.dummy_model import SIZES, dummy_model
from llmsched_gym.backends.vllm.guard import group_members
from llmsched_gym.backends.vllm.launch import Server, launch, launch_all
from llmsched_gym.backends.vllm.launch_spec import PYTHON_VARIABLE, LaunchSpec, find_python
from llmsched_gym.errors import InputError, RunError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dummy:tini", r"did you mean 'tiny'"),
        ("./no/such/model", r"model: got '\./no/such/model'; expected a folder that exists"),
        ({"model": "dummy:tiny", "port": 99_999}, r"port: got 99999; expected a whole number from 0 to 65535"),
        ({"model": "dummy:tiny", "max_num_seqs": 0}, r"max_num_seqs: got 0; expected a whole number >= 1"),
        ({"model": "dummy:tiny", "max_num_seq": 4}, r"max_num_seq: got 4; expected no such field"),
        ({"model": "dummy:tiny", "flags": ["--port=1"]}, r"flags: got .--port.; expected no such flag"),
        ({"port": 1}, r"model: got nothing; expected text that is not empty"),
    ],
)
def test_bad_specs(given: str | dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        LaunchSpec.of(given)


def test_words():
    spec = LaunchSpec.of({"model": "meta-llama/Llama-2-7b-hf", "max_num_seqs": 64, "flags": ["--swap-space", "0"]})
    words = spec.words(8123)
    assert " ".join(words).startswith("--model meta-llama/Llama-2-7b-hf --served-model-name meta-llama/Llama-2-7b-hf")
    assert words[words.index("--max-num-seqs") + 1] == "64"
    assert words[-2:] == ["--swap-space", "0"]
    assert "--load-format" not in words
    assert "--enforce-eager" in LaunchSpec.of("dummy:tiny").words(1)
    assert "--enforce-eager" not in LaunchSpec.of("dummy:7b").words(1)


def test_dummy_models(tmp_path: Path):
    folders = {dummy_model(name, tmp_path) for name in SIZES}
    assert len(folders) == len(SIZES)
    assert all([file.name for file in folder.iterdir()] == ["config.json"] for folder in folders)
    file = dummy_model("tiny", tmp_path) / "config.json"
    written = file.stat().st_mtime_ns
    assert dummy_model("tiny", tmp_path) == file.parent
    assert file.stat().st_mtime_ns == written  # kept
    content = file.read_bytes()
    file.write_bytes(content[:10])
    dummy_model("tiny", tmp_path)
    assert file.read_bytes() == content


@pytest.fixture
def without_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an interpreter in ``bare`` that has no vLLM, and is this process's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "executable", make_python(tmp_path / "bare"))
    return tmp_path


def make_python(folder: Path) -> str:
    """Make an interpreter in an environment of its own."""
    venv.create(folder, symlinks=True, with_pip=False)
    return str(folder / "bin" / "python")


def add_server(folder: Path) -> None:
    """Put modules of the names of vLLM's into a folder; importing any of them fails."""
    package = folder / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for parent in (package, *package.parents[:2]):
        (parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "api_server.py").write_text("raise RuntimeError('imported')")


def test_find_python(without_vllm: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="make vllm"):
        find_python()
    bare = sys.executable
    add_server(next((without_vllm / "bare").glob("lib/python*/site-packages")))
    assert find_python() == bare
    beside = make_python(without_vllm / ".venv-vllm")
    assert find_python() == bare  # the one beside has no vLLM
    add_server(next((without_vllm / ".venv-vllm").glob("lib/python*/site-packages")))
    assert find_python() == beside
    assert find_python(bare) == bare
    monkeypatch.setenv(PYTHON_VARIABLE, bare)
    assert find_python() == bare
    for wrong in ("sh", "true", "/no/python", make_python(without_vllm / "other")):
        with pytest.raises(InputError, match=f"python: got '{wrong}'; expected a Python interpreter that has vLLM"):
            find_python(wrong)
        monkeypatch.setenv(PYTHON_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{PYTHON_VARIABLE}: got '{wrong}'"):
            find_python()


def test_a_folder_named_vllm_is_not_vllm(without_vllm: Path, monkeypatch: pytest.MonkeyPatch):
    (without_vllm / "vllm" / "vllm").mkdir(parents=True)  # a clone of its repository
    with pytest.raises(InputError, match="make vllm"):
        find_python()
    add_server(without_vllm)  # a working directory in the clone
    with pytest.raises(InputError, match="make vllm"):
        find_python()
    monkeypatch.setenv("PYTHONPATH", str(without_vllm))  # a user who wants it says so
    assert find_python() == sys.executable


def test_guard_knows_a_group():
    process = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while len(group_members(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(group_members(process.pid)) == 2
        assert process.pid in group_members(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_server_that_cannot_start(vllm_python: str, tmp_path: Path, temporary: Path):
    before = orphans()
    with pytest.raises(RunError, match=r"^dummy:tiny: the server ended while it started: .*no-such-flag") as caught:
        launch({"model": "dummy:tiny", "flags": ["--no-such-flag"]}, tmp_path, python=vllm_python)
    assert "\n" not in str(caught.value)
    assert [file.suffix for file in tmp_path.iterdir()] == [".log"]
    assert leftovers(before, temporary) == set()


def test_start_takes_too_long(vllm_python: str, tmp_path: Path, temporary: Path):
    before = orphans()
    specs = [{"model": "dummy:tiny", "start_timeout_s": 0.5}] * 2
    with pytest.raises(RunError, match=r"not ready after 0\.5 s"):
        launch_all(specs, tmp_path, python=vllm_python)
    assert leftovers(before, temporary) == set()


def test_servers_run_side_by_side(servers: list[Server]):
    assert len({server.url for server in servers}) == 2
    assert all(server.alive() and "uvicorn" not in repr(server) for server in servers)
    for server in servers:
        with urllib.request.urlopen(f"{server.url}/health") as response:
            assert response.status == 200


def test_taken_port(servers: list[Server], vllm_python: str, tmp_path: Path):
    port = int(servers[0].url.rpartition(":")[2])
    with pytest.raises(InputError, match=rf"port: got {port}; expected a free port"):
        launch({"model": "dummy:tiny", "port": port}, tmp_path, python=vllm_python)
    assert servers[0].alive()


SCRIPT = """
import sys, time
from llmsched_gym.backends.vllm.launch import Server, launch_all
from llmsched_gym.backends.vllm.launch_spec import LaunchSpec, find_python
from pathlib import Path

server = Server(LaunchSpec.of("dummy:tiny"), Path(sys.argv[1]), find_python(sys.argv[2]))
server.start()
print(server.pid, server.url, flush=True)
server.wait_ready()
print("ready", flush=True)
if sys.argv[3] == "exception":
    raise ValueError("a policy fails")
time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no test beside this one writes to."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def leftovers(before: set[str], temporary: Path) -> set[str]:
    """Return what a server has left in temporary folders and, since `before`, in shared memory; waits for it to go."""
    deadline = time.monotonic() + 20
    while True:
        left = orphans() - before | {path.name for path in temporary.glob("llmsched-*")}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def orphans() -> set[str]:
    """Return the pieces of shared memory that no process has mapped.

    Tests that run beside these have some of their own. They are told by number, because a semaphore is mapped under
    another name than it has later.
    """
    files = {file.name: file.inode() for file in os.scandir("/dev/shm")}
    held = mapped()
    return {name for name, number in files.items() if number not in held}


def mapped() -> set[int]:
    """Return the numbers (inodes) of the pieces of shared memory that some process has mapped."""
    found: set[int] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            continue  # it has just ended
        found.update(int(line.split()[4]) for line in lines if " /dev/shm/" in line)
    return found


def test_orphans():
    """Shared memory is an orphan once nobody has it mapped, even where it was mapped under another name."""
    first, last = (Path(f"/dev/shm/llmsched-gym-test-{os.getpid()}-{k}") for k in range(2))
    with first.open("wb+") as file:
        file.truncate(1)
        memory = mmap.mmap(file.fileno(), 1)
    try:
        first.rename(last)
        assert last.name not in orphans()
        memory.close()
        assert last.name in orphans()
    finally:
        last.unlink()
    assert last.name not in orphans()


@pytest.mark.parametrize("how", ["exception", "SIGINT", "SIGKILL"])
def test_nothing_is_left(servers: list[Server], vllm_python: str, tmp_path: Path, temporary: Path, how: str):
    """An exception when all runs; Ctrl-C, and a killed process, while the server starts."""
    before = orphans()
    with hearing_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), vllm_python, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    if how != "exception":
        deadline = time.monotonic() + 120
        while len(group_members(int(pid))) < 3 and time.monotonic() < deadline:  # the engine's process is up
            time.sleep(0.1)
        assert len(group_members(int(pid))) >= 3
        process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=400)
    assert process.returncode != 0
    assert "Error: a policy fails" in err if how == "exception" else True
    assert leftovers(before, temporary) == set()
    deadline = time.monotonic() + 20
    while group_members(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert group_members(int(pid)) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/health", timeout=5)
    assert all(server.alive() for server in servers)
