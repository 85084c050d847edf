"""Web search: step semantics, the growing context, and closeness to the measured ReAct runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS
from llmsched_gym.workloads.applications.web_search import APP_PREFIXES, APPLICATION, MAX_STEPS, TEMPLATE
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.fitting.check import Comparison, check

DATASETS = ("hotpotqa", "fever")


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(2000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("web_search", shared / "data")}


def steps_of(block: JobBlock) -> np.ndarray:
    return block.present[:, ::2].sum(axis=1)


def test_a_job_ends_with_a_thought(block: JobBlock) -> None:
    steps = steps_of(block)
    assert set(np.unique(steps)) == set(range(2, MAX_STEPS + 1))
    assert np.array_equal(block.present[:, 1::2].sum(axis=1), steps - 1)
    assert np.all(block.present[:, :-1] >= block.present[:, 1:]), "present stages come first"


def test_thoughts_are_the_gates(block: JobBlock) -> None:
    for job in range(200):
        last = 2 * (int(block.present[job, ::2].sum()) - 1)
        for k in range(1, MAX_STEPS):
            gate = min(TEMPLATE.index[f"think_{k}"], last)
            assert block.revealer[job, TEMPLATE.index[f"search_{k}"]] == gate
            assert block.revealer[job, TEMPLATE.index[f"think_{k + 1}"]] == gate


def test_a_prompt_repeats_the_conversation(block: JobBlock) -> None:
    thinks = block.present[:, 2::2]
    prompt, output = block.prompt_tokens[:, ::2, 0], block.output_tokens[:, ::2, 0]
    held = prompt[:, :-1] + output[:, :-1]
    assert np.array_equal(block.job_prefix_tokens[:, 2::2][thinks], held[thinks])
    assert block.output_bytes is not None
    observed = (prompt[:, 1:] - held)[thinks]
    assert observed.min() >= 1
    assert np.array_equal(observed * 4, block.output_bytes[:, 1::2, 0][thinks])


def test_data_sets_have_their_own_prompt(block: JobBlock) -> None:
    for number, name in enumerate(DATASETS):
        mine = block.app_prefix[:, 0] == number
        assert 0.45 < mine.mean() < 0.55
        assert set(block.app_prefix_tokens[mine, 0]) == {load_facts("web_search")[f"prefix_tokens_{name}"]["value"]}
    assert tuple(f"react_{name}" for name in DATASETS) == APP_PREFIXES


def test_long_observations_are_cut_to_the_context() -> None:
    many = APPLICATION.sample(40_000, np.random.default_rng(8))
    assert (many.prompt_tokens + many.output_tokens)[many.present].max() <= MAX_CONTEXT_TOKENS


def test_search_takes_as_long_as_fever_says(block: JobBlock) -> None:
    seconds = block.duration_ns[:, 1, 0] / 1e9  # the first action is a search
    fit = load_facts("web_search")["search_seconds"]["fit"]
    assert fit["ks_of_job_wall_time"] < 0.08
    assert np.mean(seconds) == pytest.approx(fit["seconds_constant_search_call_token"][1], rel=0.08)
    assert np.quantile(seconds, 0.99) > 5 * np.median(seconds), "a heavy tail"


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    ("quantity", "bound"), [("steps", 0.02), ("thought", 0.03), ("observation", 0.04), ("whole job", 0.1)]
)
def test_distributions_match(compared: dict[str, Comparison], dataset: str, quantity: str, bound: float) -> None:
    assert compared[f"{dataset}: {quantity}"].distance < bound


@pytest.mark.parametrize("dataset", DATASETS)
def test_correlations_match(compared: dict[str, Comparison], dataset: str) -> None:
    item = compared[f"{dataset}: within a job"]
    assert item.distance < 0.1
    found = dict(zip(item.labels, item.generated, strict=True))
    assert found["observation 1, steps"] < -0.2, "a search that finds little makes a further step likelier"
    assert abs(found["thought 1, steps"]) < 0.25, "early lengths hardly predict the number of steps"
