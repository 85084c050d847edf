"""`engine replay` takes traces; what Mooncake's share is found in the prefix cache."""

from __future__ import annotations

import json
import random
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


def test_prompts_that_branch_at_random_come_near_it(tmp_path: Path) -> None:
    """Five and more branches deep, where the engine's two shared parts do not describe a prompt exactly."""
    rng = random.Random(1)
    known, prompts, rows = 1, [[0]], []
    for turn in range(800):
        blocks = list(rng.choice(prompts[-200:]))
        if len(blocks) > 2 and rng.random() < 0.4:
            blocks = blocks[: rng.randint(1, len(blocks))]
        new = [*range(known, known + rng.randint(1, 8))]
        known += len(new)
        blocks += new
        prompts.append(blocks[:-1])
        tokens = 512 * len(blocks) - rng.randint(0, 511)
        rows.append({"timestamp": 2000 * turn, "input_length": tokens, "output_length": 20, "hash_ids": blocks})
    path = tmp_path / "branches.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    log = read_requests(path)
    reuse = reuse_of(log, serve(log, CONFIG)[0])
    assert reuse is not None
    assert reuse.ideal - 0.03 <= reuse.realised <= reuse.ideal


def test_mooncake_rows(shared: Path) -> None:
    log = read_requests(shared / "data" / "formats" / "mooncake_conversation.jsonl")
    reuse = reuse_of(log, serve(log, CONFIG)[0])
    assert reuse is not None
    assert reuse.ideal > 0.04
    assert reuse.realised == pytest.approx(reuse.ideal, abs=0.02)


@pytest.mark.filterwarnings("ignore:.*no token on one side")
def test_every_format_is_replayed(shared: Path) -> None:
    files = [one for one in (shared / "data" / "formats").iterdir() if one.suffix in (".csv", ".jsonl")]
    assert len(files) >= 7
    for file in files:
        log = read_requests(file)
        assert (serve(log, CONFIG)[0]["finish_ns"] > 0).all(), file.name


def write_sessions(path: Path, sessions: int) -> None:
    """Write sessions whose later turns have a delay after the turn before them."""
    rng = random.Random(7)
    rows = []
    for session in range(sessions):
        start = {"timestamp": rng.randint(0, 4000)}
        for turn in range(rng.randint(1, 4)):
            when = {"delay": rng.choice([0, 5, 900])} if turn else start
            rows.append({"session_id": f"s{session}", "input_length": rng.randint(9, 900), "output_length": 30, **when})
    path.write_text("\n".join(map(json.dumps, rows)))


def test_turns_arrive_their_delay_after_the_turn_before(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    write_sessions(path, 60)
    log = read_requests(path)
    tasks, _ = serve(log, CONFIG)
    assert log.turns is not None
    followed = [one for one in range(len(log.ids)) if log.turns.next[one] >= 0]
    assert len(followed) > 50
    for one in followed:
        assert tasks["start_ns"][log.turns.next[one]] == tasks["finish_ns"][one] + log.turns.delay_ns[one]
    # The same requests at the times that came of it, given beforehand, are served alike.
    again, _ = serve(log._replace(arrival_ns=tasks["start_ns"].copy(), turns=None), CONFIG)
    assert (again["finish_ns"] == tasks["finish_ns"]).all()


def test_a_turn_without_tokens_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    row = {"input_length": 5, "output_length": 2, "session_id": "a"}
    rows = [{**row, "timestamp": 0}, {**row, "output_length": 0, "delay": 7}, {**row, "delay": 5}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning, match="1 of 3 requests"):
        log = read_requests(path)
    tasks, _ = serve(log, CONFIG)
    assert tasks["start_ns"][1] == tasks["finish_ns"][0] + 12_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session_id": "b"}, "line 2: session_id: got 'b'; expected that of an earlier line"),
        ({"delay": -1}, "line 2: delay: got -1; expected a number of milliseconds"),
        ({"delay": "soon"}, "line 2: delay: got 'soon'"),
        ({"hash_ids": [1.5]}, "line 2: hash_ids: got .*; expected a list of whole numbers"),
        ({"hash_ids": 3}, "line 2: hash_ids: got 3"),
    ],
)
def test_odd_turns_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "turns.jsonl"
    row: dict[str, object] = {"input_length": 5, "output_length": 2, "session_id": "a"}
    path.write_text("\n".join(map(json.dumps, [{**row, "timestamp": 0}, {**row, "delay": 7, **change}])))
    with pytest.raises(InputError, match=message):
        read_requests(path)
