"""Task automation: plan semantics, and closeness to the measured plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.task_automation import APPLICATION, MAX_TOOLS, TEMPLATE, TOOLS
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.fitting.check import Comparison, check
from llmsched_gym.workloads.fitting.tables import read_table

PLAN, DYNAMIC, ANSWER = 0, 1, 2 + MAX_TOOLS
TOOL_SLOTS = slice(2, 2 + MAX_TOOLS)


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(3000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("task_automation", shared / "data")}


def test_planned_tools_are_candidates_revealed_by_the_planner(block: JobBlock) -> None:
    exists = block.exists[:, TOOL_SLOTS]
    candidates = {i for i, node in enumerate(TEMPLATE.nodes) if node.candidate_of == "tools"}
    assert set(block.node[:, TOOL_SLOTS][exists]) == candidates
    assert np.all(block.revealer[:, TOOL_SLOTS][exists] == PLAN)
    assert set(exists.sum(axis=1)) == set(range(1, MAX_TOOLS + 1))
    assert np.array_equal(block.present, block.exists)


def test_sources_follow_the_dynamic_stage_and_sinks_precede_the_answer(block: JobBlock) -> None:
    for job in range(300):
        tools = [slot for slot in range(2, ANSWER) if block.exists[job, slot]]
        edges = block.parents[job]
        for slot in tools:
            inner = edges[slot, TOOL_SLOTS].any()
            assert edges[slot, DYNAMIC] == (not inner)
            assert edges[ANSWER, slot] == (not edges[TOOL_SLOTS, slot].any())
        assert edges[ANSWER, DYNAMIC]
        assert edges[DYNAMIC, PLAN]
        assert not edges[:, [slot for slot in range(2, ANSWER) if slot not in tools]].any()


def test_the_plan_reveals_its_size_before_it_ends(block: JobBlock) -> None:
    tools = block.exists[:, TOOL_SLOTS].sum(axis=1)
    plan = block.output_tokens[:, PLAN, 0]
    assert np.corrcoef(plan, tools)[0, 1] > 0.85
    mean = [plan[tools == size].mean() for size in range(1, MAX_TOOLS + 1)]
    assert np.all(np.diff(mean) > 40)


def test_the_answer_reads_the_plan_and_its_results(block: JobBlock) -> None:
    tools = block.exists[:, TOOL_SLOTS].sum(axis=1)
    request = block.prompt_tokens[:, PLAN, 0] - block.app_prefix_tokens[:, PLAN]
    read = block.prompt_tokens[:, ANSWER, 0] - block.app_prefix_tokens[:, ANSWER]
    each = load_facts("task_automation")["result_tokens"]["value"]
    assert np.array_equal(read, request + block.output_tokens[:, PLAN, 0] + each * tools)


def test_tools_differ_in_duration_and_have_heavy_tails(block: JobBlock) -> None:
    exists = block.exists[:, TOOL_SLOTS]
    seconds, node = block.duration_ns[:, TOOL_SLOTS, 0][exists] / 1e9, block.node[:, TOOL_SLOTS][exists]
    median = {name: np.median(seconds[node == TEMPLATE.index[name]]) for name in TOOLS}
    assert median["text_analysis"] < 0.5 < median["image_generation"] < median["video_generation"]
    planning = block.output_tokens[:, PLAN, 0]
    assert seconds.std() / seconds.mean() > 3 * planning.std() / planning.mean()


def test_every_taskbench_tool_has_one_candidate(shared: Path) -> None:
    named = [row["tool_name"] for row in read_table(shared / "data", "taskauto/huggingface_tools.csv")]
    assert sorted(tool for tools in TOOLS.values() for tool in tools) == sorted(named)


@pytest.mark.parametrize(
    ("quantity", "bound"),
    [
        ("tools per plan (2 or more)", 0.04),
        ("plan (2 or more tools)", 0.05),
        ("request (2 or more tools)", 0.04),
        ("shape of plans", 0.03),
        ("plan length, plan size, request", 0.06),
        ("calls by candidate", 0.04),
        ("pairs along edges", 0.025),
        ("answer", 0.04),
    ],
)
def test_generated_jobs_match(compared: dict[str, Comparison], quantity: str, bound: float) -> None:
    assert compared[quantity].distance < bound
