"""Request logs with measured times, as servers and clients write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.backends.replay import RequestLog
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.log_reading import read_measured
from llmsched_gym.calibration.measured_log import replayed
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError

PLAIN = "arrival_s,prompt_tokens,output_tokens,first_token_s,finish_s\n1,10,5,1.5,3\n2,20,6,2.25,4\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "request_id,arrival,prompt,output,first_token,finish\na,1,10.0,5.0,1.5,3\nb,2,20,6,2.25,4\n",
        "arrival_time,input_tokens,output_tokens,ttft_ms,e2e_ms\n1,10,5,500,2000\n2,20,6,250,2000\n",
        "arrival_s,num_prefill_tokens,num_decode_tokens,ttft_s,latency_s\n1,10,5,0.5,2\n2,20,6,0.25,2\n",
        PLAIN.replace("\n1", "\n1764590001")
        .replace(",1.5,3", ",1764590001.5,1764590003")
        .replace("\n2", "\n1764590002")
        .replace(",2.25,4", ",1764590002.25,1764590004"),
    ],
    ids=["plain", "short names", "since arrival, ms", "since arrival, s", "since 1970"],
)
def test_other_columns_say_the_same(tmp_path: Path, text: str) -> None:
    log, left_out = read_measured(written(tmp_path, text))
    assert left_out == 0
    np.testing.assert_allclose(log.first_token_s, [0.5, 0.25], atol=1e-6)
    np.testing.assert_allclose(log.end_to_end_s, [2.0, 2.0], atol=1e-6)
    assert (log.requests.arrival_ns - log.requests.arrival_ns[0]).tolist() == [0, 10**9]
    assert log.requests.prompt_tokens.tolist() == [10, 20]
    assert log.requests.output_tokens.tolist() == [5, 6]


def test_failed_and_unfinished_requests(tmp_path: Path) -> None:
    """Without tokens: not there; without an end, or a first token of its own: not measured."""
    rows = ["3,30,0,,", "4,30,,nan,nan", "5,30,7,5.5,", "6,30,7,,None", "7,30,7,9,9", "8,30,1,9,9"]
    log, left_out = read_measured(written(tmp_path, PLAIN + "\n".join(rows)))
    assert left_out == 2
    assert log.measured.tolist() == [True, True, False, False, True, True]
    assert np.isfinite(log.first_token_s).tolist() == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("arrival_s,prompt_tokens,output_tokens\n1,2,3\n", r"header: .*; expected when requests ended: .*finish_s"),
        (PLAIN + "9,10,5,8,12\n", "line 4: got tokens .* after arrival; expected arrival < first token <= last token"),
        (PLAIN + "9,10,5,12,11\n", "line 4: got tokens .* after arrival; expected arrival < first token <= last token"),
        (PLAIN + "9,10,5,,1764590009\n", "line 4: got tokens nan and 1.76459e.09 s after arrival"),
        (PLAIN + "9,10,5,soon,12\n", "line 4: first_token_s: got 'soon'"),
        (PLAIN + "9,10,5.5,10,12\n", "line 4: output_tokens: got '5.5'"),
        (PLAIN + "2000000,10,5,,\n", "line 4: arrival_s: got '2000000'; expected at most 1000000 s after the first"),
        (PLAIN + "1764590001000,10,5,,\n", "line 4: arrival_s: got '1764590001000'; expected a number from 0 to"),
        (PLAIN.replace("5,1.5", "0,1.5").replace("6,2.25", "0,2.25"), "got 2 requests without tokens"),
    ],
)
def test_unusable_logs_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_measured(written(tmp_path, text))


def test_when_a_log_begins_does_not_matter() -> None:
    """The engine counts picoseconds in 64 bits, which do not reach to 1970."""
    engine = EngineConfig(LatencyProfile.from_ms("any", (9.0, 0.03, 0.03, 1.5e-4)), kv_blocks=200)
    rng = np.random.default_rng(0)
    arrival = np.sort(rng.integers(0, 10**10, 50))
    tokens = rng.integers(1, 900, (2, 50))
    early, late = (
        replayed(RequestLog([str(i) for i in range(50)], arrival + begin, *tokens), engine)
        for begin in (0, 1_764_590_001 * 10**9)
    )
    assert early.first_token_s.tolist() == late.first_token_s.tolist()
    assert early.end_to_end_s.tolist() == late.end_to_end_s.tolist()
