"""The transitions of one job, step by step: gates, plans, parallel tasks, expectations, paths and influence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.lifecycle import arrive, can_dispatch, finish_task, least_loaded, start_task
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import ClusterState, JobStatus, StageStatus
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import HISTORY, Workload

LLM, REGULAR, DYNAMIC = StageKind.LLM, StageKind.REGULAR, StageKind.DYNAMIC
SECOND = 10**9
CLUSTER = ClusterSpec.model_validate(
    {
        "executors": [
            {"kind": "regular", "count": 2},
            {"kind": "llm", "latency": "one-second-per-token", "count": 2, "max_num_seqs": 2},
        ]
    }
)
HIDDEN, BLOCKED, READY, RUNNING = StageStatus.HIDDEN, StageStatus.BLOCKED, StageStatus.READY, StageStatus.RUNNING
DONE, SKIPPED = StageStatus.DONE, StageStatus.SKIPPED


def build(template: ApplicationTemplate, block: JobBlock, history: dict[str, list[float]]) -> ClusterState:
    """One job of a template, arrived at time 0."""
    template.validate("test")
    rows = np.zeros(len(template.nodes), HISTORY)
    rows["presence"] = rows["path_share"] = rows["n_tasks"] = 1.0
    for column, values in history.items():
        rows[column] = values
    workload: Workload = assemble("test", [Part(template, 0, np.zeros(1, np.int64), block)], [rows])
    state = initial_state(workload, CLUSTER)
    arrive(state, 0, 0)
    return state


def run(state: ClusterState, stage: int, start_s: int, finish_s: int) -> None:
    """Start and finish all tasks of a stage."""
    count = int(state.stages["n_tasks"][stage])
    tasks = []
    for _ in range(count):
        executor = least_loaded(state, int(state.stages["pool"][stage]))
        tasks.append(start_task(state, stage, executor, start_s * SECOND))
    for task in tasks:
        finish_task(state, task, finish_s * SECOND)


def status(state: ClusterState) -> list[int]:
    """Statuses of all stages."""
    return state.stages["status"].tolist()


@pytest.fixture
def gated() -> Any:
    """A test run that tells whether a fix and its own check are needed, and a report that comes last."""
    template = ApplicationTemplate(
        "gated",
        "chain",
        (
            TemplateNode("test", REGULAR),
            TemplateNode("fix", LLM, ("test",), revealed_by="test"),
            TemplateNode("check", REGULAR, ("fix",), revealed_by="test"),
            TemplateNode("report", REGULAR, ("check",)),
        ),
    )

    def make(present: bool) -> ClusterState:
        block = static_block(template, 1, 1)
        block.n_tasks[:] = 1
        block.prompt_tokens[:] = 1
        block.output_tokens[:] = 4
        block.duration_ns[:] = SECOND
        block.present[:, 1:3] = present
        return build(template, block, {"presence": [1, 0.5, 0.5, 1], "seconds": [2, 6, 2, 3]})

    return make


def test_optional_stages_count_by_their_share_until_they_are_known(gated: Any) -> None:
    state = gated(True)
    assert status(state) == [READY, HIDDEN, HIDDEN, BLOCKED]
    assert (state.stages["work_ns"] / SECOND).tolist() == [2.0, 3.0, 1.0, 3.0]
    assert state.jobs[0]["remaining_ns"] == state.jobs[0]["total_ns"] == 9 * SECOND
    assert state.jobs[0]["path_ns"] == 9 * SECOND
    run(state, 0, 0, 1)
    assert status(state) == [DONE, READY, BLOCKED, BLOCKED]
    assert (state.stages["work_ns"] / SECOND).tolist() == [0.0, 6.0, 2.0, 3.0]
    assert state.jobs[0]["path_ns"] == 11 * SECOND
    assert state.jobs[0]["total_ns"] == 9 * SECOND


def test_skipped_stages_let_what_follows_begin_at_once(gated: Any) -> None:
    state = gated(False)
    assert len(state.tasks) == 2
    run(state, 0, 0, 1)
    assert status(state) == [DONE, SKIPPED, SKIPPED, READY]
    assert state.jobs[0]["remaining_ns"] == state.jobs[0]["path_ns"] == 3 * SECOND
    assert state.stages["ready_ns"][3] == SECOND
    assert state.jobs[0]["done_stages"] == 1
    run(state, 3, 2, 3)
    assert state.jobs[0]["status"] == JobStatus.DONE
    assert state.jobs[0]["finish_ns"] == 3 * SECOND
    assert (state.clock[0]["active"], state.clock[0]["done"], state.clock[0]["ready"]) == (0, 1, 0)


def test_nobody_sees_a_plan_before_it_is_made() -> None:
    """A planner, two planned tools in a row out of a possible two kinds, an answer."""
    template = ApplicationTemplate(
        "planned",
        "planning",
        (
            TemplateNode("plan", LLM),
            TemplateNode("tools", DYNAMIC, ("plan",), revealed_by="plan"),
            TemplateNode("search", REGULAR, candidate_of="tools"),
            TemplateNode("compute", LLM, candidate_of="tools"),
            TemplateNode("answer", LLM, ("tools",)),
        ),
    )
    blank = static_block(template, 1, 1)
    parents = np.zeros((1, 5, 5), np.bool_)
    parents[0, 1, 0] = parents[0, 2, 1] = parents[0, 3, 2] = parents[0, 4, 3] = parents[0, 4, 1] = True
    block = JobBlock(
        **{
            **blank._asdict(),
            "parents": parents,
            "revealer": np.array([[-1, -1, 0, 0, -1]]),
            "n_tasks": np.ones((1, 5), np.int64),
            "prompt_tokens": np.ones((1, 5, 1), np.int64),
            "output_tokens": np.ones((1, 5, 1), np.int64),
            "duration_ns": np.full((1, 5, 1), SECOND),
        }
    )
    state = build(template, block, {"presence": [1, 1, 0.8, 0.6, 1], "seconds": [1, 10, 4, 5, 2]})
    assert status(state) == [READY, BLOCKED, HIDDEN, HIDDEN, BLOCKED]
    assert (state.stages["work_ns"] / SECOND).tolist() == [1.0, 10.0, 0.0, 0.0, 2.0]
    assert state.jobs[0]["path_ns"] == 13 * SECOND
    assert state.stages["influence"][:2].tolist() == [3, 2]  # plan: its dynamic stage's 2 (the answer's 1 + 1) and 1
    run(state, 0, 0, 1)
    assert status(state) == [DONE, DONE, READY, BLOCKED, BLOCKED]
    assert (state.stages["work_ns"] / SECOND).tolist() == [0.0, 0.0, 4.0, 5.0, 2.0]
    assert state.jobs[0]["remaining_ns"] == state.jobs[0]["path_ns"] == 11 * SECOND
    assert state.stages["influence"][2:].tolist() == [3, 2, 1]
    assert state.jobs[0]["done_stages"] == 2


def test_parallel_tasks_start_in_order_and_end_the_stage_together() -> None:
    template = ApplicationTemplate(
        "wide", "predefined", (TemplateNode("ask", LLM), TemplateNode("store", REGULAR, ("ask",)))
    )
    block = static_block(template, 1, 3)
    block.n_tasks[:] = [3, 1]
    block.prompt_tokens[:] = 1
    block.output_tokens[:] = [[[2], [0]]]
    block.duration_ns[:] = SECOND
    state = build(template, block, {"n_tasks": [2, 1], "seconds": [8, 1]})
    assert state.stages["work_ns"][0] == 12 * SECOND  # three tasks of four seconds, known once ready
    assert state.pools.tolist() == [(1, 4), (0, 2)]
    first = [start_task(state, 0, least_loaded(state, 0), k * SECOND) for k in range(2)]
    assert first == [0, 1]
    assert state.tasks["executor"][:2].tolist() == [2, 3]  # the emptier executor, the first among equals
    assert (state.jobs[0]["running_tasks"], state.jobs[0]["waiting_tasks"]) == (2, 1)
    assert can_dispatch(state)
    assert start_task(state, 0, least_loaded(state, 0), 2 * SECOND) == 2
    assert state.clock[0]["ready"] == 0
    assert not can_dispatch(state)
    assert state.pools.tolist() == [(0, 1), (0, 2)]
    finish_task(state, 1, 3 * SECOND)
    assert state.stages["work_ns"][0] == 8 * SECOND
    assert status(state)[0] == RUNNING
    assert state.jobs[0]["attained_ns"] + 2 * 3 * SECOND == (3 - 0) * SECOND + (3 - 1) * SECOND + (3 - 2) * SECOND
    finish_task(state, 0, 4 * SECOND)
    finish_task(state, 2, 4 * SECOND)
    assert status(state) == [DONE, READY]
    assert state.executors["busy_ns"].tolist() == [0, 0, 6 * SECOND, 2 * SECOND]


def test_truth_is_summed_before_the_first_arrival(gated: Any) -> None:
    """One second for each tool, four tokens at a second each for the fix."""
    state = gated(True)
    assert (state.stages["true_work_ns"] / SECOND).tolist() == [1.0, 4.0, 1.0, 1.0]
    assert (state.stages["true_path_ns"] / SECOND).tolist() == [7.0, 6.0, 2.0, 1.0]
    assert state.jobs[0]["ideal_ns"] == state.jobs[0]["true_remaining_ns"] == 7 * SECOND
    assert gated(False).jobs[0]["ideal_ns"] == 2 * SECOND


def test_no_executor_is_chosen_when_all_are_full(gated: Any) -> None:
    state = gated(True)
    state.executors["running"][:2] = 1
    assert least_loaded(state, 1) == -1
    state.executors["running"][1] = 0
    assert least_loaded(state, 1) == 1
