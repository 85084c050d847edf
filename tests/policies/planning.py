"""Hand-made observations for policies that choose executors: models, executors and stages, written down by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Ahead, Candidate, Executor, Job, Node, Placement, Residency, System

ROWS, JOBS, NODES, SLOTS = 8, 6, 32, 8


@dataclass
class Device:
    """An LLM executor that serves models 0 to M - 1.

    Attributes:
        resident: Models that are resident; the first is active.
        running: Tasks that it holds, of the active model.
        drained_s: Seconds until it holds none.
        load_s: To load any model.
        evicts: Models that have to make room for one that is not resident.
        speed: Seconds of a task here over those of `Stage.task_s`.
    """

    resident: Sequence[int]
    running: int = 0
    drained_s: float = 0.0
    load_s: float = 5.0
    evicts: Sequence[int] = ()
    speed: float = 1.0


@dataclass
class Stage:
    """A ready LLM stage of its own job, and the models of the chain of stages after it.

    Attributes:
        model: The model that it asks for.
        tasks: Tasks to start.
        task_s: Seconds of one, alone.
        prompt: Prompt tokens, each a millisecond of prefill.
        then: Models of its descendants, child first.
        fetch_s: Seconds to fetch its inputs, by device.
        output_bytes: What it leaves for its child.
        ready_s: How long it has been ready.
        optional: Posterior presence of its descendants, which are not certain then.
        remaining_s: Posterior slot time of its job.
    """

    model: int
    tasks: int = 1
    task_s: float = 1.0
    prompt: int = 100
    then: Sequence[int] = ()
    fetch_s: Mapping[int, float] = field(default_factory=dict)
    output_bytes: float = 0.0
    ready_s: float = 0.0
    optional: float | None = None
    remaining_s: float = 10.0


def world(devices: Sequence[Device], stages: Sequence[Stage], models: int = 3, tools: int = 0) -> dict[str, Any]:
    """Return what a policy would see; with `tools`, free tool executors after the devices."""
    n_executors = len(devices) + tools
    placements = np.zeros((ROWS, n_executors, len(Placement)), np.float32)
    placements[..., Placement.MODEL] = -1
    table = np.zeros((n_executors, models, len(Residency)), np.float32)
    executors = np.zeros((n_executors, len(Executor)), np.float32)
    executors[len(devices) :, Executor.KIND] = 1
    executors[len(devices) :, Executor.SLOTS] = 1
    for e, device in enumerate(devices):
        executors[e, Executor.SLOTS] = SLOTS
        executors[e, Executor.RUNNING] = device.running
        table[e, :, Residency.SERVES] = 1
        table[e, :, Residency.LOAD_S] = device.load_s
        table[e, :, Residency.STEP_S] = 0.01 * device.speed
        table[e, :, Residency.PREFILL_S] = 0.001
        table[e, list(device.resident), Residency.RESIDENT] = 1
        table[e, list(device.resident[:1]), Residency.ACTIVE] = 1
        for i, stage in enumerate(stages):
            active, resident = stage.model in device.resident[:1], stage.model in device.resident
            legal = device.running < SLOTS and (active or device.running == 0)
            shown = placements[i, e]
            shown[Placement.LEGAL] = legal
            shown[Placement.SERVES] = 1
            shown[Placement.MODEL] = stage.model
            shown[Placement.LOAD_S] = 0.0 if resident else device.load_s
            shown[Placement.EVICT_S] = 0.0 if resident else device.load_s * len(device.evicts)
            shown[Placement.FETCH_S] = stage.fetch_s.get(e, 0.0)
            shown[Placement.TASK_S] = stage.task_s * device.speed
            shown[Placement.WAIT_S] = 0.0 if legal else device.drained_s
    candidates = np.zeros((ROWS, len(Candidate)), np.float32)
    jobs = np.zeros((JOBS, len(Job)), np.float32)
    nodes = np.zeros((NODES, len(Node)), np.float32)
    ahead = np.zeros((NODES, len(Ahead)), np.float32)
    edges: list[tuple[int, int]] = []
    row = 0
    for i, stage in enumerate(stages):
        candidates[i, [Candidate.JOB, Candidate.TASKS_WAITING]] = i, stage.tasks
        candidates[i, [Candidate.PROMPT_TOKENS, Candidate.READY_S]] = stage.prompt, stage.ready_s
        jobs[i, Job.POSTERIOR_S] = stage.remaining_s
        for k, model in enumerate((stage.model, *stage.then)):
            nodes[row, [Node.JOB, Node.NODE, Node.STATUS]] = i, k, 2 if k == 0 else 1
            nodes[row, [Node.CANDIDATE, Node.TASKS_WAITING]] = (i, stage.tasks) if k == 0 else (-1, 1)
            nodes[row, [Node.WORK_S, Node.DURATION_S, Node.POSTERIOR_WORK_S]] = 1.0
            ahead[row] = model, 100.0, stage.output_bytes
            if k > 0 and stage.optional is not None:
                nodes[row, [Node.STATUS, Node.POSTERIOR_WORK_S]] = 0, stage.optional
            if k > 0:
                edges.append((row - 1, row))
            row += 1
    system = np.zeros(len(System), np.float32)
    system[[System.JOBS, System.JOB_ROWS, System.CANDIDATES]] = len(stages)
    system[[System.NODES, System.EDGES]] = row, len(edges)
    table_of_edges = np.zeros((NODES, 2), np.int32)
    table_of_edges[: len(edges)] = np.array(edges, np.int32).reshape(-1, 2)
    mask: NDArray[np.int8] = np.zeros(ROWS * n_executors + 1, np.int8)
    mask[:-1] = placements[..., Placement.LEGAL].reshape(-1)
    mask[-1] = any(device.running for device in devices)
    return {
        "candidates": candidates,
        "jobs": jobs,
        "executors": executors,
        "system": system,
        "action_mask": mask,
        "placements": placements,
        "models": table,
        "nodes": nodes,
        "edges": table_of_edges,
        "ahead": ahead,
    }
