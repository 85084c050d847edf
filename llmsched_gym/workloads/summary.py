"""What a workload holds, per application, for people to read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.workload import Workload


def summarize(workload: Workload) -> list[dict[str, Any]]:
    """Describe the jobs of each application, and of all.

    Returns:
        One row per application and a last one named ``all``, with counts (``jobs``, ``stages``, ``planned_stages``,
        ``skipped_stages``, ``tasks``) and means over jobs (``stages_mean``, ``tasks_mean``, ``prompt_tokens_mean``,
        ``output_tokens_mean``, ``tool_s_mean``), the share of prompt tokens that a prefix covers
        (``prefix_share``), and ``rounds_mean``, ``rounds_max``: one more than the number of gates that let a job go on.
    """
    jobs, stages, tasks = workload.jobs, workload.stages, workload.tasks
    planned = np.concatenate([template.planned for template in workload.templates])
    first_node = np.cumsum([0, *(len(template.nodes) for template in workload.templates)])
    stage_planned = planned[first_node[jobs["app"][stages["job"]]] + stages["node"]]
    present = stages["present"] == 1
    task_job = stages["job"][tasks["stage"]]

    def per_job(owner: NDArray[np.integer], values: NDArray[np.integer | np.bool_]) -> NDArray[np.int64]:
        sums = np.zeros(len(jobs), dtype=np.int64)
        np.add.at(sums, owner, values)
        return sums

    gates = np.zeros(len(stages), dtype=np.int64)
    gates[stages["revealer"][present & ~stage_planned & (stages["revealer"] >= 0)]] = 1
    covered = np.maximum(tasks["app_prefix_tokens"], tasks["job_prefix_tokens"])
    totals = {
        "stages": per_job(stages["job"], present),
        "planned_stages": per_job(stages["job"], stage_planned),
        "skipped_stages": per_job(stages["job"], ~present),
        "tasks": per_job(task_job, np.ones(len(tasks), dtype=np.int64)),
        "prompt_tokens": per_job(task_job, tasks["prompt_tokens"]),
        "covered_tokens": per_job(task_job, covered),
        "output_tokens": per_job(task_job, tasks["output_tokens"]),
        "tool_ns": per_job(task_job, tasks["duration_ns"]),
        "rounds": per_job(stages["job"], gates) + 1,
    }
    names = [template.name for template in workload.templates]
    chosen = [*(jobs["app"] == app for app in range(len(names))), np.ones(len(jobs), dtype=np.bool_)]
    return [
        _row(name, {key: values[mask] for key, values in totals.items()})
        for name, mask in zip([*names, "all"], chosen, strict=True)
    ]


def _row(name: str, per_job: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    sums = {key: int(values.sum()) for key, values in per_job.items()}
    n_jobs = len(per_job["rounds"])
    given = max(n_jobs, 1)
    return {
        "application": name,
        "jobs": n_jobs,
        "stages": sums["stages"],
        "planned_stages": sums["planned_stages"],
        "skipped_stages": sums["skipped_stages"],
        "tasks": sums["tasks"],
        "stages_mean": sums["stages"] / given,
        "tasks_mean": sums["tasks"] / given,
        "prompt_tokens_mean": sums["prompt_tokens"] / given,
        "output_tokens_mean": sums["output_tokens"] / given,
        "prefix_share": sums["covered_tokens"] / max(sums["prompt_tokens"], 1),
        "tool_s_mean": sums["tool_ns"] / given / 1e9,
        "rounds_mean": sums["rounds"] / given,
        "rounds_max": int(per_job["rounds"].max(initial=0)),
    }
