"""LLMCompiler: plan and replan semantics, and closeness to the measured questions and plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads.applications.llm_compiler import (
    APPLICATION,
    DATASETS,
    MAX_REPLANNED,
    MAX_TASKS,
    TEMPLATE,
)
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.facts import load_facts
from llmsched_gym.workloads.fitting.check import Comparison, check

PLAN, DYNAMIC, JOIN = 0, 1, 2 + MAX_TASKS
REPLAN, MORE = JOIN + 1, JOIN + 2
FINAL = JOIN + 3 + MAX_REPLANNED
TASKS, MORE_TASKS = slice(2, JOIN), slice(JOIN + 3, FINAL)


@pytest.fixture(scope="module")
def block() -> JobBlock:
    return APPLICATION.sample(3000, np.random.default_rng(3))


@pytest.fixture(scope="module")
def compared(shared: Path) -> dict[str, Comparison]:
    return {item.quantity: item for item in check("llm_compiler", shared / "data")}


def test_slots_are_the_stages_they_stand_for(block: JobBlock) -> None:
    for slot, name in {PLAN: "plan", DYNAMIC: "tasks", JOIN: "join", REPLAN: "replan", FINAL: "final_join"}.items():
        assert np.all(block.node[:, slot] == TEMPLATE.index[name])
    exists = block.exists[:, TASKS]
    assert set(block.node[:, TASKS][exists]) == {TEMPLATE.index["search"], TEMPLATE.index["math"]}
    assert set(exists.sum(axis=1)) == {2, 3, 4, 5, 7, 8}


def test_the_joiner_is_the_gate_of_the_second_plan(block: JobBlock) -> None:
    again = block.present[:, REPLAN]
    optional = [REPLAN, MORE, FINAL]
    assert np.all(block.revealer[:, optional] == JOIN)
    assert np.array_equal(block.present[:, optional], np.repeat(again[:, None], 3, axis=1))
    assert not block.exists[~again][:, MORE_TASKS].any()
    assert np.all(block.exists[again][:, MORE_TASKS].any(axis=1))
    assert np.all(block.revealer[:, MORE_TASKS] == REPLAN)
    movie = np.asarray(np.equal(block.app_prefix[:, PLAN], DATASETS.index("movie")))
    assert not again[movie].any()
    assert 0.2 < again[~movie].mean() < 0.33


def test_calculations_wait_for_what_they_use_and_searches_for_the_plan_only(block: JobBlock) -> None:
    is_math = block.exists[:, TASKS] & (block.node[:, TASKS] == TEMPLATE.index["math"])
    is_search = block.exists[:, TASKS] & ~is_math
    inner = np.asarray(np.any(block.parents[:, TASKS, TASKS], axis=2))
    assert inner[is_math].all()
    assert not inner[is_search].any()
    assert block.parents[:, TASKS, DYNAMIC][is_search].all()
    assert np.all(block.duration_ns[:, TASKS, 0][is_search] > 0)
    assert np.all(
        block.prompt_tokens[:, TASKS, 0][is_math] > load_facts("llm_compiler")["prefix_tokens"]["value"]["math"]
    )


def test_both_joins_wait_for_all_sinks(block: JobBlock) -> None:
    for job in range(300):
        for dynamic, tasks, join in ((DYNAMIC, TASKS, JOIN), (MORE, MORE_TASKS, FINAL)):
            sinks = block.exists[job, tasks] & ~block.parents[job, tasks, tasks].any(axis=0)
            assert np.array_equal(block.parents[job, join, tasks], sinks)
            assert block.parents[job, join, dynamic]


def test_the_second_round_continues_the_first_conversations(block: JobBlock) -> None:
    again = block.present[:, REPLAN]
    prompt, output = block.prompt_tokens[again, :, 0], block.output_tokens[again, :, 0]
    assert np.array_equal(block.job_prefix_tokens[again, REPLAN], prompt[:, PLAN] + output[:, PLAN])
    assert np.array_equal(block.job_prefix_tokens[again, FINAL], prompt[:, JOIN])
    assert np.all(prompt[:, FINAL] > prompt[:, JOIN])
    assert np.array_equal(block.job_prefix[:, PLAN], block.job_prefix[:, REPLAN])
    assert np.array_equal(block.job_prefix[:, JOIN], block.job_prefix[:, FINAL])


@pytest.mark.parametrize(
    ("quantity", "bound"),
    [
        *((f"{name}: question", 0.06) for name in DATASETS),
        ("parallelqa: branches", 0.04),
        ("plan length with plan size", 0.04),
        ("mean plan length by plan size", 5.0),
        ("searches planned again (no movies)", 0.03),
        ("search result", 0.03),
        ("joiner's output", 0.04),
    ],
)
def test_generated_jobs_match(compared: dict[str, Comparison], quantity: str, bound: float) -> None:
    assert compared[quantity].distance < bound
