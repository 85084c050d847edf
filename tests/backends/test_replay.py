"""Replays equal the reference cases; where KV blocks run short, the one rule that differs is shown."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_engine import PlainEngine, Request

from llmsched_gym.backends.replay import COLUMNS, RequestLog, read_requests, replay, serve, write_rows
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError

PROFILE = LatencyProfile.from_ms("test formula", (8.0, 0.08, 0.09, 0.00028))
TOLERANCE_S = 5e-5


def config_of(case: str) -> EngineConfig:
    """The engine of a reference case, as its README says."""
    return EngineConfig(
        PROFILE,
        max_num_seqs=16 if "cap16" in case else 128,
        max_num_batched_tokens=int(case.split("sarathi")[1]) if "sarathi" in case else 4096,
        kv_blocks=700 if "kvpressure" in case else 7424,
        watermark=0.01,
        prefix_caching=False,
    )


def column(path: Path, name: str) -> NDArray[np.float64]:
    with path.open(newline="") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


@pytest.mark.parametrize(
    "case",
    [
        "c01_single_vllm",
        "c04_stagger4_sarathi512",
        "c06_conv50_q2_sarathi512",
        "c07_conv50_q2_sarathi2048",
        "c16_conv200_q8_cap16_sarathi2048",
    ],
)
def test_reference_case(shared: Path, case: str) -> None:
    file = shared / "reference" / "engine_cases" / case / "result_lin.csv"
    rows = replay(file, config_of(case))
    for name in COLUMNS:
        ours = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(ours, column(file, name), rtol=0, atol=TOLERANCE_S, err_msg=name)


def test_reference_iterations(shared: Path) -> None:
    folder = shared / "reference" / "engine_cases" / "c16_conv200_q8_cap16_sarathi2048"
    _, segments = serve(read_requests(folder / "result_lin.csv"), config_of(folder.name))
    which = np.repeat(np.arange(len(segments)), segments["iterations"])
    first = np.cumsum(segments["iterations"]) - segments["iterations"]
    later = np.arange(len(which)) - first[which]
    iterations = folder / "iterations_lin.csv"
    np.testing.assert_array_equal(segments["n_decode"][which], column(iterations, "n_decode"))
    np.testing.assert_array_equal(segments["prefill_tokens"][which], column(iterations, "prefill_tokens"))
    context = segments["decode_context"][which] + segments["n_decode"][which] * later
    np.testing.assert_array_equal(context, column(iterations, "sum_decode_context"))


def test_kv_pressure_differs_by_one_rule(shared: Path) -> None:
    """Case c12, short of KV blocks: with the other simulator's rule every time agrees; V1 preempts a little later.

    There a running request is served only while at least one block is free, whether it starts a block or not. V1
    preempts only when a request starts a block and gets none: here one or two iterations later.
    """
    file = shared / "reference" / "engine_cases" / "c12_kvpressure40_sarathi2048" / "result_lin.csv"
    config = config_of(file.parent.name)
    finish, arrival, restarts = (column(file, name) for name in ("finish_s", "arrival_s", "restarts"))
    log = read_requests(file)

    tasks, _ = serve(log, config)
    difference = np.abs(tasks["finish_ns"] * 1e-9 - finish)
    assert tasks["restarts"].tolist() == restarts.tolist()
    assert 0.005 < difference.max() < 0.025
    assert (difference / (finish - arrival)).max() < 0.006
    assert abs((tasks["finish_ns"] * 1e-9 - arrival).mean() / (finish - arrival).mean() - 1.0) < 0.001

    columns = zip(log.arrival_ns.tolist(), log.prompt_tokens.tolist(), log.output_tokens.tolist(), strict=True)
    requests = [Request(*values) for values in columns]
    PlainEngine(config, block_ahead=True).run(requests)
    theirs = np.array([request.finish_ns for request in requests], float) * 1e-9
    np.testing.assert_allclose(theirs, finish, rtol=0, atol=TOLERANCE_S)


def test_output_keeps_the_order_and_ids_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("request_id,arrival,prompt,output,more\nb,2.5,10.0,3,x\na,0.5,20,1,y\n")
    rows = replay(tmp_path / "in.csv", EngineConfig(PROFILE))
    write_rows(rows, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        ",".join(COLUMNS),
        f"b,2.500000000,10,3,2.500000000,2.508900000,{rows[0]['finish_s']},0",
        "a,0.500000000,20,1,0.500000000,0.509800000,0.509800000,0",
    ]
    # Prefill, then two decodes with 11 and 12 tokens of context.
    assert float(rows[0]["finish_s"]) == pytest.approx(2.5 + (8.9 + 8.08 + 11 * 0.00028 + 8.08 + 12 * 0.00028) / 1e3)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_long_log_does_not_depend_on_the_length_of_the_trace() -> None:
    """Long prompts make more segments than the trace's first buffer holds."""
    n = 40
    log = read_log(n, prompt=100_000, output=2)
    tasks, segments = serve(log, EngineConfig(PROFILE, max_num_batched_tokens=1000, max_num_seqs=4))
    assert segments["prefill_tokens"].sum() == n * 100_000
    assert len(segments) > 4 * n + 1024
    assert (np.diff(tasks["finish_ns"]) > 0).all()


