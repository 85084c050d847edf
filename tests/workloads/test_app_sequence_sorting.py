"""Sequence sorting: the graphs of the three sizes, and closeness to the published example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.sequence_sorting import APPLICATION, SIZES, TEMPLATE
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, check

LLM_TASKS = {
    # split, sort, then merge and improve of each level: responses x branches in the published graphs
    32: [1, 10, 10, 10, 0, 0, 0, 0],
    64: [1, 20, 20, 10, 10, 10, 0, 0],
    128: [1, 40, 40, 20, 20, 10, 10, 10],
}


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(900, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("sequence_sorting", shared / "data")}


def sizes_of(block: JobBlock) -> np.ndarray:
    return np.array(SIZES)[block.app_prefix[:, 0]]


@pytest.mark.parametrize("size", SIZES)
def test_stages_have_the_published_numbers_of_responses(block: JobBlock, size: int) -> None:
    names = ["split", "sort", *(f"{step}_{s}" for s in SIZES for step in ("merge", "improve"))]
    slots = [TEMPLATE.index[name] for name in names]
    counts = block.n_tasks[sizes_of(block) == size][:, slots]
    assert np.all(counts == LLM_TASKS[size])
    assert np.all((counts > 0) == block.present[sizes_of(block) == size][:, slots])


def test_levels_beyond_the_size_are_revealed_absent_by_the_split(block: JobBlock) -> None:
    for size in SIZES[1:]:
        slots = [i for name, i in TEMPLATE.index.items() if name.endswith(f"_{size}")]
        assert len(slots) == 4
        assert np.all(block.revealer[:, slots] == TEMPLATE.index["split"])
        assert np.all(block.present[:, slots] == (sizes_of(block) >= size)[:, None])


def test_siblings_share_their_prompt_only_where_one_branch_is_left(block: JobBlock) -> None:
    for size in SIZES:
        slot = TEMPLATE.index[f"merge_{size}"]
        last = sizes_of(block) == size
        assert np.all(block.job_prefix_tokens[last, slot] == block.prompt_tokens[last, slot, 0])
        several = sizes_of(block) > size
        assert np.all(block.job_prefix[several, slot] == -1)
        assert np.all(block.job_prefix_tokens[several, slot] == block.app_prefix_tokens[several, slot])


def test_tokens_are_near_the_oracle_count(compared: dict[str, Comparison]) -> None:
    assert compared["LLM responses per job"].distance == 0
    tokens = compared["output tokens per job"]
    assert np.max(np.abs(tokens.generated / tokens.measured - 1)) < 0.02
    ratio = compared["output tokens of a job over the oracle's"].generated
    assert 0.03 < ratio.std() < 0.08, "the assumed noise of real responses"


def test_sizes_are_equally_frequent(compared: dict[str, Comparison]) -> None:
    assert compared["list sizes"].distance < 0.03


def test_scoring_times_match(compared: dict[str, Comparison]) -> None:
    assert compared["scoring time (assumed)"].distance < 0.05
