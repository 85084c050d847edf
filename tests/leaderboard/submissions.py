"""A submission in small, and what is done to it: each attack changes a folder, as somebody who means it would."""

from __future__ import annotations

import json
import lzma
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmsched_gym.leaderboard import read_episodes, validate
from llmsched_gym.leaderboard.episodes import Episode, write_episodes
from llmsched_gym.leaderboard.submission_folder import EPISODES, MANIFEST, file_digest
from llmsched_gym.suites.suite import Suite

POLICY = '''"""A scheduler in one file."""

from pathlib import Path

import numpy as np

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.policies.base import PriorityPolicy


class Mine(PriorityPolicy):
    name = "mine"

    def __init__(self, weights):
        self.sources = (Path(weights),)
        self.factor = np.frombuffer(Path(weights).read_bytes()[-4:], "<f4")[0]

    def key(self, obs, rows):
        return self.factor * obs["candidates"][rows, Candidate.WORK_S]
'''

WORDS = [
    *("--authors", "Ann Example,Łukasz Żak"),
    *("--about", "The ready stage with the least work left goes first: a short stage soon frees its place for others."),
    *("--training", "Nothing was trained."),
    *("--tuning", "The factor is 1, and was never another."),
    *("--compute", "Two cores."),
    *("--code", "https://example.org/mine"),
    *("--license", "Apache-2.0"),
]


def tensors(header: dict[str, Any], numbers: bytes) -> bytes:
    """A file of safetensors."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


FACTOR = tensors({"factor": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\x00\x00\x80\x3f")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what ``submission.json`` says."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False))


def put_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file, and its digest into ``submission.json``, as somebody who means it would."""
    (folder / name).write_bytes(content)
    change_manifest(folder, lambda said: said["files"].update({name: file_digest(content)}))


def change_episodes(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change episodes; what is changed need not be an episode any more."""
    said = [episode.model_dump(mode="json") for episode in read_episodes(folder)]
    change(said)
    lines = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in said)
    put_file(folder, EPISODES, lzma.compress(lines.encode()))


def repack(folder: Path, episodes: list[Episode]) -> None:
    """Write other episodes."""
    put_file(folder, EPISODES, write_episodes(episodes))


Attack = Callable[[Path], object]
Said = dict[str, Any]


def said(change: Callable[[Said], object]) -> Attack:
    """Change ``submission.json``."""
    return lambda folder: change_manifest(folder, change)


def played(change: Callable[[list[Said]], object]) -> Attack:
    """Change the episodes, and their digest with them."""
    return lambda folder: change_episodes(folder, change)


def archive(content: bytes) -> Attack:
    """Put another archive in place of the episodes."""
    return lambda folder: put_file(folder, "episodes.jsonl.xz", content)


def lines_of(folder: Path) -> list[bytes]:
    """The episodes, unpacked."""
    return lzma.decompress((folder / "episodes.jsonl.xz").read_bytes()).splitlines(keepends=True)


def first_line(change: Callable[[bytes], bytes]) -> Attack:
    """Change the text of the first episode."""

    def attack(folder: Path) -> None:
        first, *rest = lines_of(folder)
        put_file(folder, "episodes.jsonl.xz", lzma.compress(b"".join([change(first), *rest])))

    return attack


def text_of_manifest(change: Callable[[str], str]) -> Attack:
    """Change the text of ``submission.json``."""

    def attack(folder: Path) -> None:
        path = folder / "submission.json"
        path.write_bytes(change(path.read_text()).encode("utf-8", "surrogatepass"))

    return attack


def instead(name: str, make: Callable[[Path], object]) -> Attack:
    """Put something else where a file was."""

    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return attack


def put(name: str, content: bytes) -> Attack:
    """Add or replace a file, with its digest where files have one."""

    def attack(folder: Path) -> None:
        if name == "README.md":
            (folder / name).write_bytes(content)
        else:
            put_file(folder, name, content)

    return attack


def both(*attacks: Attack) -> Attack:
    """Do one after the other."""
    return lambda folder: [attack(folder) for attack in attacks]


def nest(one: Said, *path: str, value: Any) -> None:
    """Set a field of a field."""
    for name in path[:-1]:
        one = one[name]
    one[path[-1]] = value


def swap_actions(all_: list[Said]) -> None:
    """Give an episode the actions of another one, and their number."""
    all_[0] |= {name: all_[1][name] for name in ("actions", "decisions")}


def flip_action(all_: list[Said], at: int) -> None:
    """Change one action: where it waits it now dispatches, and the other way round."""
    text = all_[0]["actions"]
    width = {"b": 2, "h": 4}[text[0]]
    start = 1 + width * at
    code = text[start : start + width]
    other = "01".ljust(width, "0") if set(code) == {"0"} else "0" * width
    all_[0]["actions"] = text[:start] + other + text[start + width :]


def bind_socket(path: Path) -> None:
    """Make a socket of a short path, which is all that a socket may have."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def tensor(kind: str, shape: list[int], size: int) -> bytes:
    """A file of one tensor."""
    return tensors({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


LARGE_DICTIONARY = [{"id": lzma.FILTER_LZMA2, "dict_size": 100 << 20, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
ZEROS = lzma.compress(bytes(64 << 20), preset=0)
WHERE = "episodes.jsonl.xz: crowd, run 0, seed 7: "
LINE = "episodes.jsonl.xz: line 1: "


def faults_of(folder: Path, suite: Suite) -> list[str]:
    """What is wrong with a submission; nothing of the file system outside it is told."""
    found = validate(folder, suite)
    assert found.valid == (found.badge == "replayed") == (not found.faults)
    assert all("\n" not in fault and str(folder) not in fault and len(fault) <= 1500 for fault in found.faults)
    assert not any("root:" in fault for fault in found.faults)
    return list(found.faults)
