"""Public trace formats are read exactly, and bad rows are named."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.traces import TraceFormat, read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319569,3180,8
2023-11-16 18:17:05,110,27
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 3052, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}

{"timestamp": 3000, "input_length": 12, "output_length": 1, "hash_ids": []}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requests.txt"
    path.write_text(text)
    return path


def test_azure_timestamps_are_exact_to_100_ns(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, AZURE), "azure")
    assert trace.arrival_ns.tolist() == [0, 51_996_900, 1_020_040_000]
    assert trace.prompt_tokens.tolist() == [4808, 3180, 110]
    assert trace.output_tokens.tolist() == [10, 8, 27]


def test_azure_accepts_a_byte_order_mark_and_a_zone(tmp_path: Path) -> None:
    text = "\ufeff" + AZURE.replace("03.9799600", "03.979960+00:00")
    assert read_trace(write(tmp_path, text), "azure").arrival_ns.tolist() == [0, 51_996_900, 1_020_040_000]


def test_mooncake_is_sorted_and_skips_blank_lines(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, MOONCAKE), "mooncake")
    assert trace.arrival_ns.tolist() == [0, 3_000_000_000, 3_052_000_000]
    assert trace.prompt_tokens.tolist() == [6758, 12, 7322]


def test_reduced_csv_of_the_public_trace(shared: Path) -> None:
    trace = read_trace(shared / "data" / "traces" / "azure2023_code.csv", "csv")
    assert len(trace.arrival_ns) == 8819
    assert trace.arrival_ns[:3].tolist() == [0, 52_000_000, 98_200_000]
    assert trace.prompt_tokens[:3].tolist() == [4808, 3180, 110]


BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,API log
10540800,GPT-4,417,276,693,Conversation log
"""


def test_burstgpt_spans_months_and_has_requests_without_an_answer(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 3 requests have no token on one side"):
        trace = read_trace(write(tmp_path, BURSTGPT), "burstgpt")
    assert trace.arrival_ns.tolist() == [0, 10_540_795_000_000_000]
    assert trace.prompt_tokens.tolist() == [472, 417]
    assert trace.skipped == 1


def test_seconds_since_1970_begin_at_zero(tmp_path: Path) -> None:
    rows = [
        {"request_id": "b-1", "input_toks": 7, "output_toks": 2, "arrival_time": 1787267980.5, "queued_ts": 27537.0},
        {"request_id": "b-0", "input_toks": 9, "output_toks": 3, "arrival_time": 1787267980.0, "queued_ts": 27536.6},
    ]
    trace = read_trace(write(tmp_path, "\n".join(map(json.dumps, rows))), "llmservingsim")
    assert trace.arrival_ns.tolist() == [0, 500_000_000]
    assert trace.prompt_tokens.tolist() == [9, 7]


def test_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_bytes(gzip.compress(AZURE.encode()))
    plain = read_trace(write(tmp_path, AZURE), "azure")
    assert read_trace(path, "azure").arrival_ns.tolist() == plain.arrival_ns.tolist()
    path.write_bytes(gzip.compress(AZURE.encode())[:-12])
    with pytest.raises(InputError, match=r"requests\.csv: got a gzip file that is cut short or changed"):
        read_trace(path, "azure")


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path, AZURE)
    first = read_trace(path, "azure")
    assert read_trace(path, "azure") is first
    with pytest.raises(ValueError, match="read-only"):
        first.arrival_ns[0] = 1
    path.write_text(AZURE + "2023-11-16 18:17:06,1,2\n")
    assert len(read_trace(path, "azure").arrival_ns) == 4


