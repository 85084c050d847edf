"""Parts that were announced are compiled by several processes at the first miss, once, and by nobody if nothing is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import COUNT, ROOT, environment, run

from llmsched_gym._code import ahead
from llmsched_gym._code.parts import all_parts, episode_parts

FUNCTIONS = """
import os, sys, time
from pathlib import Path
from llmsched_gym._jit import kernel

@kernel
def shared(x):
    return x + 1

@kernel
def one(x):
    return shared(x)

@kernel
def two(x):
    return shared(x) + 1

def make_one():
    print("not for the other process")
    one(1)

def make_two():
    two(1)

def fail():
    raise ValueError("of two\\nlines")

def die():
    os._exit(3)

def sleep():
    Path("asleep").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of parts, where this process keeps code for as long as a test runs."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("_LLMSCHED_GYM_SPARE_CACHE", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    """The functions that are kept, by name."""
    return sorted(file.name.split("-")[0] + file.suffix for file in (folder / "cache").rglob("functions/*"))


def test_parts_are_compiled_by_other_processes(folder: Path) -> None:
    parts = (("functions:make_one",), ("functions:make_two",))
    reports = list(ahead.compile_parts(parts, 2))
    assert {part for report in reports for part in report.finished} == set(parts)
    assert not any(report.failed for report in reports)
    assert sum(report.made for report in reports) == 3
    assert files(folder) == ["one.o", "shared.bc", "two.o"]
    again = list(ahead.compile_parts(parts, 2))
    assert sum(report.made for report in again) == 0


def test_parts_that_fail_are_named_and_stop_no_other(folder: Path) -> None:
    parts = (("functions:fail",), ("functions:die",), ("functions:make_one",), ("functions:nothing",), ("nowhere:x",))
    reports = list(ahead.compile_parts(parts, 2))
    failed = sorted(text for report in reports for text in report.failed)
    assert failed[:2] == [
        "die: its process was killed (out of memory?)",
        "fail: ValueError: of two lines",
    ]
    assert len(failed) == 4
    assert "one.o" in files(folder)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_helpers_end_with_whom_they_help(folder: Path, how: str) -> None:
    code = (
        "from llmsched_gym._code.ahead import compile_parts\n"
        "for _ in compile_parts([('functions:sleep',), ('functions:make_one',)], 2):\n    pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        asleep, deadline = folder / "asleep", time.monotonic() + 120.0
        while not (asleep.exists() and asleep.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    helper = int(asleep.read_text())
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline and Path(f"/proc/{helper}/cmdline").exists():
        if not Path(f"/proc/{helper}/cmdline").read_bytes():
            break  # dead, and not yet taken note of
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{helper}/cmdline").exists()


def test_names_for_people() -> None:
    parts = list(episode_parts(["web_search"], profiler=True))
    assert [ahead.describe(part) for part in parts] == ["step one: table, profiler", "infer", "draw jobs: web_search"]
    assert len(set(all_parts())) == len(all_parts())
    assert set(parts) < set(all_parts())


def run_here(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that has the compiled code of this one."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)


FIRST_STEP = """
import gymnasium as gym
import llmsched_gym
env = gym.make("LLMSched/{}-v0", jobs=20, {})
observation, info = env.reset(seed=0)
for _ in range(200):
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample(mask=info["action_mask"]))
    if terminated:
        observation, info = env.reset()
"""


@pytest.mark.parametrize("more", ["", "observation='graph'", "profiler=False", "observation='graph', profiler=False"])
def test_the_parts_of_an_episode_are_all_that_an_episode_needs(tmp_path: Path, more: str) -> None:
    """Once the parts are there, as after ``llmsched-gym compile``, an environment compiles nothing, and is silent."""
    graph, profiler = "graph" in more, "profiler=False" not in more
    applications = ["code_generation", "web_search"]
    for report in ahead.compile_parts(tuple(episode_parts(applications, profiler=profiler, graph=graph)), 2):
        assert not report.failed
    words = [sys.executable, "-c", FIRST_STEP.format("Chain", more) + COUNT]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_everything_is_compiled_by_one_command(tmp_path: Path) -> None:
    """With the code that is there already, which the tests began with: little is left to do."""
    code = "import sys; from llmsched_gym.cli import main; sys.exit(main(['compile', '--json', '--workers', '2']))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["parts"] == len(all_parts())
    assert done.stderr.count("\n") == len(all_parts())
    assert Path(content["folder"]).is_dir()
    refused = run(tmp_path, code, LLMSCHED_GYM_CACHE="/proc/nope")
    assert refused.returncode == 1
    assert refused.stderr.startswith("failed: compiled code cannot be kept in /proc/nope/llmsched_gym/code-")
    assert refused.stderr.count("\n") == 1
