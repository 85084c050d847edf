"""What came of an episode: per-job results and totals, from the final state."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        caches), ``loads`` (dispatches that loaded or activated a model), ``load_s`` (seconds of these, over all
        executors), ``moved_bytes`` (inputs that came from another location), ``recomputed_tokens`` (prompt tokens that
        a prefix cache was asked for in vain), ``skew`` (slot time of the busiest LLM executor over that of
        the mean one), ``gpu_s`` (GPUs times the seconds in which their executor held a task), ``longest_wait_s`` (of
        a stage, ready to started), ``decisions``, ``illegal_actions``, ``hidden_candidates``, ``digest``.
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
        "loads": int((tasks["load_ns"] > 0).sum()),
        "load_s": int(tasks["load_ns"].sum()) * _SECONDS,
        "moved_bytes": int(tasks["moved_bytes"].sum()),
        "recomputed_tokens": _recomputed_tokens(tasks[started]),
        "skew": _skew(state),
        "gpu_s": _gpu_ns(state) * _SECONDS,
        "longest_wait_s": int((stages["start_ns"][ran] - stages["ready_ns"][ran]).max(initial=0)) * _SECONDS,
        "decisions": int(clock["decisions"]),
        "illegal_actions": int(clock["illegal_actions"]),
        "hidden_candidates": int(clock["hidden_candidates"]),
        "digest": digest(state),
    }


def _recomputed_tokens(tasks: NDArray[Any]) -> int:
    """Count the prompt tokens of prefixes that were computed again: those shared, less those found in a cache."""
    shared = np.minimum(np.maximum(tasks["app_prefix_tokens"], tasks["job_prefix_tokens"]), tasks["prompt_tokens"])
    return int(np.maximum(shared - tasks["cached_tokens"], 0).sum(dtype=np.int64))


def _skew(state: ClusterState) -> float:
    """Return the slot time of the busiest LLM executor over that of the mean one; 1 without any."""
    busy_ns = state.executors["busy_ns"][state.executors["kind"] == StageKind.LLM]
    return float(busy_ns.max() / busy_ns.mean()) if len(busy_ns) and busy_ns.any() else 1.0


def _gpu_ns(state: ClusterState) -> int:
    """Return how long executors held tasks, in nanoseconds, times the GPUs of each."""
    total_ns = 0
    for executor, gpus in enumerate(state.executors["gpus"]):
        if gpus > 0:
            tasks = state.tasks[state.tasks["executor"] == executor]
            tasks = tasks[np.argsort(tasks["start_ns"], kind="stable")]
            held_until_ns = np.maximum.accumulate(tasks["finish_ns"])
            idle_ns = np.maximum(tasks["start_ns"][1:] - held_until_ns[:-1], 0).sum(dtype=np.int64)
            if len(tasks):
                total_ns += int(gpus) * int(held_until_ns[-1] - tasks["start_ns"][0] - idle_ns)
    return total_ns


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
