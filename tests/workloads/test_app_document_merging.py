"""Document merging: stage sizes, shared prompts, and closeness to the published example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.document_merging import APPLICATION, TEMPLATE
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, check
from llmsched_gym.workloads.fitting.tables import spearman


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(2000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("document_merging", shared / "data")}


def test_siblings_share_one_prompt_whole(block: JobBlock) -> None:
    for name, count in (("generate", 5), ("aggregate", 5), ("improve", 10)):
        slot = TEMPLATE.index[name]
        prompts = block.prompt_tokens[:, slot, :count]
        assert np.all(prompts == prompts[:, :1])
        assert np.all(block.job_prefix_tokens[:, slot] == prompts[:, 0])


def test_scores_share_the_documents_and_repeat_each_draft_thrice(block: JobBlock) -> None:
    first, last = TEMPLATE.index["score_generated"], TEMPLATE.index["score_improved"]
    assert np.all(block.job_prefix[:, first] == block.job_prefix[:, last])
    assert np.all(block.job_prefix_tokens[:, first] == block.job_prefix_tokens[:, last])
    prompts = block.prompt_tokens[:, first, :15].reshape(-1, 5, 3)
    drafts = block.output_tokens[:, TEMPLATE.index["generate"], :5]
    assert np.all(prompts == prompts[:, :, :1])
    assert len(np.unique(prompts[:, :, 0] - drafts - block.job_prefix_tokens[:, [first]])) == 1


def test_stages_of_a_job_correlate_through_the_documents(block: JobBlock) -> None:
    drafts = block.output_tokens[:, TEMPLATE.index["generate"], :5].mean(axis=1)
    assert spearman(drafts, block.output_tokens[:, TEMPLATE.index["aggregate"], :5].mean(axis=1)) > 0.8
    assert spearman(drafts, block.output_tokens[:, TEMPLATE.index["score_generated"], :15].mean(axis=1)) < 0.2


def test_inputs_match_the_measured_tasks(compared: dict[str, Comparison]) -> None:
    assert compared["four documents"].distance < 0.1  # 100 tasks: the sampling error alone reaches 0.13
    assert compared["LLM calls"].distance == 0


def test_prompts_match_the_printed_run(compared: dict[str, Comparison]) -> None:
    item = compared["prompts, size as in the run"]
    assert np.max(np.abs(item.generated / item.measured - 1)) < 0.05


@pytest.mark.parametrize(("step", "n"), [("generate", 5), ("aggregate", 5), ("improve", 10)])
def test_responses_match_the_printed_run(compared: dict[str, Comparison], step: str, n: int) -> None:
    item = compared[f"{step}, length over mean draft"]
    assert len(item.measured) == n
    assert item.distance < 0.45  # two equal lengths among five make a jump of 0.4 in the measured curve
    assert abs(item.generated.mean() - item.measured.mean()) < 0.03


def test_scores_match_the_printed_run(compared: dict[str, Comparison]) -> None:
    assert compared["score, response"].distance < 0.25
