"""Offered load: how fast jobs may arrive before a pool of executors is busy all the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.executors import LLMExecutors
from llmsched_gym.cluster.latency import LatencyProfile, expected_ps, load_profile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.workloads.template import ANY_MODEL, ApplicationTemplate, StageKind

Part = tuple[float, ApplicationTemplate, NDArray[Any]]
"""Share of the jobs, template, and `HISTORY` rows of one application."""


def saturation_rates(cluster: ClusterSpec, parts: Sequence[Part]) -> dict[str, float]:
    """Return the arrival rates in jobs/s at which the LLM and the regular executors are busy all the time.

    An LLM executor is charged with full batches: a token costs b + a / max_num_seqs, beside its prefill and context.
    Prefixes count as cached. ``inf`` where no job needs the pool, or there is none.

    One that serves several models is charged as if all were there at once, with the work of models that it does not
    serve at the speed of their reference executors: loading, and batches that are not full, come on top.
    """
    total = sum(share for share, _, _ in parts)
    seconds = sum(share / total * _regular_seconds(template, history) for share, template, history in parts)
    llm_rate = 0.0
    for group in cluster.llm:
        profiles = _Profiles(cluster, group)
        demand = sum(
            share / total * _engine_seconds(template, history, profiles, group.max_num_seqs)
            for share, template, history in parts
        )
        llm_rate += group.count / demand if demand else np.inf
    return {
        "llm": llm_rate if cluster.llm else np.inf,
        "regular": cluster.n_regular / seconds if seconds and cluster.n_regular else np.inf,
    }


def _regular_seconds(template: ApplicationTemplate, history: NDArray[Any]) -> float:
    rows = history[[node.kind is StageKind.REGULAR for node in template.nodes]]
    return _total(rows["presence"] * rows["seconds"])


class _Profiles:
    """The latency profile by which an executor of a group is charged for each model."""

    def __init__(self, cluster: ClusterSpec, group: LLMExecutors) -> None:
        self._cluster = cluster
        self._hosts = {host.model: load_profile(host.latency) for host in group.hosts(cluster.models)}

    def of(self, model: str) -> LatencyProfile:
        """Return the profile for a model."""
        if not self._cluster.serves_several:
            return next(iter(self._hosts.values()))
        found = self._hosts.get(model) or self._cluster.reference_profile(model)
        assert found is not None
        return found


def _engine_seconds(template: ApplicationTemplate, history: NDArray[Any], profiles: _Profiles, batch: int) -> float:
    nodes = [(node, row) for node, row in zip(template.nodes, history, strict=True) if node.kind is StageKind.LLM]
    needed_ps = [
        row["presence"]
        * expected_ps(
            profiles.of(node.model or ANY_MODEL).coefficients_ps,
            row["output_tokens"],
            row["prefill_tokens"],
            row["context_tokens"],
            batch,
        )
        for node, row in nodes
    ]
    return _total(np.array(needed_ps)) * 1e-12


def _total(values: NDArray[np.float64]) -> float:
    """Sum in a fixed order: rates enter workloads, which must not depend on how a library sums."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0
