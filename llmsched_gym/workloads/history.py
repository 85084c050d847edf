"""Historical means: what a scheduler without a profile knows of an application's stages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.workloads.applications import drawable
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.splits import stream
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import HISTORY, Workload

HISTORY_JOBS: Final = 2000
"""Jobs of the ``profile`` split behind an application's historical means."""

NOMINAL_PS: Final = (5_780_000_000, 20_200_000, 19_000_000, 176_000)
"""Iteration coefficients a, b, c, d (ps) that weigh prefill against decode in ``path_share``: Llama-2-7B on an H100,
fitted to Vidur's profile. The share is a ratio, so other hardware hardly changes it."""


def task_terms(tasks: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `llm_terms` of all tasks."""
    prefill, context = np.empty(len(tasks), np.int64), np.empty(len(tasks), np.int64)
    _fill_terms(tasks, prefill, context)
    return prefill, context


@kernel
def _fill_terms(tasks: Any, prefill: NDArray[np.int64], context: NDArray[np.int64]) -> None:
    for t in range(len(tasks)):
        prefill[t], context[t] = llm_terms(tasks[t])


@kernel
def llm_terms(task: Any) -> tuple[int, int]:
    """Return what a lone LLM task computes: prompt tokens that no prefix covers, and context summed over decodes.

    At least one prompt token is always computed. The first output token comes from the prefill, so k output tokens
    take k iterations, of which k - 1 decode, with p + 1, p + 2, … tokens of context before the step.
    """
    prompt = int(np.int64(task.prompt_tokens))
    decodes = max(int(np.int64(task.output_tokens)) - 1, 0)
    covered = max(task.app_prefix_tokens, task.job_prefix_tokens)
    prefill = max(prompt - covered, 1) if prompt > 0 else 0
    return prefill, decodes * prompt + decodes * (decodes + 1) // 2


def nominal_ns(tasks: NDArray[Any]) -> NDArray[np.int64]:
    """Duration of each task alone on an idle nominal executor (`NOMINAL_PS`), in ns."""
    prefill, context = task_terms(tasks)
    output = tasks["output_tokens"].astype(np.int64)
    a, b, c, d = NOMINAL_PS
    compute = (output * a + np.maximum(output - 1, 0) * b + prefill * c + context * d) // 1000
    return compute + tasks["duration_ns"]


def compute_history(workload: Workload, app: int) -> NDArray[Any]:
    """Average the stages of one application over its jobs in a workload.

    Sums are over integers, so the result does not depend on the order of the jobs. Stages that never ran get zeros
    and a ``path_share`` of 1. A dynamic node holds the sums over its sub-DAG, per time that it is present; its
    ``path_share`` is the sub-DAG's critical path over its total work.

    Args:
        workload: Jobs that have run; its own history is not used.
        app: Index of the application in ``workload.templates``.

    Returns:
        `HISTORY` rows, one per template node.
    """
    template, stages, tasks = workload.templates[app], workload.stages, workload.tasks
    n_nodes, n_stages = len(template.nodes), len(stages)
    in_app = workload.jobs["app"][stages["job"]] == app
    n_jobs = int(np.count_nonzero(workload.jobs["app"] == app))
    prefill, context = task_terms(tasks)
    work = nominal_ns(tasks)
    count = np.ones(len(tasks), dtype=np.int64)
    per_task = (count, prefill, tasks["output_tokens"], context, tasks["duration_ns"], work)
    sums = np.zeros((6, n_stages), dtype=np.int64)  # n_tasks, prefill, output, context, duration, nominal work
    for row, values in zip(sums, per_task, strict=True):
        np.add.at(row, tasks["stage"], values)
    longest = np.zeros(n_stages, dtype=np.int64)
    np.maximum.at(longest, tasks["stage"], work)
    _sum_plans(workload, app, sums, longest)

    ran = in_app & (stages["present"] == 1)
    node = stages["node"][ran]
    times = np.bincount(node, minlength=n_nodes)
    totals = np.zeros((7, n_nodes), dtype=np.int64)
    for row, values in zip(totals, [*sums, longest], strict=True):
        np.add.at(row, node, values[ran])
    history = np.zeros(n_nodes, dtype=HISTORY)
    history["presence"] = times / max(n_jobs, 1)
    given = np.maximum(times, 1)
    for name, total in zip(HISTORY.names[1:5], totals[:4], strict=True):  # pyright: ignore[reportOptionalSubscript]
        history[name] = total / given
    history["seconds"] = totals[4] / given / 1e9
    history["path_share"] = np.where(totals[5] > 0, totals[6] / np.maximum(totals[5], 1), 1.0)
    return history


def _sum_plans(workload: Workload, app: int, sums: NDArray[np.int64], longest: NDArray[np.int64]) -> None:
    """Add each sub-DAG's sums to its dynamic stage, and write the sub-DAG's critical path to `longest`, in place."""
    template, stages = workload.templates[app], workload.stages
    parent = np.repeat(np.arange(len(stages)), stages["n_children"])
    child = workload.children
    in_app = workload.jobs["app"][stages["job"]] == app
    for dynamic, node in enumerate(template.nodes):
        if node.kind is not StageKind.DYNAMIC:
            continue
        candidates = [i for i, other in enumerate(template.nodes) if other.candidate_of == node.name]
        inside = in_app & np.isin(stages["node"], candidates)
        holder = np.full(workload.n_jobs, -1)
        holders = np.flatnonzero(in_app & (stages["node"] == dynamic))
        holder[stages["job"][holders]] = holders
        members = np.flatnonzero(inside)
        target = holder[stages["job"][members]]
        for row in sums:
            np.add.at(row, target, row[members])

        finish = np.where(inside, longest, 0)
        edge = inside[parent] & inside[child]
        before, after = parent[edge], child[edge]
        while True:  # one round per level of the deepest sub-DAG
            later = finish.copy()
            np.maximum.at(later, after, finish[before] + longest[after])
            if np.array_equal(later, finish):
                break
            finish = later
        np.maximum.at(longest, target, finish[members])


@lru_cache(maxsize=64)
def sampled_history(application: Application) -> NDArray[Any]:
    """Historical means of an application, from `HISTORY_JOBS` jobs of the ``profile`` split (read-only)."""
    block = application.sample(HISTORY_JOBS, stream("profile", 0, f"history/{application.stream}"))
    part = Part(application.template, len(application.prefixes), np.zeros(HISTORY_JOBS, dtype=np.int64), block)
    history = compute_history(assemble("history", [part]), 0)
    history.flags.writeable = False
    return history


def application_history(name: str) -> NDArray[Any]:
    """Historical means of one of the package's applications; see `sampled_history`."""
    return sampled_history(drawable()[name])
