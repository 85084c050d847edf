"""The command line as a process: start-up, clean standard output, and interrupts that lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupts import hearing_interrupts

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "import sys; from llmsched_gym.cli import main; sys.exit(main())"]


def start(*words: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a terminal does."""
    with hearing_interrupts():
        return subprocess.Popen(
            [*COMMAND, *(str(word) for word in words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def group_ends(group: int, seconds: float = 20.0) -> bool:
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from llmsched_gym.cli import main; main(['--help']); "
        "heavy = {'numba', 'matplotlib', 'scipy', 'torch', 'pydantic', 'tyro'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "[]"


def test_bad_input_of_a_process():
    process = start("compare", "--policies", "fcsf")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "did you mean 'fcfs'" in err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_compare_resumes(tmp_path: Path, how: signal.Signals):
    out = tmp_path / "out"
    words = ("compare", "--policies", "fcfs,srtf,carbyne", "--jobs", 60, "--seeds", "0:8", "--workers", 2, "-o", out)
    process = start(*words)
    episodes = out / "episodes"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and len(list(episodes.glob("[!.]*.json"))) < 2:
        time.sleep(0.01)
    os.killpg(process.pid, how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == f"interrupted: finished episodes are kept in {out}; the same command goes on from there"
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*-*.json")}
    assert 2 <= len(kept) < 24
    assert not list(out.rglob(".*"))
    assert not (out / "results.csv").exists()
    assert group_ends(process.pid), "worker processes are still there"

    process = start(*words, "--json")
    stdout, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "results were there already" in err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(json.loads(stdout)["policies"]["carbyne"]["per_seed_mean_jct_s"]) == 8
