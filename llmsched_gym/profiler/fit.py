"""Fits the profile of an application to finished jobs: variables, structure, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.latency import LatencyProfile, load_profile
from llmsched_gym.errors import InputError, Plain, RunError, suggest
from llmsched_gym.extras import install_hint, is_installed
from llmsched_gym.numbers import real_number, whole_number
from llmsched_gym.profiler.profile import Profile, Variable
from llmsched_gym.profiler.structure import (
    MAX_PARENTS,
    SCORE_SAMPLE_SIZE,
    PresenceEdge,
    data_frame,
    presence_edges,
    search_parents,
)
from llmsched_gym.profiler.variables import ABSENT, MAX_BINS, Observations, make_variables, observe, to_states
from llmsched_gym.workloads.applications import drawable, suggest_application
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.template import ApplicationTemplate
from llmsched_gym.workloads.workload import Workload

BINS: Final = 6
"""Bins of a variable unless told otherwise; a common guess at LLMSched's number, which is not public."""

JOBS: Final = 10_000
"""Profiling jobs of an application unless told otherwise: tool times are heavy-tailed, and their means need many."""

FEW_JOBS: Final = 300
"""Fewer make a doubtful profile: mean times of the benchmark's applications were up to 6 % off with 300 jobs (one draw
of each), and up to a third with 100."""

SEARCHED_JOBS: Final = 2000
"""About how many of them the structure is searched on. More find more edges, so weak that on held-out jobs they hardly
count, and inference pays for each."""

LATENCY: Final = "llama-2-7b-h100"
"""Latency profile of the shipped profiles: that of the scenarios' clusters."""

EQUIVALENT_SAMPLE_SIZE: Final = 10
"""Weight of the Dirichlet prior of a variable's whole table, in jobs. Heavier priors predict held-out jobs a little
better (``benchmarks/profile_prior.py``), but blur what determines each other: they cost mutual information."""

_DIGITS: Final = 12
"""Digits of probabilities that are kept, so that files stay small."""


def profiling_jobs(
    application: str, jobs: int = JOBS, seed: int = 0, applications: Mapping[str, Application] | None = None
) -> Workload:
    """Draw jobs of one application from the ``profile`` split, which no evaluation or training job can come from.

    Args:
        application: Name of the application.
        jobs: Number of jobs.
        seed: Seed of the split.
        applications: Applications that there are; default: all whose jobs scenarios can draw.

    Raises:
        InputError: The application is unknown, or `jobs` or `seed` is out of range.
    """
    known = drawable() if applications is None else applications
    if application not in known:
        raise InputError("profile", "application", application, suggest_application(application, known))
    mix = {application: 1.0}
    return generate(application, mix, Poisson(), 1.0, jobs, "profile", seed, applications=known)


