"""Shutting the own process in: another root that can only be read, no capabilities, limits, and few system calls.

It stands alone, as `child` does. What it cannot do it raises: nothing of a policy has been loaded by then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from contextlib import suppress
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_NOSUID, _NODEV, _NOEXEC = 0x2, 0x4, 0x8
_MNT_DETACH = 2
_RDONLY_ATTR, _NOSUID_ATTR, _NODEV_ATTR = 0x1, 0x2, 0x4
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_MOUNT_SETATTR = 442
"""The same on all architectures, as all newer calls are."""

_CLONE_THREAD = 0x10000

# Numbers of system calls: on x86-64, on ARM64 (None: it has no such call).
_CALLS = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "pidfd_open": (434, 434),
    "mount_setattr": (442, 442),
}
_CLONE, _CLONE3 = (56, 220), 435
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def confine(setting: dict[str, Any]) -> None:
    """Shut this process in, for good.

    Args:
        setting: ``root``: an empty folder that becomes the root, None if the root is already another one; ``mounts``:
            files and folders that are there, at their own paths; ``hidden``: folders of these that are empty;
            ``folder``: where the policy finds itself; ``memory_bytes``: what it may take.

    Raises:
        OSError: Something of it is not possible here.
    """
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    if setting["root"] is not None:
        _change_root(setting["root"], setting["mounts"], setting["hidden"])
    os.chdir(setting["folder"])
    os.environ.clear()
    for name, most in (
        ("AS", setting["memory_bytes"]),
        ("FSIZE", 0),
        ("CORE", 0),
        ("NOFILE", 64),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    _drop_capabilities()
    _forbid_calls()


def _call(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = (source.encode(), target.encode(), None if kind is None else kind.encode())
    _call(_LIBC.mount(*texts, ctypes.c_ulong(flags), options.encode() or None), f"mount on {target}")


def _only_read(path: str, attributes: int) -> None:
    attr = struct.pack("<4Q", attributes, 0, 0, 0)
    result = _LIBC.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), _AT_RECURSIVE, attr, ctypes.c_size_t(len(attr)))
    _call(result, f"mount_setattr of {path}")


def _change_root(root: str, mounts: list[str], hidden: list[str]) -> None:
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=256k,mode=755")
    for path in [*mounts, "/dev/null", "/dev/urandom"]:
        inside = root + path
        if os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.close(os.open(inside, os.O_CREAT | os.O_WRONLY))
        _mount(path, inside, None, _MS_BIND | _MS_REC)
        _only_read(inside, _RDONLY_ATTR | _NOSUID_ATTR | (0 if path.startswith("/dev/") else _NODEV_ATTR))
    for path in hidden:
        if os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _NOSUID | _NODEV, "size=4k,mode=755")
    os.makedirs(f"{root}/proc", exist_ok=True)
    with suppress(OSError):  # in a container that covers parts of its own: there is none, then
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    os.chdir(root)
    number = 155 if platform.machine() == "x86_64" else 41
    _call(_LIBC.syscall(number, b".", b"."), "pivot_root")
    _call(_LIBC.umount2(b".", _MNT_DETACH), "umount of the root")
    os.chdir("/")
    _only_read("/", _RDONLY_ATTR | _NOSUID_ATTR)


def _drop_capabilities() -> None:
    """Give up every capability, and all ways to get one."""
    pr_set_no_new_privs, pr_capbset_drop, pr_set_securebits, pr_set_dumpable = 38, 24, 28, 4
    for number in range(64):
        if _LIBC.prctl(pr_capbset_drop, number, 0, 0, 0) != 0:
            break  # the kernel has no such capability
    _LIBC.prctl(pr_set_securebits, 0b101111, 0, 0, 0)  # the user root is like any other
    header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _call(_LIBC.capset(header, nothing), "capset")
    _call(_LIBC.prctl(pr_set_no_new_privs, 1, 0, 0, 0), "no_new_privs")
    _LIBC.prctl(pr_set_dumpable, 0, 0, 0, 0)


def _forbid_calls() -> None:
    """Let system calls fail that a scheduler has no use for: processes, programs, networks, mounts."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    allow, kill = 0x7FFF0000, 0x80000000

    def refuse(number: int) -> int:
        return 0x00050000 | number

    load, jump_equal, jump_least, jump_set, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program = [
        (load, 0, 0, 4),
        (jump_equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (jump_least, 0, 1, 0x40000000),
        (give, 0, 0, refuse(errno.EPERM)),
        (jump_equal, 0, 1, _CLONE3),
        (give, 0, 0, refuse(errno.ENOSYS)),  # threads are then made by clone
    ]
    for numbers in _CALLS.values():
        if numbers[column] is not None:
            program += [(jump_equal, 0, 1, numbers[column]), (give, 0, 0, refuse(errno.EPERM))]
    program += [
        (jump_equal, 0, 3, _CLONE[column]),
        (load, 0, 0, 16),
        (jump_set, 1, 0, _CLONE_THREAD),
        (give, 0, 0, refuse(errno.EPERM)),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    pr_set_seccomp, mode_filter = 22, 2
    whole = Program(len(program), ctypes.cast(code, ctypes.c_void_p))
    _call(_LIBC.prctl(pr_set_seccomp, mode_filter, ctypes.byref(whole), 0, 0), "seccomp")
