"""Metrics of one episode: the row of the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEADLINE_FACTOR: Final = 3.0
"""A job meets its deadline if it takes at most that many times its own critical path on an idle cluster. Assumed."""


def episode_metrics(
    result: Mapping[str, Any], applications: Sequence[str], latencies_ns: NDArray[np.int64]
) -> dict[str, Any]:
    """Summarise an episode.

    Args:
        result: ``info["result"]`` of the last step.
        applications: Names by application index.
        latencies_ns: int64 (n_decisions,). Time inside the policy, per decision.

    Returns:
        Metric name → number or text; times are seconds except for the decision latencies (microseconds). Applications
        without a job in this episode have None.
    """
    jct = np.asarray(result["jct_s"], dtype=np.float64)
    app = np.asarray(result["app"])
    slowdown = np.asarray(result["slowdown"], dtype=np.float64)
    p50, p95, p99 = (float(value) for value in np.percentile(jct, [50, 95, 99]))
    decision_p50, decision_p99 = (float(value) for value in np.percentile(latencies_ns, [50, 99]) * 1e-3)
    in_time = slowdown <= DEADLINE_FACTOR
    makespan_s = float(result["makespan_s"])
    return {
        "mean_jct_s": mean(jct),
        "p50_jct_s": p50,
        "p95_jct_s": p95,
        "p99_jct_s": p99,
        "mean_slowdown": mean(slowdown),
        "jain_fairness": jain_index(slowdown),
        "makespan_s": makespan_s,
        "mean_wait_s": mean(result["wait_s"]),
        "longest_wait_s": float(result["longest_wait_s"]),
        "deadline_attainment": float(np.mean(in_time)),
        "goodput_per_h": int(in_time.sum()) * 3600.0 / max(makespan_s, 1e-9),  # no time at all: of jobs without work
        "gpu_s": float(result["gpu_s"]),
        "llm_utilisation": float(result["llm_utilisation"]),
        "regular_utilisation": float(result["regular_utilisation"]),
        "prefix_hit_rate": float(result["prefix_hit_rate"]),
        "preemptions": int(result["preemptions"]),
        "loads": int(result["loads"]),
        "load_s": float(result["load_s"]),
        "moved_bytes": int(result["moved_bytes"]),
        "recomputed_tokens": int(result["recomputed_tokens"]),
        "skew": float(result["skew"]),
        "decisions": int(result["decisions"]),
        "illegal_actions": int(result["illegal_actions"]),
        "hidden_candidates": int(result["hidden_candidates"]),
        "decision_us_mean": float(latencies_ns.mean()) * 1e-3,
        "decision_us_p50": decision_p50,
        "decision_us_p99": decision_p99,
        **{
            f"mean_jct_s_{name}": mean(jct[app == index]) if np.any(app == index) else None
            for index, name in enumerate(applications)
        },
        "episode_digest": str(result["digest"]),
    }


def jain_index(values: ArrayLike) -> float:
    """Return Jain's fairness index (Σx)² / (n Σx²): 1 if all are equal, 1/n if one has everything."""
    x = np.asarray(values, dtype=np.float64)
    squares = fsum(x * x)
    return fsum(x) ** 2 / (len(x) * squares) if squares > 0 else 1.0


def mean(values: ArrayLike) -> float:
    """Return the mean, correctly rounded, so that it is the same on every machine."""
    x = np.asarray(values, dtype=np.float64)
    return fsum(x) / len(x)
