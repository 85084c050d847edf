"""``episodes.jsonl.xz``: one line per episode, read one at a time and never beyond a limit.

The archive is of xz because Python reads it without any further package, and because it comes out 15 % smaller than one
of gzip. It is unpacked piece by piece: a file that would fill the memory ends with an error after the first line that
is too long.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.leaderboard.limits import LINE_BYTES, MEMORY_BYTES, RUNS, TOTAL_BYTES, UNPACKED_BYTES
from llmsched_gym.leaderboard.parsing import SeveralErrors, read_strictly
from llmsched_gym.leaderboard.submission import Strict
from llmsched_gym.leaderboard.submission_folder import EPISODES, read_file
from llmsched_gym.leaderboard.texts import Digest, ShortDigest
from llmsched_gym.workloads.splits import MAX_SEED

_PIECE: Final = 1 << 16
"""Bytes unpacked at a time."""

_WHAT: Final = "an xz archive of one JSON object per line"

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
_Microseconds = Annotated[float, Field(ge=0.0, le=1e12)]


class DecisionTimes(Strict):
    """Time inside the policy per decision, microseconds: stated, and measured again only when it is run again.

    Attributes:
        mean: Mean.
        p50: Median.
        p99: 99 % quantile.
    """

    mean: _Microseconds
    p50: _Microseconds
    p99: _Microseconds


class Episode(Strict):
    """One line.

    Attributes:
        scenario: Name of the scenario in the suite.
        run: Training run, from 0.
        seed: Seed of the jobs.
        workload: Digest of the jobs.
        decisions: How many there were.
        actions: All of them, packed (`packing.pack`).
        checkpoints: `checkpoint` after every 256 decisions, while the episode was not over.
        digest: Digest of the finished episode.
        metrics: What `episode_metrics` tells without decision times; seconds, shares and counts. None where an
            application has no job.
        decision_us: Time inside the policy.
    """

    scenario: _Name
    run: int = Field(ge=0, lt=RUNS)
    seed: int = Field(ge=0, le=MAX_SEED)
    workload: Digest
    decisions: int = Field(ge=1, le=LINE_BYTES)
    actions: str = Field(pattern=r"^[bhw][0-9a-f]+$", max_length=LINE_BYTES)
    checkpoints: tuple[ShortDigest, ...] = Field(max_length=LINE_BYTES // 256)
    digest: Digest
    metrics: dict[_Name, float | None] = Field(min_length=1, max_length=100)
    decision_us: DecisionTimes

    @property
    def key(self) -> tuple[str, int, int]:
        """Scenario, run, seed."""
        return self.scenario, self.run, self.seed


def write_episodes(episodes: Iterable[Episode]) -> bytes:
    """Return the content of the archive."""
    packer = lzma.LZMACompressor(check=lzma.CHECK_CRC64, preset=9)
    content = bytearray()
    for episode in episodes:
        line = json.dumps(episode.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)
        content += packer.compress(line.encode() + b"\n")
    return bytes(content + packer.flush())


def read_episodes(folder: str | Path) -> Iterator[Episode]:
    """Yield the episodes of a submission, as they stand in its archive.

    Raises:
        InputError: The archive cannot be read, or a line is wrong.
    """
    for _, found in read_lines(Path(folder) / EPISODES):
        if isinstance(found, SeveralErrors):
            raise found.errors[0]
        yield found


def read_lines(path: Path) -> Iterator[tuple[int, Episode | SeveralErrors]]:
    """Yield the number of each line, and its episode or what is wrong with it.

    Raises:
        InputError: The archive cannot be unpacked, or unpacks to more than it may.
    """
    for number, line in enumerate(_lines(path, read_file(path, TOTAL_BYTES)), start=1):
        try:
            yield number, read_strictly(f"{path}: line {number}", line, Episode)
        except InputError as error:
            yield number, SeveralErrors([error])
        except SeveralErrors as several:
            yield number, several


def _lines(path: Path, content: bytes) -> Iterator[bytes]:
    """Unpack an archive, line by line."""
    rest, number = b"", 1
    for piece in _pieces(path, content):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        number += len(lines)
        if len(rest) > LINE_BYTES:
            raise InputError(path, f"line {number}", Plain(f"more than {LINE_BYTES} bytes"), "an episode in fewer")
    if rest:
        raise InputError(path, f"line {number}", Plain("no end of the line"), "a line break behind every episode")


def _pieces(path: Path, content: bytes) -> Iterator[bytes]:
    """Unpack an archive, piece by piece."""
    total = 0
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)
        piece = unpacker.decompress(content, _PIECE)
        while True:
            total += len(piece)
            if total > UNPACKED_BYTES:
                raise InputError(path, "", Plain(f"more than {UNPACKED_BYTES} bytes, unpacked"), "fewer")
            yield piece
            if unpacker.eof:
                break
            if unpacker.needs_input:
                raise InputError(path, "", Plain("an archive without its end"), _WHAT)
            piece = unpacker.decompress(b"", _PIECE)
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(path, "", Plain(f"no such archive ({error})"), _WHAT) from None
    if unpacker.unused_data:
        raise InputError(path, "", Plain(f"{len(unpacker.unused_data)} bytes behind the archive"), _WHAT)
