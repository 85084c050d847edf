"""What users' code writes to standard output goes to standard error, and no end of the process passes for success."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmsched_gym.user_code.containment import contained

WRITES = """
import atexit, ctypes, os, sys
from sys import stdout
from llmsched_gym.user_code.containment import contained
from llmsched_gym.user_code.ending import contain_exit

class Speaker:
    def __del__(self):
        print("deleted", flush=True)

@contained()
def speak():
    speaker = Speaker()
    print("printed")
    stdout.write("written to the object\\n")
    sys.__stdout__.write("written to the first object\\n")
    os.write(1, b"written to the descriptor\\n")
    ctypes.CDLL(None).puts(b"written in C")
    os.system("echo written by a child")
    atexit.register(print, "at the end")

print("before")
speak()
with contained(), contained():
    print("nested")
print("after")
contain_exit()
"""


def test_standard_output_holds_only_what_the_program_says() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\n"
    assert set(done.stderr.splitlines()) == {
        "deleted",
        "printed",
        "written to the object",
        "written to the first object",
        "written to the descriptor",
        "written in C",
        "written by a child",
        "at the end",
        "nested",
    }


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_fault(closed: str) -> None:
    program = (
        "from llmsched_gym.user_code.containment import contained\n"
        "with contained():\n    print('a')\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, program], check=False)
    assert done.returncode == 7


def test_an_end_of_the_process_is_an_exception() -> None:
    before = os._exit
    with pytest.raises(SystemExit, match=r"os\._exit\(0\)"), contained():
        os._exit(0)
    assert os._exit is before


def test_a_forked_child_may_end() -> None:
    with contained():
        child = os.fork()
        if child == 0:
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
