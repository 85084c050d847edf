"""Historical means equal what their definitions give by hand."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.history import (
    HISTORY_JOBS,
    NOMINAL_PS,
    compute_history,
    nominal_ns,
    sampled_history,
    task_terms,
)
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.toy import TOY_APPLICATIONS
from llmsched_gym.workloads.workload import TASK, Workload


def whole(application: Application, block: JobBlock) -> Workload:
    n = len(block.exists)
    return assemble("h", [Part(application.template, len(application.prefixes), np.arange(n), block)])


def test_terms_of_one_task_by_iteration() -> None:
    task = np.zeros(3, dtype=TASK)
    task["prompt_tokens"] = [100, 40, 0]
    task["output_tokens"] = [4, 1, 0]
    task["app_prefix_tokens"] = [30, 40, 0]
    task["job_prefix_tokens"] = [60, 40, 0]
    task["duration_ns"] = [0, 0, 7]
    prefill, context = task_terms(task)
    assert prefill.tolist() == [40, 1, 0]  # a whole hit still computes one token
    assert context.tolist() == [101 + 102 + 103, 0, 0]
    a, b, c, d = NOMINAL_PS
    assert nominal_ns(task).tolist() == [(4 * a + 3 * b + 40 * c + 306 * d) // 1000, (a + c) // 1000, 7]


def test_means_equal_a_loop_over_jobs(assistant: Application) -> None:
    workload = whole(assistant, assistant.sample(60, np.random.default_rng(1)))
    history = compute_history(workload, 0)
    for node, one in enumerate(assistant.template.nodes):
        rows = [stage for stage in workload.stages if stage["node"] == node and stage["present"]]
        assert history["presence"][node] == pytest.approx(len(rows) / 60)
        if one.kind is StageKind.DYNAMIC:
            continue
        own = [workload.tasks[s["first_task"] : s["first_task"] + s["n_tasks"]] for s in rows]
        assert history["n_tasks"][node] == pytest.approx(np.mean([len(tasks) for tasks in own]))
        assert history["output_tokens"][node] == pytest.approx(np.mean([tasks["output_tokens"].sum() for tasks in own]))
        assert history["seconds"][node] == pytest.approx(np.mean([tasks["duration_ns"].sum() / 1e9 for tasks in own]))
        prefill = [(t["prompt_tokens"] - np.maximum(t["app_prefix_tokens"], t["job_prefix_tokens"])).sum() for t in own]
        assert history["prefill_tokens"][node] == pytest.approx(np.mean(prefill) if one.kind is StageKind.LLM else 0.0)
        work = [nominal_ns(tasks) for tasks in own]
        share = sum(w.max() for w in work) / sum(w.sum() for w in work)
        assert history["path_share"][node] == pytest.approx(share)


def test_dynamic_stage_sums_its_sub_dag_and_takes_its_critical_path(assistant: Application) -> None:
    workload = whole(assistant, assistant.sample(60, np.random.default_rng(2)))
    row = compute_history(workload, 0)[assistant.template.index["tools"]]
    planned = [assistant.template.index[name] for name in ("search", "ask")]
    tasks_of = workload.stages["node"][workload.tasks["stage"]]
    inside = np.isin(tasks_of, planned)
    assert row["n_tasks"] == pytest.approx(inside.sum() / 60)
    assert row["seconds"] == pytest.approx(workload.tasks["duration_ns"][inside].sum() / 60 / 1e9)
    assert row["output_tokens"] == pytest.approx(workload.tasks["output_tokens"][inside].sum() / 60)

    paths = 0
    for job in workload.jobs:
        finish: dict[int, int] = {}
        for stage in range(job["first_stage"], job["first_stage"] + job["n_stages"]):
            if workload.stages["node"][stage] not in planned:
                continue
            first = workload.stages["first_task"][stage]
            own = workload.tasks[first : first + workload.stages["n_tasks"][stage]]
            start = max((finish[p] for p in finish if stage in _children(workload, p)), default=0)
            finish[stage] = start + int(nominal_ns(own).max())
        paths += max(finish.values())
    assert row["path_share"] == pytest.approx(paths / nominal_ns(workload.tasks[inside]).sum())


def _children(workload: Workload, stage: int) -> list[int]:
    first = workload.stages["first_child"][stage]
    return workload.children[first : first + workload.stages["n_children"][stage]].tolist()


def test_stage_that_never_ran_and_empty_application(assistant: Application) -> None:
    block = assistant.sample(5, np.random.default_rng(0))
    block.present[:, 6:8] = False
    block.revealer[:, 7] = 5
    history = compute_history(whole(assistant, block), 0)
    retry = history[assistant.template.index["retry"]]
    assert (retry["presence"], retry["n_tasks"], retry["path_share"]) == (0.0, 0.0, 1.0)
    empty = Part(TOY_APPLICATIONS["certain"].template, 0, np.empty(0, dtype=np.int64), None)
    full = Part(assistant.template, 2, np.arange(5), block)
    assert compute_history(assemble("e", [empty, full]), 0)["presence"].tolist() == [0.0, 0.0]
    assert np.array_equal(compute_history(assemble("e", [empty, full]), 1), history)


def test_order_of_jobs_does_not_matter(assistant: Application) -> None:
    block = assistant.sample(50, np.random.default_rng(4))
    reversed_block = JobBlock._make(values[::-1] for values in block)
    forward, backward = (compute_history(whole(assistant, b), 0) for b in (block, reversed_block))
    assert np.array_equal(forward, backward)


def test_sampled_history_is_cached_read_only_and_close_to_the_truth() -> None:
    application = TOY_APPLICATIONS["uncertain"]
    history = sampled_history(application)
    assert sampled_history(application) is history
    assert not history.flags.writeable
    # 0.6 · 1 + 0.4 · 12 = 5.4 with a standard deviation of 5.4 over jobs
    assert history["output_tokens"][1] == pytest.approx(5.4, abs=4 * 5.4 / HISTORY_JOBS**0.5)
