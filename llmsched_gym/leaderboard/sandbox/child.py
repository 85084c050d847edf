"""The process that a policy runs in: it shuts itself in, loads the policy, and answers with an action per observation.

It is run as a script by its path, and so imports nothing of this package before it is shut in. Both sides speak in
frames of a length (uint32, little-endian) and so many bytes, on standard input and output. Arrays go as their bytes:
their names, types and shapes are agreed on once per episode, in JSON. Nothing is ever unpickled.

Frames to the process: the setting, what ``reset`` told, then an observation per decision. Frames from it: ``{}`` when
it is shut in, and again when the policy is loaded; then per decision the action as an int64; or, as its last, a JSON
object with what it failed of.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

MOST_SAID = 4096
"""Bytes of a frame from the process."""


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Write a frame."""
    stream.write(struct.pack("<I", len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """Read a frame.

    Raises:
        EOFError: There is none any more.
    """
    head = stream.read(4)
    size = struct.unpack("<I", head)[0] if len(head) == 4 else 0
    content = stream.read(size)
    if len(head) < 4 or len(content) < size:
        raise EOFError
    return content


def pack_arrays(arrays: dict[str, Any], layout: list[list[Any]]) -> bytes:
    """Return the bytes of arrays, one after the other, in the order of a layout."""
    return b"".join(arrays[name].tobytes() for name, _, _ in layout)


def layout_of(arrays: dict[str, Any]) -> list[list[Any]]:
    """Return name, type and shape of each array; JSON-able."""
    return [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]


def unpack_arrays(content: bytes, layout: list[list[Any]]) -> dict[str, Any]:
    """Return arrays out of their bytes; they can be written to, as those of an environment can."""
    import numpy as np

    whole, at = bytearray(content), 0
    found: dict[str, Any] = {}
    for name, kind, shape in layout:
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(whole, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    return found


def main() -> None:
    """Be the process."""
    # The policy may print, and read what is meant for us: it gets other streams, which lead nowhere.
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    try:
        setting = json.loads(read_frame(source))
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        import confinement  # pyright: ignore[reportMissingImports] - beside this file, and not by way of the package

        del sys.path[0]
        confinement.confine(setting)
        write_frame(sink, b"{}")
        sys.path.insert(0, setting["package"])
        serve(setting, source, sink)
    except EOFError:
        return
    except BaseException as error:  # whatever a policy may raise ends it, and is told
        text = f"{type(error).__name__}: {error}"[: MOST_SAID // 8]
        write_frame(sink, json.dumps({"failed": text}).encode())


def serve(setting: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
    """Load the policy and answer until there is nothing more to decide."""
    from llmsched_gym.policies.registry import load_policy

    os.environ.clear()  # libraries put something there when they are imported
    policy = load_policy(setting["spec"])
    write_frame(sink, b"{}")
    begun = json.loads(read_frame(source))
    layout = begun.pop("layout")
    begun["info"]["action_mask"] = unpack_arrays(read_frame(source), begun.pop("mask"))["action_mask"]
    begun["info"]["applications"] = tuple(begun["info"]["applications"])
    policy.reset(begun["info"])
    act: Callable[[Any], Any] = policy.act
    while True:
        observation = unpack_arrays(read_frame(source), layout)
        action = int(act(observation))
        write_frame(sink, struct.pack("<q", action if -(2**63) <= action < 2**63 else -1))


if __name__ == "__main__":
    main()
