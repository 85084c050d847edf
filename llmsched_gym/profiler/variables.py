"""The variables of an application: what its jobs took at each stage, cut into few states.

A stage has the slot time of all its tasks at batch size 1, on an executor that holds their prefixes; LLM tasks get it
from their token counts through a latency profile, so that batching does not blur it. A candidate of a plan has its time
where the plan holds it once, and the number of its occurrences where there are several: these count as independent
calls, of which a finished one tells nothing about the next. A dynamic stage has the number of stages of its plan. All
of them are absent where the job skips the stage, plans nothing, or does not plan this candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.profiler.profile import MAX_STATES, SLICES, Variable
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import Workload

MAX_BINS = MAX_STATES - 1
"""Most bins of a variable: one state is kept for "absent"."""

ABSENT = -1
"""Value of a stage that the job does not have."""

LEAST_SHARE = 0.02
"""Of the jobs with a candidate, this share makes a number of occurrences a state; rarer ones join the next lower."""

_NS = 1e-9
_DIGITS = 9
"""Decimals of seconds that are kept."""


class Observations(NamedTuple):
    """What finished jobs of one application took.

    Attributes:
        values: int64 (jobs, nodes) ns of slot time; for dynamic nodes the number of planned stages; `ABSENT` where the
            job has none.
        times: int64 (jobs, nodes) How often the job has the stage.
        calls: Per node, int64 (occurrences,) ns of slot time of each, over all jobs.
    """

    values: NDArray[np.int64]
    times: NDArray[np.int64]
    calls: tuple[NDArray[np.int64], ...]

    @classmethod
    def together(cls, parts: Sequence[Observations]) -> Observations:
        """Put the jobs of several workloads one after another."""
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.times for part in parts]),
            tuple(np.concatenate(calls) for calls in zip(*(part.calls for part in parts), strict=True)),
        )


def observe(workload: Workload, app: int, latency: LatencyProfile) -> Observations:
    """Return what each job of one application took at each template node.

    Args:
        workload: Finished jobs.
        app: Index of the application in ``workload.templates``.
        latency: Turns tokens into time.

    Returns:
        Jobs in the order of the workload.
    """
    template, stages = workload.templates[app], workload.stages
    mine = np.flatnonzero(workload.jobs["app"] == app)
    row = np.full(workload.n_jobs, -1)
    row[mine] = np.arange(len(mine))
    work = np.zeros(len(stages), dtype=np.int64)
    np.add.at(work, workload.tasks["stage"], task_work_ns(workload.tasks, latency))

    there = np.flatnonzero((stages["present"] == 1) & (row[stages["job"]] >= 0))
    job, node = row[stages["job"][there]], stages["node"][there]
    times = np.zeros((len(mine), len(template.nodes)), dtype=np.int64)
    np.add.at(times, (job, node), 1)
    values = np.zeros_like(times)
    np.add.at(values, (job, node), work[there])
    values[times == 0] = ABSENT
    for position, one in enumerate(template.nodes):
        if one.kind is StageKind.DYNAMIC:
            size = times[:, candidates(template, one)].sum(axis=1)
            values[:, position] = np.where(size > 0, size, ABSENT)
    calls = tuple(work[there[node == position]] for position in range(len(template.nodes)))
    return Observations(values, times, calls)


def candidates(template: ApplicationTemplate, dynamic: TemplateNode) -> list[int]:
    """Positions of the stages that the plan of a dynamic node may contain."""
    return [i for i, node in enumerate(template.nodes) if node.candidate_of == dynamic.name]


def optional(template: ApplicationTemplate) -> NDArray[np.bool_]:
    """Return which nodes a job may lack by its template: bool (nodes,).

    These are candidates, revealed stages, and dynamic stages whose planner is such a stage.
    """
    result = np.zeros(len(template.nodes), dtype=np.bool_)
    for position, node in enumerate(template.nodes):
        if node.kind is StageKind.DYNAMIC and node.revealed_by is not None:
            result[position] = result[template.index[node.revealed_by]]
        else:
            result[position] = node.candidate_of is not None or node.revealed_by is not None
    return result


def make_variables(template: ApplicationTemplate, observed: Observations, bins: int) -> tuple[Variable, ...]:
    """Cut the values of each node into states.

    Args:
        template: The application.
        observed: At least one job.
        bins: Most bins per variable, 1 to `MAX_BINS`. Sizes of plans get a state each, up to `MAX_BINS`; so do numbers
            of occurrences, in what the bins leave of `MAX_STATES`.
    """
    lacking = optional(template) | (observed.values == ABSENT).any(axis=0)
    return tuple(
        _variable(node, position, bool(lacking[position]), observed, bins)
        for position, node in enumerate(template.nodes)
    )


def to_states(variables: Sequence[Variable], observed: Observations) -> NDArray[np.int64]:
    """Return the states of observed values, int64 (jobs, variables).

    Args:
        variables: Variables of an application.
        observed: Of `observe`. `ABSENT` where a variable has no such state counts as its first bin.
    """
    states = np.empty((len(observed.values), len(variables)), dtype=np.int64)
    for column, variable in enumerate(variables):
        value, times = observed.values[:, variable.node], observed.times[:, variable.node]
        scale = 1.0 if variable.kind is StageKind.DYNAMIC else _NS
        single = np.searchsorted(variable.edges_s[1:-1], value * scale, side="right")
        several = len(variable.edges_s) - 2 + np.searchsorted(variable.repeats, times, side="right")
        state = np.where((times > 1) & (len(variable.repeats) > 0), several, single)
        states[:, column] = np.where(value == ABSENT, 0, state + variable.absent)
    return states


def _variable(node: TemplateNode, position: int, absent: bool, observed: Observations, bins: int) -> Variable:
    values, times = observed.values[:, position], observed.times[:, position]
    size, candidate = node.kind is StageKind.DYNAMIC, node.candidate_of is not None
    scale = 1.0 if size else _NS
    ordered = np.sort(values[(values != ABSENT) & ((times < 2) | (not candidate))])
    starts = _bin_starts(ordered, MAX_BINS if size else bins, every=size)
    inner = [(int(ordered[at - 1]) + int(ordered[at])) / 2 * scale for at in starts]
    groups = np.split(ordered, starts)
    repeats = _repeats(times, MAX_BINS - len(groups)) if candidate else np.zeros(0, np.int64)
    several = np.searchsorted(repeats, times, side="right")
    groups += [np.sort(values[several == number]) for number in range(1, len(repeats) + 1)]
    slices = np.zeros((absent + len(groups), SLICES))
    if not size:
        for state, group in enumerate(groups, start=int(absent)):
            slices[state] = _slices(group)
    return Variable(
        name=node.name,
        node=position,
        absent=absent,
        edges_s=np.array([0.0, *inner, np.inf]),
        slices_s=slices,
        kind=node.kind,
        repeats=repeats,
        calls_s=_slices(np.sort(observed.calls[position])) if candidate else np.zeros(SLICES),
    )


def _repeats(times: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Least numbers of occurrences of the states for two and more, at most `most` of them; empty if no job has two."""
    jobs = np.bincount(times[times > 0], minlength=3)
    if jobs[2:].sum() == 0 or most < 1:
        return np.zeros(0, np.int64)
    firsts, held = [], 0
    for number in range(len(jobs) - 1, 2, -1):
        held += int(jobs[number])
        if jobs[number] > 0 and held >= LEAST_SHARE * jobs.sum() and len(firsts) < most - 1:
            firsts.append(number)
            held = 0
    return np.array([2, *reversed(firsts)], dtype=np.int64)


