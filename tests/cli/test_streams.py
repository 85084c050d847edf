"""Standard output that cannot be written, pipes that are closed, and names that are no plain text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.cli import console, main
from llmsched_gym.cli.console import note, print_table, say

ROOT = Path(__file__).resolve().parents[2]

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program as pip installs it: a script of its name that calls `main`."""
    path = tmp_path_factory.mktemp("bin") / "llmsched-gym"
    lines = [f"#!{sys.executable}", "import sys", "from llmsched_gym.cli import main", "sys.exit(main())"]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o700)
    return path


def shell(program: Path, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a shell, which knows redirections, with its streams buffered as they are by default."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", f"{program} {words}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@needs_dev_full
@pytest.mark.parametrize("words", ["latency list", "latency list --json", "--help", "latency show --help"])
def test_a_full_output_is_told_in_one_line(program: Path, words: str) -> None:
    done = shell(program, f"{words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "failed: standard output: No space left on device\n"


def test_a_closed_output_is_told_in_one_line(program: Path) -> None:
    done = shell(program, "latency list >&-")
    assert done.returncode == 1
    assert done.stderr == "failed: standard output is closed\n"


def test_a_closed_pipe_ends_quietly(program: Path) -> None:
    done = shell(program, "latency list --json | head -1; exit ${PIPESTATUS[0]}")
    assert done.stdout == "{\n"
    assert done.stderr == ""
    assert done.returncode in (0, 1)  # 0 if everything was written before the reader went away


@needs_dev_full
def test_nothing_depends_on_standard_error(program: Path) -> None:
    assert shell(program, "latency show web 2> /dev/full").returncode == 2
    assert shell(program, "latency list 2>&-").returncode == 0


def test_any_encoding_of_the_terminal_will_do(program: Path) -> None:
    done = shell(program, "latency list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("delay_s", [0.3, 0.6])
def test_interrupts_while_the_program_loads_are_one_line(program: Path, delay_s: float) -> None:
    """Slow libraries are told from slow machines by a library that takes its time to be imported."""
    slow = program.parent / "slow"
    slow.mkdir(exist_ok=True)
    (slow / "gymnasium.py").write_text("print('loading', flush=True)\nimport time\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [program, "latency", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{slow}{os.pathsep}{ROOT}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    time.sleep(delay_s / 10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "interrupted\n")


# Names from files

WILD = "\x1b[31mred\x07\n\x9b2J\u202eevil"
TAMED = r"\x1b[31mred\x07\n\x9b2J\u202eevil"


def test_what_is_printed_is_escaped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_WIDTH", 300)
    say(WILD)
    note(WILD)
    print_table(WILD, ("name", WILD), [(WILD, 1)])
    out, err = capsys.readouterr()
    assert err == f"{TAMED}\n"
    assert out.splitlines()[0] == TAMED
    assert out.count(TAMED) == 4
    assert out.count("\n") == 4
    assert not set("\x1b\x07\x9b\u202e") & set(out + err)


def test_names_of_a_trace_reach_the_terminal_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace: dict[str, Any] = {
        "format": "llmsched-gym/job-trace",
        "version": 1,
        "name": WILD,
        "applications": [{"name": WILD, "stages": [{"name": WILD, "kind": "regular"}]}],
        "jobs": [{"application": WILD, "arrival_s": 0, "stages": [{"stage": WILD, "tasks": [{"duration_s": 1}]}]}],
    }
    file = tmp_path / "wild.json"
    file.write_text(json.dumps(trace))
    assert main(["workload", "inspect", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.count(TAMED) == 2
    assert "\x1b" not in out
    file.write_text(json.dumps(trace | {WILD: 1}))
    assert main(["workload", "inspect", str(file)]) == 2
    err = capsys.readouterr().err
    assert TAMED in err
    assert err.count("\n") == 1
