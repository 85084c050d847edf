"""Large traces are parsed once per machine, and never read from what is stale or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.workloads import trace_cache, traces
from llmsched_gym.workloads.traces import RequestTrace, read_trace

ROWS = "t_s,in_tokens,out_tokens\n0,5,6\n2,7,8\n9,1,0\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that every trace is kept in, however small."""
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trace_cache, "LEAST_BYTES", 0)
    return tmp_path / "cache"


def read(path: Path) -> RequestTrace:
    """Read as a new process does."""
    traces._read.cache_clear()
    with pytest.warns(UserWarning, match="1 of 3 requests have no token"):
        return read_trace(path, "csv")


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every parsing noted in the list that is returned."""
    noted: list[str] = []
    before = traces._parse
    monkeypatch.setattr(traces, "_parse", lambda path, format: noted.append(path) or before(path, format))
    return noted


def test_a_trace_is_parsed_once_per_machine(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = parsed(monkeypatch)
    path, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(ROWS)
    copy.write_text(ROWS)
    first, again, other = read(path), read(path), read(copy)
    assert len(noted) == 1, "equal contents are one trace"
    for found in (again, other):
        assert found.arrival_ns.tolist() == first.arrival_ns.tolist() == [0, 2_000_000_000]
        assert (found.prompt_tokens.tolist(), found.skipped) == ([5, 7], 1)
        with pytest.raises(ValueError, match="read-only"):
            found.arrival_ns[0] = 1
    assert cache.is_dir()


def test_another_content_is_another_trace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = parsed(monkeypatch)
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    read(path)
    path.write_text(ROWS.replace("2,7", "3,7"))
    assert read(path).arrival_ns.tolist() == [0, 3_000_000_000]
    assert len(noted) == 2


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"nonsense"])
def test_what_is_damaged_is_parsed_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    read(path)
    (column,) = cache.rglob("arrival_ns.npy")
    column.write_bytes(damage)
    noted = parsed(monkeypatch)
    assert read(path).arrival_ns.tolist() == [0, 2_000_000_000]
    read(path)
    assert len(noted) == 1, "it was kept anew"
    (gone,) = cache.rglob("output_tokens.npy")
    gone.unlink()
    assert read(path).output_tokens.tolist() == [6, 8]


def test_where_nothing_can_be_kept_a_warning_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMSCHED_GYM_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(trace_cache, "LEAST_BYTES", 0)
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    traces._read.cache_clear()
    with pytest.warns(UserWarning, match="cannot be kept in .*every process parses this one again"):
        found = read_trace(path, "csv")
    assert found.prompt_tokens.tolist() == [5, 7]


def test_room_is_made_for_the_latest(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_cache, "MOST_BYTES", 3000)
    path = tmp_path / "latest.csv"
    for number in range(6):
        path.write_text(ROWS.replace("2,7", f"{number + 2},7"))
        read(path)
    assert 1 <= len([*(cache / "llmsched_gym").rglob("arrival_ns.npy")]) < 6
    noted = parsed(monkeypatch)
    read(path)
    assert noted == [], "the one that was read last is there"
