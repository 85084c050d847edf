"""What came of an episode: per-job results and totals, from the final state."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.workloads.template import StageKind

_SECONDS = 1e-9


def outcome(state: ClusterState) -> dict[str, Any]:
    """Summarise a finished episode.

    Returns:
        Per job, by arrival: ``jct_s``, ``slowdown`` (JCT over the job's own critical path at batch size 1 on an idle
        cluster), ``wait_s`` (mean over its stages of the time between ready and started), ``app``. Totals:
        ``makespan_s`` (first arrival to last completion), ``llm_utilisation`` and ``regular_utilisation`` (busy slot
        time over slots times makespan), ``preemptions``, ``prefix_hit_rate`` (prompt tokens taken from prefix
        caches), ``decisions``, ``illegal_actions``, ``hidden_candidates``, ``digest``.
    """
    clock, jobs, stages, tasks = state.clock[0], state.jobs, state.stages, state.tasks
    jct_ns = jobs["finish_ns"] - jobs["arrival_ns"]
    makespan_ns = int(jobs["finish_ns"].max() - jobs["arrival_ns"].min())
    ran = stages["start_ns"] != FAR
    waits = np.bincount(
        stages["job"][ran],
        weights=(stages["start_ns"][ran] - stages["ready_ns"][ran]).astype(np.float64),
        minlength=len(jobs),
    )
    n_ran = np.bincount(stages["job"][ran], minlength=len(jobs))
    started = tasks["start_ns"] != FAR
    prompts = int(tasks["prompt_tokens"][started].sum(dtype=np.int64))
    return {
        "jct_s": jct_ns * _SECONDS,
        "slowdown": np.maximum(jct_ns, 1) / np.maximum(jobs["ideal_ns"], 1),  # 1 for a job without any work
        "wait_s": waits / np.maximum(n_ran, 1) * _SECONDS,
        "app": jobs["app"].astype(np.int64),
        "makespan_s": makespan_ns * _SECONDS,
        "llm_utilisation": _utilisation(state, StageKind.LLM, makespan_ns),
        "regular_utilisation": _utilisation(state, StageKind.REGULAR, makespan_ns),
        "preemptions": int(tasks["restarts"].sum(dtype=np.int64)),
        "prefix_hit_rate": int(tasks["cached_tokens"].sum(dtype=np.int64)) / max(prompts, 1),
        "decisions": int(clock["decisions"]),
        "illegal_actions": int(clock["illegal_actions"]),
        "hidden_candidates": int(clock["hidden_candidates"]),
        "digest": digest(state),
    }


def digest(state: ClusterState) -> str:
    """Return the hex digest of an episode: of when and where every task was dispatched, and when it finished."""
    content = hashlib.blake2b(digest_size=16)
    for column in ("start_ns", "finish_ns", "executor"):
        content.update(np.ascontiguousarray(state.tasks[column]).tobytes())
    content.update(np.ascontiguousarray(state.jobs["finish_ns"]).tobytes())
    return content.hexdigest()


def _utilisation(state: ClusterState, kind: StageKind, makespan_ns: int) -> float:
    of_kind = state.executors[state.executors["kind"] == kind]
    capacity = int(of_kind["slots"].sum(dtype=np.int64)) * makespan_ns
    return int(of_kind["busy_ns"].sum(dtype=np.int64)) / capacity if capacity else 0.0