def read_log(n: int, prompt: int, output: int) -> RequestLog:
    return RequestLog(
        [str(index) for index in range(n)],
        np.arange(n, dtype=np.int64),
        np.full(n, prompt, np.int64),
        np.full(n, output, np.int64),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("arrival_s,prompt_tokens,output_tokens\n", "no rows"),
        (
            "time,prompt_tokens,output_tokens\n0,1,1\n",
            "header: got 'time,prompt_tokens,output_tokens'; expected a column",
        ),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n-1,1,1\n", "line 3: arrival_s: got '-1'"),
        ("arrival_s,prompt_tokens,output_tokens\nnan,1,1\n", "line 2: arrival_s: got 'nan'"),
        ("arrival_s,prompt_tokens,output_tokens\n0,0,1\n", "line 2: prompt_tokens: got '0'"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,2.5\n", "line 2: output_tokens: got '2.5'"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1\n", "line 2: output_tokens: got"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,many\n", "line 2: output_tokens: got 'many'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        replay(path, EngineConfig(PROFILE))
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_request_longer_than_the_kv_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,5\n0,100,62\n")
    assert len(replay(path, EngineConfig(PROFILE, kv_blocks=11))) == 2
    with pytest.raises(InputError, match="request 1: KV tokens: got 161; expected at most 160"):
        replay(path, EngineConfig(PROFILE, kv_blocks=10))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: got no such file or directory"):
        read_requests(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"out\.csv"):
        write_rows([], tmp_path / "absent" / "out.csv")


def test_a_log_with_prefixes_computes_shared_tokens_once() -> None:
    """The second request starts when the first is done, and finds 6 of its 8 blocks in the cache."""
    lengths = np.array([128, 128], np.int64)
    contents = np.array([[0, 100, -1, 100, 100]] * 2, np.int64)
    log = RequestLog(["a", "b"], np.array([0, 10**9]), lengths, np.array([2, 2], np.int64), contents)
    tasks, segments = serve(log, EngineConfig(PROFILE, block_size=16))
    assert list(tasks["cached_tokens"]) == [0, 96]
    assert list(segments["prefill_tokens"]) == [128, 0, 32, 0]
    assert list(segments["prefill_context"]) == [0, 0, 96 * 32, 0]
    alone, _ = serve(log._replace(contents=None), EngineConfig(PROFILE, block_size=16))
    assert tasks["finish_ns"][0] == alone["finish_ns"][0]
    assert tasks["finish_ns"][1] < alone["finish_ns"][1]