def _slices(ordered: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means of `SLICES` equal parts of sorted ns, in seconds; all 0 if there are none."""
    if len(ordered) == 0:
        return np.zeros(SLICES)
    sums = [0, *np.cumsum(ordered).tolist()]
    cuts = [divmod(k * len(ordered), SLICES) for k in range(SLICES + 1)]
    # SLICES times the sum up to each cut: whole numbers, so that equal values give equal means.
    below = [sums[at] * SLICES + (rest * int(ordered[at]) if rest else 0) for at, rest in cuts]
    means = [(high - low) / len(ordered) * _NS for low, high in pairwise(below)]
    return np.round(np.array(means, dtype=np.float64), _DIGITS)


def _bin_starts(ordered: NDArray[np.int64], bins: int, *, every: bool) -> list[int]:
    """Positions in `ordered` where a new bin starts: where the value changes, next to its quantiles.

    With `every`, at each new value if there are few enough. Quantiles next to the same change give one bin.
    """
    changes = np.flatnonzero(np.diff(ordered)) + 1
    if len(changes) == 0 or (every and len(changes) < bins):
        return changes.tolist()
    starts = set()
    for k in range(1, bins):
        wanted = len(ordered) * k // bins
        after = min(int(np.searchsorted(changes, wanted)), len(changes) - 1)
        near = changes[max(after - 1, 0) : after + 1]
        starts.add(int(near[np.argmin(np.abs(near - wanted))]))
    return sorted(starts)
