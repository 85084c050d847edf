"""A policy that tries to get out; what came of it is what it ends with."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np

from llmsched_gym.policies.fcfs import FCFS


def read(path):
    with open(path, "rb") as file:
        return file.read(10)


def write(path):
    with open(path, "ab") as file:
        return file.write(b"x")


def connect(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return "connected"


def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def libc_fork():
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.fork()
    if child == 0:
        os._exit(0)
    return "forked" if child > 0 else os.strerror(ctypes.get_errno())


def program():
    return subprocess.run([sys.executable, "-c", "pass"], check=True).returncode


def memory():
    return len(bytearray(8 << 30))


def anonymous_file():
    """Memory that no address space is charged for."""
    return os.write(os.memfd_create("x"), b"x")


def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mount(b"none", b"/", None, ctypes.c_ulong(0x1020), None)  # remount for writing
    return os.strerror(ctypes.get_errno()) if failed else "mounted"


def namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if libc.unshare(0x10000000) else "unshared"


def environment():
    return sorted(os.environ), read("/proc/self/environ")


def processes():
    return [name for name in os.listdir("/proc") if name.isdigit()]


def count_processes():
    return len(processes())


def suites():
    from llmsched_gym.suites.suite import load_suite

    return load_suite("small-v1").name


def threads():
    done = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    return len(done)


def threads_for_ever():
    for _ in range(3):
        threading.Thread(target=lambda: time.sleep(1000)).start()
    while True:
        signal.pause()


def capabilities():
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd"))


def outcome(attack, **how):
    """Try; return what came of it, or how it was refused."""
    try:
        return f"got {globals()[attack](**how)}"
    except (OSError, MemoryError, ImportError) as error:
        return f"refused: {type(error).__name__}"


class Hostile(FCFS):
    """Tries while it is loaded."""

    def __init__(self, attack, **how):
        raise RuntimeError(outcome(attack, **how))


class Misbehaving(FCFS):
    """Decides as it should, and does something else besides."""

    def __init__(self, how):
        self.how, self.count = how, 0

    def act(self, obs):
        self.count += 1
        action = super().act(obs)
        return globals()[f"while_{self.how}"](self.count, action)


def while_printing(count, action):
    print("x" * 10_000, flush=True)
    print("x" * 10_000, file=sys.stderr, flush=True)
    os.write(1, b"\x08\x00\x00\x00")
    assert sys.stdin.read() == ""
    return action


def while_sleeping_now_and_then(count, action):
    if count in (3, 6):
        time.sleep(0.7)
    return action


def while_sleeping_for_ever(count, action):
    if count == 5:
        time.sleep(1000)
    return action


def while_leaving(count, action):
    if count == 5:
        os._exit(0)
    return action


def while_killed(count, action):
    if count == 5:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(0)
    return action


def while_exiting(count, action):
    if count == 5:
        sys.exit(0)
    return action


def while_raising(count, action):
    if count == 5:
        raise ValueError("\x1b[31mlost\n" + "x" * 100_000)
    return action


def while_babbling(count, action):
    if count == 5:
        for descriptor in range(3, 60):
            try:
                os.write(descriptor, b"\xff" * 100_000)
            except OSError:
                continue
    return action


def while_returning_nonsense(count, action):
    return (None, "x", [], float("nan"))[count % 4] if count >= 5 else action


def while_returning_huge_numbers(count, action):
    return 10**30 if count % 2 else -5


def while_eating(count, action):
    if count == 5:
        return len(np.empty(3 << 30, np.int8))
    return action