@pytest.mark.parametrize(
    ("file", "format", "skipped"),
    [
        ("azure_2023_conv.csv", "azure", 0),
        ("azure_2024.csv", "azure", 0),
        ("azure_2025_multimodal.csv", "azure", 1),
        ("burstgpt.csv", "burstgpt", None),
        ("mooncake_conversation.jsonl", "mooncake", 0),
        ("vidur_trace.csv", "vidur", 0),
        ("llmservingsim_requests.jsonl", "llmservingsim", 0),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no token on one side")
def test_rows_of_the_public_formats(shared: Path, file: str, format: TraceFormat, skipped: int | None) -> None:
    path = shared / "data" / "formats" / file
    trace = read_trace(path, format)
    rows = len(path.read_text().strip().splitlines()) - (path.suffix == ".csv")
    assert len(trace.arrival_ns) + trace.skipped == rows
    assert trace.arrival_ns[0] == 0
    if skipped is not None:
        assert trace.skipped == skipped


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("azure", AZURE.replace("2023-11-16 18:17:04.0319569", "yesterday"), "line 3: TIMESTAMP: got 'yesterday'"),
        ("azure", AZURE.replace("11-16 18:17:04", "13-16 18:17:04"), "line 3: TIMESTAMP: got '2023-13-16"),
        ("azure", AZURE.replace("3180", "-1"), "line 3: ContextTokens: got '-1'; expected a whole number from 0"),
        ("azure", AZURE.replace("3180", "1.5"), "line 3: ContextTokens: got '1.5'"),
        ("azure", AZURE.replace("3180", "nan"), "line 3: ContextTokens: got 'nan'"),
        ("azure", AZURE.replace(",27", ""), "line 4: GeneratedTokens: got nothing"),
        ("azure", AZURE.replace("ContextTokens", "Context"), "line 1: ContextTokens: got no such column"),
        ("azure", AZURE.splitlines()[0], "at least one row"),
        ("azure", "", "line 1: TIMESTAMP"),
        ("mooncake", MOONCAKE + "{", "line 5, column 2: got no JSON"),
        ("mooncake", MOONCAKE + "[1]", "line 5: got [1]; expected one JSON object per line"),
        ("mooncake", MOONCAKE.replace("3052", "-3"), "line 2: timestamp: got -3"),
        ("mooncake", MOONCAKE.replace("3052", "NaN"), "line 2: timestamp: got nan"),
        ("mooncake", MOONCAKE.replace("490", "-1"), "line 2: output_length: got -1"),
        ("mooncake", MOONCAKE.replace("490", "true"), "line 2: output_length: got True"),
        ("mooncake", MOONCAKE.replace('"output_length": 490, ', ""), "line 2: output_length: got nothing"),
        ("csv", "t_s,in_tokens,out_tokens\n0.5,3,4\ninf,3,4\n", "line 3: t_s: got 'inf'"),
        ("excel", AZURE, "format: got 'excel'; expected one of azure, burstgpt, csv, llmservingsim, mooncake, vidur"),
    ],
)
def test_bad_rows_are_named_in_one_line(tmp_path: Path, format: TraceFormat, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_trace(path, format)
    line = str(caught.value)
    assert str(path) in line
    assert message in line
    assert "\n" not in line


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: got no such file or directory"):
        read_trace(tmp_path / "none.csv", "csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(InputError, match="no UTF-8"):
        read_trace(binary, "csv")


@pytest.mark.parametrize("format", ["azure", "csv"])
def test_pieces_are_read_as_single_rows_are(tmp_path: Path, format: TraceFormat) -> None:
    """Values in quotes are read row by row, others many at a time."""
    rng = random.Random(5)
    head = {"azure": "TIMESTAMP,ContextTokens,GeneratedTokens", "csv": "t_s,in_tokens,out_tokens"}[format]
    rows = []
    for _ in range(2000):
        digits = "".join(rng.choices("0123456789", k=rng.randint(1, 9)))
        if format == "azure":
            day, clock = rng.randint(1, 28), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
            fraction, zone = rng.choice(["", f".{digits}"]), rng.choice(["", "Z", "+00:00"])
            time = f"2024-{rng.randint(1, 12):02}-{day:02}{rng.choice(' T')}{clock}{fraction}{zone}"
        else:
            time = rng.choice([f"{rng.randint(0, 10**6)}.{digits}", f"{rng.random():.3e}"])
        rows.append((time, rng.choice([f"{rng.randint(1, 9000)}", "17.0"]), f"{rng.randint(1, 900)}"))
    plain, quoted = tmp_path / "plain.csv", tmp_path / "quoted.csv"
    plain.write_text("\n".join([head, *(",".join(row) for row in rows)]))
    quoted.write_text("\r\n".join([head, *(",".join(f'"{value}"' for value in row) for row in rows)]))
    found, expected = read_trace(plain, format), read_trace(quoted, format)
    for name in ("arrival_ns", "prompt_tokens", "output_tokens"):
        assert (getattr(found, name) == getattr(expected, name)).all(), name
    assert len(found.arrival_ns) == 2000
