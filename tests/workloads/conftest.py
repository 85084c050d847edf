"""A small application with everything that a template can have, for the tests of workloads."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode

ASSISTANT = ApplicationTemplate(
    "assistant",
    "planning",
    (
        TemplateNode("plan", StageKind.LLM),
        TemplateNode("tools", StageKind.DYNAMIC, ("plan",), revealed_by="plan"),
        TemplateNode("search", StageKind.REGULAR, candidate_of="tools"),
        TemplateNode("ask", StageKind.LLM, candidate_of="tools"),
        TemplateNode("join", StageKind.LLM, ("tools",)),
        TemplateNode("retry", StageKind.LLM, ("join",), revealed_by="join"),
        TemplateNode("recheck", StageKind.REGULAR, ("retry",), revealed_by="retry"),
        TemplateNode("store", StageKind.REGULAR, ("join", "recheck")),
    ),
)


def sample_assistant(n: int, rng: np.random.Generator) -> JobBlock:
    """Slots plan, tools, search, search or none, ask or none, join, retry?, recheck?, store."""
    node = np.array([0, 1, 2, 2, 3, 4, 5, 6, 7])
    slots = len(node)
    exists = np.ones((n, slots), dtype=np.bool_)
    exists[:, 3] = rng.random(n) < 0.5
    exists[:, 4] = rng.random(n) < 0.5
    present = exists.copy()
    retry = rng.random(n) < 0.3
    present[:, 6] = retry
    present[:, 7] = retry & (rng.random(n) < 0.5)
    revealer = np.full((n, slots), -1)
    revealer[:, 2:5] = 0
    revealer[:, 6] = 5
    revealer[:, 7] = np.where(retry, 6, 5)

    parents = np.zeros((n, slots, slots), dtype=np.bool_)
    parents[:, 1, 0] = True
    parents[:, 2, 1] = True
    chained = exists[:, 3] & (rng.random(n) < 0.5)  # the second search follows the first
    parents[:, 3, 2] = chained
    parents[:, 3, 1] = ~chained
    parents[:, 4, 1] = True
    parents[:, 5, 1] = True
    parents[:, 5, 2] = ~chained
    parents[:, 5, 3:5] = exists[:, 3:5]
    parents[:, 6, 5] = parents[:, 7, 6] = parents[:, 8, 5] = parents[:, 8, 7] = True

    kinds = np.array([int(one.kind) for one in ASSISTANT.nodes])[node]
    llm = kinds == StageKind.LLM
    n_tasks = np.where(kinds == StageKind.DYNAMIC, 0, rng.integers(1, 4, (n, slots)))
    prompt = np.where(llm[None, :, None], rng.integers(200, 500, (n, slots, 3)), 0)
    output = np.where(llm[None, :, None], rng.integers(1, 300, (n, slots, 3)), 0)
    duration = np.where(llm[None, :, None], 0, rng.integers(0, 3_000_000_000, (n, slots, 3)))
    shared = np.where(llm, 50, 0) * np.ones((n, 1), dtype=np.int64)
    job_prefix = np.where(np.isin(np.arange(slots), [0, 5, 6]), 0, -1) * np.ones((n, 1), dtype=np.int64)
    job_prefix[:, 4] = 3
    return JobBlock(
        exists=exists,
        node=np.broadcast_to(node, (n, slots)),
        present=present,
        revealer=revealer,
        parents=parents,
        n_tasks=n_tasks,
        prompt_tokens=prompt,
        output_tokens=output,
        duration_ns=duration,
        app_prefix=np.where(llm, np.where(node == 3, 1, 0), -1) * np.ones((n, 1), dtype=np.int64),
        app_prefix_tokens=shared,
        job_prefix=job_prefix,
        job_prefix_tokens=np.where(job_prefix >= 0, 120, 0),
        output_bytes=np.zeros_like(duration),
    )


@pytest.fixture(scope="session")
def assistant() -> Application:
    """An application with a planned sub-DAG, optional stages, several tasks, and prefixes of both kinds."""
    return Application(ASSISTANT, ("system", "question"), sample_assistant)