def fit_profile(
    application: str,
    workloads: Sequence[Workload] = (),
    *,
    bins: int = BINS,
    jobs: int = JOBS,
    seed: int = 0,
    latency: LatencyProfile | str = LATENCY,
    equivalent_sample_size: int = EQUIVALENT_SAMPLE_SIZE,
    score_sample_size: int = SCORE_SAMPLE_SIZE,
) -> Profile:
    """Fit the profile of an application with pgmpy.

    Each row of a table has a Dirichlet prior of `equivalent_sample_size` / rows jobs. They are distributed as all jobs
    that agree with the row on whether the forced parent is there: an even prior would make rare stages frequent. States
    that the rules of presence forbid have probability 0.

    Args:
        application: Name of the application.
        workloads: Finished jobs, of this application among others. Default: `jobs` jobs drawn with `seed` from the
            ``profile`` split of the benchmark's own application.
        bins: Most bins per variable, 1 to `MAX_BINS`.
        jobs: Number of jobs to draw.
        seed: Seed to draw them with.
        latency: Latency profile, or its name or file.
        equivalent_sample_size: Weight of the prior of a whole table, in jobs, >= 1.
        score_sample_size: The same in the score of the structure search; heavier finds more edges.

    Raises:
        InputError: An argument is out of range, or the workloads hold no job of the application or disagree about it.
        RunError: pgmpy is not installed.
    """
    if whole_number(bins) is None or not 1 <= bins <= MAX_BINS:
        raise InputError("profile", "bins", bins, f"a whole number from 1 to {MAX_BINS}")
    for name, weight in (("equivalent_sample_size", equivalent_sample_size), ("score_sample_size", score_sample_size)):
        if not (real_number(weight) or 0.0) >= 1.0:
            raise InputError("profile", name, weight, "a number of jobs >= 1")
    clock = latency if isinstance(latency, LatencyProfile) else load_profile(latency)
    if not is_installed("pgmpy"):
        raise RunError(f"profiles are fitted with pgmpy: {install_hint('profile')}")
    past = workloads or (profiling_jobs(application, jobs, seed),)
    template, observed = _observe_all(application, past, clock)
    variables = make_variables(template, observed, bins)
    states = to_states(variables, observed)
    cards = [variable.states for variable in variables]
    forced = presence_edges(template, observed.values != ABSENT)
    parents = search_parents(states[:: max(len(states) // SEARCHED_JOBS, 1)], cards, forced, score_sample_size)
    profile = Profile(
        application=application,
        nodes=tuple(node.name for node in template.nodes),
        variables=variables,
        parents=parents,
        tables=_tables(states, variables, parents, forced, equivalent_sample_size),
        latency=LatencyProfile.from_ms(clock.name, clock.coefficients_ms),
    )
    provenance = _provenance(profile, states, workloads, (jobs, seed))
    provenance |= {"bins": bins, "equivalent_sample_size": equivalent_sample_size}
    return replace(profile, provenance=provenance | {"score_sample_size": score_sample_size})


def doubts(profile: Profile) -> list[str]:
    """Return what makes a profile doubtful, judged by the number of jobs that it was fitted to."""
    jobs = profile.provenance.get("jobs")
    if not isinstance(jobs, int):
        return []
    found = []
    if jobs < FEW_JOBS:
        found.append(f"{jobs} finished jobs are few: with less than {FEW_JOBS}, mean times may be far off")
    probabilities = sum(table.size for table in profile.tables)
    if found and probabilities > jobs:
        found.append(f"{probabilities} probabilities are more than the jobs tell")
    return found


def log_loss(profile: Profile, states: NDArray[np.int64]) -> float:
    """Return the mean of −log P(job) in nats, in which jobs of probability 0 count as 1e-300.

    Args:
        profile: The network.
        states: int64 (jobs, variables).
    """
    total = 0.0
    for column, (family, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        likelihood = table[tuple(states[:, variable] for variable in (*family, column))]
        total -= float(np.mean(np.log(np.maximum(likelihood, 1e-300))))
    return total


def _observe_all(
    application: str, workloads: Sequence[Workload], latency: LatencyProfile
) -> tuple[ApplicationTemplate, Observations]:
    """Return the template, and what the jobs of all workloads took."""
    template: ApplicationTemplate | None = None
    parts = []
    for workload in workloads:
        apps = {one.name: app for app, one in enumerate(workload.templates)}
        if application not in apps:
            raise InputError(f"workload {workload.name}", "application", application, suggest(application, apps))
        here = workload.templates[apps[application]]
        if template is not None and template.nodes != here.nodes:
            allowed = "the same stages in every workload"
            raise InputError(f"workload {workload.name}", f"application {application}", Plain("other stages"), allowed)
        template = here
        parts.append(observe(workload, apps[application], latency))
    if template is None or not any(len(part.values) for part in parts):
        raise InputError("profile", "jobs", 0, f"workloads with at least one job of {application}")
    return template, Observations.together(parts)


def _tables(
    states: NDArray[np.int64],
    variables: Sequence[Variable],
    parents: Sequence[tuple[int, ...]],
    forced: Sequence[PresenceEdge],
    weight: int,
) -> tuple[NDArray[np.float64], ...]:
    """Estimate the conditional probabilities: per variable (states of parents..., own states)."""
    from pgmpy.models import DiscreteBayesianNetwork
    from pgmpy.parameter_estimator import DiscreteBayesianEstimator

    data = data_frame(states)
    names = list(data.columns)
    network = DiscreteBayesianNetwork()
    network.add_nodes_from(names)
    network.add_edges_from((names[one], names[child]) for child, family in enumerate(parents) for one in family)
    rules = {edge.child: edge for edge in forced}
    pseudo_counts = {}
    for child, family in enumerate(parents):
        prior = weight * _prior(states, variables, child, family, rules.get(child))
        pseudo_counts[names[child]] = prior.reshape(-1, prior.shape[-1]).T
    estimator = DiscreteBayesianEstimator(
        state_names={name: list(range(one.states)) for name, one in zip(names, variables, strict=True)},
        prior_type="dirichlet",
        pseudo_counts=pseudo_counts,
    )
    found = {cpd.variable: cpd for cpd in estimator.fit(network, data).parameters_}
    # pgmpy has the child's states first, and its parents ascending by name, which is by index here.
    return tuple(np.round(np.moveaxis(found[name].values, 0, -1), _DIGITS) for name in names)


def _prior(
    states: NDArray[np.int64],
    variables: Sequence[Variable],
    child: int,
    parents: tuple[int, ...],
    rule: PresenceEdge | None,
) -> NDArray[np.float64]:
    """Share of each entry of one table in its prior.

    A row's states are distributed as in all jobs that agree with it on whether the forced parent is there, plus one job
    per state, so that none is impossible for being new; what the rule of presence forbids is 0.
    """
    own = variables[child]
    shape = (*(variables[one].states for one in parents), own.states)
    jobs = np.ones(shape)
    if rule is None:
        jobs += np.bincount(states[:, child], minlength=own.states)
    else:
        first = int(variables[rule.parent].absent)
        with_parent = states[:, rule.parent] >= first
        by_parent = np.moveaxis(jobs, parents.index(rule.parent), 0)  # a view
        for rows, chosen in ((slice(first), ~with_parent), (slice(first, None), with_parent)):
            by_parent[rows] += np.bincount(states[chosen, child], minlength=own.states)
        if own.absent and rule.needs_parent:
            by_parent[:first, ..., 1:] = 0.0
        if own.absent and rule.follows_parent:
            by_parent[first:, ..., 0] = 0.0
    return jobs / jobs.sum(axis=-1, keepdims=True) / (jobs.size // own.states)


def _provenance(
    profile: Profile, states: NDArray[np.int64], workloads: Sequence[Workload], drawn: tuple[int, int]
) -> dict[str, Any]:
    """Return where the jobs came from (`drawn`: jobs and seed, if no workloads were given) and how well they fit.

    The log loss is that of the network on its own jobs, that of independent variables on them, and that of the network
    on jobs drawn with the next seed.
    """
    shares = [np.bincount(states[:, i], minlength=one.states) / len(states) for i, one in enumerate(profile.variables)]
    independent = -sum(float(np.sum(share * np.log(np.where(share > 0, share, 1.0)))) for share in shares)
    loss = {"network": log_loss(profile, states), "independent": independent}
    if workloads:
        source: dict[str, Any] = {"kind": "workloads", "digests": [one.digest for one in workloads]}
    else:
        jobs, seed = drawn
        source = {"kind": "generated", "split": "profile", "seed": seed}
        other = profiling_jobs(profile.application, jobs, seed + 1)
        loss["held_out"] = log_loss(profile, to_states(profile.variables, observe(other, 0, profile.latency)))
    return source | {
        "jobs": len(states),
        "structure": f"hill climbing, BDeu score, edges in the order of the template, at most {MAX_PARENTS} parents",
        "log_loss_nats_per_job": {name: round(value, 4) for name, value in loss.items()},
    }
