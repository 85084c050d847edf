"""Offered load: how fast jobs may arrive before a pool of executors is busy all the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.latency import LatencyProfile, expected_ps, load_profile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind

Part = tuple[float, ApplicationTemplate, NDArray[Any]]
"""Share of the jobs, template, and `HISTORY` rows of one application."""


def saturation_rates(cluster: ClusterSpec, parts: Sequence[Part]) -> dict[str, float]:
    """Return the arrival rates in jobs/s at which the LLM and the regular executors are busy all the time.

    An LLM executor is charged with full batches: a token costs b + a / max_num_seqs, beside its prefill and context.
    Prefixes count as cached. ``inf`` where no job needs the pool, or there is none.
    """
    total = sum(share for share, _, _ in parts)
    seconds = sum(share / total * _regular_seconds(template, history) for share, template, history in parts)
    llm_rate = 0.0
    for group in cluster.llm:
        profile = load_profile(group.latency)
        demand = sum(
            share / total * _engine_seconds(template, history, profile, group.max_num_seqs)
            for share, template, history in parts
        )
        llm_rate += group.count / demand if demand else np.inf
    return {
        "llm": llm_rate if cluster.llm else np.inf,
        "regular": cluster.n_regular / seconds if seconds and cluster.n_regular else np.inf,
    }


def _present(template: ApplicationTemplate, kind: StageKind) -> NDArray[np.bool_]:
    return np.array([node.kind is kind for node in template.nodes])


def _regular_seconds(template: ApplicationTemplate, history: NDArray[Any]) -> float:
    rows = history[_present(template, StageKind.REGULAR)]
    return _total(rows["presence"] * rows["seconds"])


def _engine_seconds(template: ApplicationTemplate, history: NDArray[Any], profile: LatencyProfile, batch: int) -> float:
    rows = history[_present(template, StageKind.LLM)]
    terms = rows["output_tokens"], rows["prefill_tokens"], rows["context_tokens"]
    return _total(rows["presence"] * expected_ps(profile.coefficients_ps, *terms, batch)) * 1e-12


def _total(values: NDArray[np.float64]) -> float:
    """Sum in a fixed order: rates enter workloads, which must not depend on how a library sums."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0
