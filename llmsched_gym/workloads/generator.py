"""Draws workloads: which applications, when their jobs arrive, and what the jobs turn out to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number, whole_number
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Arrivals, check_rate
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.history import sampled_history
from llmsched_gym.workloads.splits import SPLITS, check_seed, stream
from llmsched_gym.workloads.workload import Workload

__all__ = ["MAX_JOBS", "MIXES", "SPLITS", "generate"]

MIXES: Final[dict[str, dict[str, float]]] = {
    "mixed": {
        "sequence_sorting": 1.0,
        "document_merging": 1.0,
        "code_generation": 1.0,
        "web_search": 1.0,
        "task_automation": 1.0,
        "llm_compiler": 1.0,
    },
    "predefined": {"sequence_sorting": 1.0, "document_merging": 1.0},
    "chain": {"code_generation": 1.0, "web_search": 1.0},
    "planning": {"task_automation": 1.0, "llm_compiler": 1.0},
}
"""The four workloads: weights of the applications."""

MAX_JOBS: Final = 1_000_000


def generate(
    name: str,
    mix: Mapping[str, float],
    arrivals: Arrivals,
    rate_per_s: float,
    n_jobs: int,
    split: str,
    seed: int,
    *,
    applications: Mapping[str, Application] = APPLICATIONS,
) -> Workload:
    """Draw a workload.

    Arrivals, the mix and each application's jobs come from streams of their own: another arrival process leaves the
    jobs as they are, and another order of `mix` changes nothing.

    Args:
        name: Workload name.
        mix: Relative weight of each application.
        arrivals: Arrival process.
        rate_per_s: Long-run mean arrival rate, jobs per second.
        n_jobs: Number of jobs.
        split: ``train``, ``eval`` or ``profile``.
        seed: 0 to 2**63 - 1.
        applications: Applications that `mix` may name, in the order of ``Workload.templates``.

    Raises:
        InputError: An argument out of range, or an unknown application or split.
    """
    count = whole_number(n_jobs)
    if count is None or not 1 <= count <= MAX_JOBS:
        raise InputError(f"workload {name}", "n_jobs", n_jobs, f"a whole number from 1 to {MAX_JOBS}")
    weights = _weights(name, mix, applications)
    rate = check_rate(rate_per_s)
    times = arrivals.sample(count, rate, stream(split, seed, "arrivals"))
    shares = np.cumsum(list(weights.values()))
    draw = stream(split, seed, "mix").random(count) * shares[-1]
    which = np.minimum(np.searchsorted(shares, draw, side="right"), len(weights) - 1)

    parts: list[Part] = []
    for i, app in enumerate(weights):
        application = applications[app]
        turn = np.flatnonzero(which == i)
        rng = stream(split, seed, f"application/{application.draws_as or app}")
        block = application.sample(len(turn), rng) if len(turn) else None
        parts.append(Part(application.template, len(application.prefixes), times[turn], block, turn))
    provenance: dict[str, Any] = {
        "kind": "generated",
        "mix": weights,
        "arrivals": arrivals.model_dump(mode="json"),
        "rate_per_s": rate,
        "n_jobs": count,
        "split": split,
        "seed": check_seed(seed),
    }
    history = [sampled_history(applications[app]) for app in weights]
    return assemble(name, parts, history, provenance=provenance)


def _weights(name: str, mix: Mapping[str, float], applications: Mapping[str, Application]) -> dict[str, float]:
    """Check `mix` and put it in the order of `applications`."""
    source = f"workload {name}"
    for app, weight in mix.items():
        if app not in applications:
            raise InputError(source, "mix", app, suggest(app, applications))
        number = real_number(weight)
        if number is None or number <= 0.0:
            raise InputError(source, f"mix.{app}", weight, "a weight > 0")
    if not mix:
        raise InputError(source, "mix", Plain("no application"), "at least one application with a weight > 0")
    return {app: float(mix[app]) for app in applications if app in mix}
