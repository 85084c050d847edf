"""A pool of workers whose user presses Ctrl-C ends at once, and only the process that the user started speaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from interrupts import hearing_interrupts

PROGRAM = """
import os, signal, sys, time
from llmsched_gym.evaluation.workers import worker_pool

if __name__ == "__main__":
    try:
        with worker_pool(2) as pool:
            if sys.argv[1] == "while they work":
                pool.submit(int).result()
            sleeping = [pool.submit(time.sleep, 60.0) for _ in range(2)]
            os.killpg(0, signal.SIGINT)
            sleeping[0].result()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("moment", ["while they start", "while they work"])
def test_interrupted_workers_say_nothing(tmp_path: Path, moment: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), moment]
    with hearing_interrupts():
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, start_new_session=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
