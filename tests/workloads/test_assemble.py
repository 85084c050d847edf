"""Blocks of several applications become one flat workload that says the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.toy import TOY_APPLICATIONS
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN, Workload


def make(assistant: Application, n: int = 40) -> tuple[Workload, list[Part]]:
    rng = np.random.default_rng(3)
    parts = []
    for application in (TOY_APPLICATIONS["uncertain"], assistant, TOY_APPLICATIONS["certain"]):
        arrival = np.sort(rng.integers(0, 10**9, n))
        parts.append(Part(application.template, len(application.prefixes), arrival, application.sample(n, rng)))
    workload = assemble("three", parts)
    history = [compute_history(workload, app) for app in range(3)]
    return replace(workload, history=tuple(history)), parts


def test_workload_says_what_the_blocks_say(assistant: Application) -> None:
    workload, parts = make(assistant)
    validate_workload(workload)
    assert np.all(np.diff(workload.jobs["arrival_ns"]) >= 0)
    seen = [0, 0, 0]
    for job in workload.jobs:
        app = int(job["app"])
        part, j = parts[app], seen[app]
        seen[app] += 1
        block = part.block
        assert block is not None
        assert job["arrival_ns"] == part.arrival_ns[j]
        slots = np.flatnonzero(block.exists[j])
        row = {int(slot): int(job["first_stage"]) + k for k, slot in enumerate(slots)}
        for slot in slots:
            stage = workload.stages[row[int(slot)]]
            assert stage["node"] == block.node[j, slot]
            assert stage["present"] == block.present[j, slot]
            revealer = block.revealer[j, slot]
            assert stage["revealer"] == (row[int(revealer)] if revealer >= 0 else -1)
            first = stage["first_child"]
            children = workload.children[first : first + stage["n_children"]].tolist()
            assert children == [row[int(c)] for c in slots if block.parents[j, c, slot]]
            runs = stage["present"] and stage["kind"] != StageKind.DYNAMIC
            assert stage["n_tasks"] == (block.n_tasks[j, slot] if runs else 0)
            for t in range(stage["n_tasks"]):
                task = workload.tasks[stage["first_task"] + t]
                assert task["prompt_tokens"] == block.prompt_tokens[j, slot, t]
                assert task["output_tokens"] == block.output_tokens[j, slot, t]
                assert task["duration_ns"] == block.duration_ns[j, slot, t]
                assert task["output_bytes"] == BYTES_PER_TOKEN * block.output_tokens[j, slot, t]
    assert seen == [40, 40, 40]


def test_prefixes_are_shared_within_applications_and_jobs_only(assistant: Application) -> None:
    workload, _ = make(assistant)
    tasks, stages = workload.tasks, workload.stages
    assert workload.n_app_prefixes == 2
    job = stages["job"][tasks["stage"]]
    ids = np.flatnonzero(np.bincount(tasks["job_prefix"][tasks["job_prefix"] >= 0], minlength=workload.n_prefixes))
    assert ids.tolist() == list(range(2, workload.n_prefixes))
    for prefix in ids:
        assert len(set(job[tasks["job_prefix"] == prefix].tolist())) == 1
    node = stages["node"][tasks["stage"]]
    asks = (workload.jobs["app"][job] == 1) & (node == 3)
    plans = (workload.jobs["app"][job] == 1) & (node == 0)
    assert set(tasks["app_prefix"][asks].tolist()) == {1}
    assert set(tasks["app_prefix"][plans].tolist()) == {0}
    unchained = tasks["job_prefix"] < 0
    assert np.array_equal(tasks["job_prefix_tokens"][unchained], tasks["app_prefix_tokens"][unchained])


def test_application_without_jobs_keeps_its_template(assistant: Application) -> None:
    block = assistant.sample(2, np.random.default_rng(0))
    none = Part(TOY_APPLICATIONS["certain"].template, 0, np.empty(0, dtype=np.int64), None)
    workload = assemble("some", [none, Part(assistant.template, 2, np.array([4, 5]), block)])
    assert [template.name for template in workload.templates] == ["certain", "assistant"]
    assert workload.jobs["app"].tolist() == [1, 1]


def test_more_tasks_than_the_arrays_hold_are_refused(assistant: Application) -> None:
    block = assistant.sample(2, np.random.default_rng(0))
    block.n_tasks[1, 0] = block.prompt_tokens.shape[2] + 1
    part = Part(assistant.template, len(assistant.prefixes), np.zeros(2, np.int64), block)
    with pytest.raises(ValueError, match=r"a slot has .* tasks, but its arrays hold"):
        assemble("too many", [part])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda block: {"app_prefix": block.app_prefix[0]},
            r"app_prefix is int64 of shape \(9,\); expected integers of",
        ),
        (lambda block: {"present": block.present[:1]}, r"present is bool of shape \(1, 9\); expected bool of shape"),
        (lambda block: {"exists": block.exists.astype(int)}, r"exists is int64 of shape \(2, 9\); expected bool"),
        (lambda block: {"output_tokens": block.output_tokens[:, :, :1]}, "output_tokens is int64 of shape"),
        (lambda block: {"duration_ns": block.duration_ns / 2}, "duration_ns is float64 of shape"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    assistant: Application, change: Callable[[JobBlock], dict[str, Any]], message: str
) -> None:
    block = assistant.sample(2, np.random.default_rng(0))
    part = Part(assistant.template, len(assistant.prefixes), np.zeros(2, np.int64), block._replace(**change(block)))
    with pytest.raises(ValueError, match=f"assistant: {message}"):
        assemble("misshapen", [part])


def test_ties_go_by_turn_else_by_part(assistant: Application) -> None:
    rng = np.random.default_rng(0)
    parts = [
        Part(application.template, len(application.prefixes), np.array([7, 7]), application.sample(2, rng))
        for application in (assistant, TOY_APPLICATIONS["certain"])
    ]
    assert assemble("ties", parts).jobs["app"].tolist() == [0, 0, 1, 1]
    turned = [replace(part, turn=np.array(turn)) for part, turn in zip(parts, ([1, 2], [0, 3]), strict=True)]
    assert assemble("ties", turned).jobs["app"].tolist() == [1, 0, 0, 1]


def test_300_jobs_take_at_most_10_ms(assistant: Application) -> None:
    part = Part(assistant.template, 2, np.arange(300), assistant.sample(300, np.random.default_rng(0)))

    def once() -> float:
        start = time.perf_counter()
        assemble("speed", [part])
        return time.perf_counter() - start

    assert min(once() for _ in range(9)) < 0.010


def _set(table: str, column: str, row: int, value: int) -> Callable[[Workload], Workload]:
    def corrupt(workload: Workload) -> Workload:
        array = getattr(workload, table).copy()
        array[column][row] = value
        return replace(workload, **{table: array})

    return corrupt


def _swap_children(workload: Workload) -> Workload:
    """Make the first edge point backwards."""
    children = workload.children.copy()
    children[0] = 0
    return replace(workload, children=children)


CORRUPTIONS: list[tuple[str, Callable[[Workload], Workload]]] = [
    ("jobs[3].arrival_ns", _set("jobs", "arrival_ns", 3, -1)),
    ("jobs[5].arrival_ns", _set("jobs", "arrival_ns", 4, 10**12)),
    ("jobs[2].app", _set("jobs", "app", 2, 3)),
    ("jobs[2].n_stages", _set("jobs", "n_stages", 2, 0)),
    ("jobs[2].first_stage", _set("jobs", "first_stage", 2, 1)),
    ("stages[0].job", _set("stages", "job", 0, 1)),
    ("stages[1].node", _set("stages", "node", 1, 99)),
    ("stages[1].kind", _set("stages", "kind", 1, 2)),
    ("stages[1].present", _set("stages", "present", 1, 2)),
    ("stages[1].revealer", _set("stages", "revealer", 1, 1)),
    ("stages[0].n_tasks", _set("stages", "n_tasks", 0, 0)),
    ("stages[1].n_parents", _set("stages", "n_parents", 1, 7)),
    ("child list[0]", _swap_children),
    ("tasks[0].stage", _set("tasks", "stage", 0, 1)),
    ("tasks[0].model", _set("tasks", "model", 0, 1)),
    ("tasks[0].prompt_tokens", _set("tasks", "prompt_tokens", 0, 0)),
    ("tasks[0].output_tokens", _set("tasks", "output_tokens", 0, 0)),
    ("tasks[0].duration_ns", _set("tasks", "duration_ns", 0, 1)),
    ("tasks[0].output_bytes", _set("tasks", "output_bytes", 0, -1)),
    ("tasks[0].app_prefix", _set("tasks", "app_prefix", 0, 2)),
    ("tasks[0].job_prefix", _set("tasks", "job_prefix", 0, 1)),
    ("tasks[0].job_prefix_tokens", _set("tasks", "job_prefix_tokens", 0, 9999)),
]


@pytest.mark.parametrize(("field", "corrupt"), CORRUPTIONS, ids=[field for field, _ in CORRUPTIONS])
def test_validation_names_the_first_broken_row(
    assistant: Application, field: str, corrupt: Callable[[Workload], Workload]
) -> None:
    workload, _ = make(assistant)
    with pytest.raises(InputError) as caught:
        validate_workload(corrupt(workload), "there")
    assert str(caught.value).startswith(f"there: {field}")


def test_validation_refuses_bad_history(assistant: Application) -> None:
    workload, _ = make(assistant)
    history: list[Any] = [table.copy() for table in workload.history]
    history[1]["seconds"][2] = np.nan
    with pytest.raises(InputError, match=r"history of assistant, row 2, seconds"):
        validate_workload(replace(workload, history=tuple(history)))
    with pytest.raises(InputError, match="one per application"):
        validate_workload(replace(workload, history=()))
