"""Code generation: round semantics, and closeness to the measured runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.code_generation import APPLICATION, MAX_ROUNDS, TEMPLATE
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, check


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(2000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("code_generation", shared / "data")}


def rounds_of(block: JobBlock) -> np.ndarray:
    return block.present[:, 0::3].sum(axis=1)


def test_rounds_end_and_the_last_test_run_tells(block: JobBlock) -> None:
    rounds = rounds_of(block)
    assert set(np.unique(rounds)) == set(range(1, MAX_ROUNDS + 1))
    for job in range(200):
        slots = 3 * rounds[job] - 1
        assert np.all(block.present[job, :slots])
        assert not np.any(block.present[job, slots:])
        assert np.all(block.revealer[job, slots:] == slots - 1)


def test_a_present_round_is_revealed_by_the_test_run_before(block: JobBlock) -> None:
    job = int(np.argmax(rounds_of(block)))
    for k in range(2, MAX_ROUNDS + 1):
        gate = TEMPLATE.index[f"test_{k - 1}"]
        assert [block.revealer[job, TEMPLATE.index[f"{step}_{k}"]] for step in ("reflect", "code", "test")] == [
            gate
        ] * 3


def test_prompts_hold_the_latest_attempt(block: JobBlock) -> None:
    """A rewrite's prompt grows with the code, test output and reflection it quotes, token for token."""
    code_1, reflect_2, code_2 = (TEMPLATE.index[name] for name in ("code_1", "reflect_2", "code_2"))
    several = rounds_of(block) > 1
    output, prompt = block.output_tokens[several, :, 0], block.prompt_tokens[several, :, 0]
    feedback = block.output_bytes[several, TEMPLATE.index["test_1"], 0] // 4
    fixed = prompt[:, reflect_2] - output[:, code_1] - feedback
    assert len(np.unique(fixed)) == 1
    task = prompt[:, code_1] - block.app_prefix_tokens[several, code_1]
    fixed = prompt[:, code_2] - output[:, code_1] - feedback - output[:, reflect_2] - task
    assert len(np.unique(fixed)) == 1


def test_rounds_match_the_measured_histogram(compared: dict[str, Comparison]) -> None:
    rounds = compared["rounds per job"]
    assert rounds.distance < 0.03
    assert abs(np.mean(rounds.generated == 1) - np.mean(rounds.measured == 1)) < 0.03
    assert abs(np.mean(rounds.generated == 10) - np.mean(rounds.measured == 10)) < 0.03


@pytest.mark.parametrize("quantity", ["code, first round", "code, later rounds", "reflection"])
def test_lengths_match(compared: dict[str, Comparison], quantity: str) -> None:
    assert compared[quantity].distance < 0.04


def test_correlations_match(compared: dict[str, Comparison]) -> None:
    item = compared["lengths within a job"]
    found = dict(zip(item.labels, np.abs(item.measured - item.generated), strict=True))
    assert found.pop("first code, rounds") < 0.2, "measured 0.10: left out on purpose"
    assert max(value for label, value in found.items() if label.startswith("code, lag")) < 0.04
    assert max(found.values()) < 0.08


def test_run_times_match_below_the_assumed_tail(compared: dict[str, Comparison]) -> None:
    assert compared["test run time"].distance < 0.05
