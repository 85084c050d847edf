"""The verbs ``calibrate`` and ``validate`` refuse bad input in one line; what they do is tested on real servers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from llmsched_gym.cli import main

LIMITS = ("--max-num-seqs", "8", "--max-num-batched-tokens", "2048")


@pytest.fixture
def nobody() -> str:
    """URL of a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--server", "localhost:8000", *LIMITS), "expected a URL as http"),
        (("--server", "http://a:1,http://a:1", *LIMITS), "each once"),
        (("--server", "http://a:1", "--max-num-seqs", "8"), "--max-num-batched-tokens INT: got nothing"),
        (("--server", "http://a:1", *LIMITS, "--rounds", "0"), "--rounds: got 0"),
        (("--server", "http://a:1", *LIMITS, "--budget-s", "-1"), "--budget-s: got -1.0"),
        (("--server", "http://a:1", *LIMITS, "--scenario", "mixd"), "did you mean 'mixed'"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert message in told.err


def test_a_server_that_does_not_answer_is_named(
    nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "profile.json"
    assert main(["calibrate", "--server", nobody, *LIMITS, "-o", str(output)]) == 2
    assert nobody in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--profile", "llama-2-7b-h100"),
            "provenance.limits: got None; expected a profile that llmsched-gym calibrate",
        ),
        (("--profile", "nothing"), "name: got 'nothing'"),
        (("--profile", "p", "--repeats", "0"), "--repeats: got 0"),
        (("--profile", "p", "--policies", "fcsf"), "did you mean 'fcfs'"),
        ((), "--profile NAME|FILE: got nothing"),
    ],
)
def test_bad_input_of_validate_is_told_in_one_line(
    words: tuple[str, ...], message: str, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--server", nobody, *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert message in told.err
