"""`engine replay` takes traces; what Mooncake's share is found in the prefix cache."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from llmsched_gym.backends.replay import read_requests, reuse_of, serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError

CONFIG = EngineConfig(LatencyProfile.from_ms("test formula", (5.8, 0.02, 0.02, 0.0002)), 128, 2048, 10_000_000)


def write_conversations(path: Path, turns: int) -> float:
    """Write a trace of conversations behind one system prompt; return the hit rate of a set of blocks seen."""
    rng = random.Random(3)
    known, seen, conversations, hits, total, rows = 1, set[int](), [[0]], 0, 0, []
    for turn in range(turns):
        blocks = list(rng.choice(conversations[-40:])) if rng.random() < 0.7 else [0]
        conversations = [one for one in conversations if one != blocks or one == [0]]
        new = [*range(known, known + rng.randint(1, 8))]
        known += len(new)
        blocks += new
        conversations.append(blocks[:-1])  # the last block is not full: a longer prompt has another one there
        tokens = 512 * len(blocks) - rng.randint(0, 511)
        hits += 512 * sum(block in seen for block in blocks)
        total += tokens
        seen.update(blocks)
        rows.append({"timestamp": 5000 * turn, "input_length": tokens, "output_length": 20, "hash_ids": blocks})
    path.write_text("\n".join(map(json.dumps, rows)))
    return hits / total


def test_conversations_reach_the_ideal(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    expected = write_conversations(path, 400)
    log = read_requests(path)
    reuse = reuse_of(log, serve(log, CONFIG)[0])
    assert reuse is not None
    assert reuse.ideal == pytest.approx(expected)
    assert 0.3 < reuse.ideal - 0.02 <= reuse.realised <= reuse.ideal


def test_mooncake_rows(shared: Path) -> None:
    log = read_requests(shared / "data" / "formats" / "mooncake_conversation.jsonl")
    reuse = reuse_of(log, serve(log, CONFIG)[0])
    assert reuse is not None
    assert reuse.ideal > 0.04
    assert reuse.realised == pytest.approx(reuse.ideal, abs=0.02)


def test_every_format_is_replayed(shared: Path) -> None:
    files = [one for one in (shared / "data" / "formats").iterdir() if one.suffix in (".csv", ".jsonl")]
    assert len(files) >= 7
    for file in files:
        with (
            pytest.warns(UserWarning, match="left out")
            if "2025" in file.name or "burst" in file.name
            else nullcontext()
        ):
            log = read_requests(file)
        assert (serve(log, CONFIG)[0]["finish_ns"] > 0).all(), file.name


def test_turns_without_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    row = {"input_length": 5, "output_length": 2, "session_id": "a"}
    path.write_text("\n".join(map(json.dumps, [{**row, "timestamp": 0}, {**row, "delay": 7}])))
    with pytest.raises(InputError, match="1 turns with a delay"):
        read_requests(path)
