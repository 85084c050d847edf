"""The variables of an application: what its jobs took at each stage, cut into few states.

A static stage has the slot time of all its tasks at batch size 1, on an executor that holds their prefixes; LLM tasks
get it from their token counts through a latency profile, so that batching does not blur it. A candidate of a plan has
the total over all its occurrences in the job. A dynamic stage has the number of stages of its plan. All of them are
absent where the job skips the stage, plans nothing, or does not plan this candidate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.profiler.profile import MAX_STATES, Variable
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import Workload

MAX_BINS = MAX_STATES - 1
"""Most bins of a variable: one state is kept for "absent"."""

ABSENT = -1
"""Value of a stage that the job does not have."""

_NS = 1e-9
_LOW, _HIGH = 25, 975
"""Quantiles within a bin, in thousandths."""


def observe(workload: Workload, app: int, latency: LatencyProfile) -> NDArray[np.int64]:
    """Return what each job of one application took at each template node.

    Args:
        workload: Finished jobs.
        app: Index of the application in ``workload.templates``.
        latency: Turns tokens into time.

    Returns:
        int64 (jobs, nodes), jobs in the order of the workload: ns of slot time; for dynamic nodes the number of planned
        stages; `ABSENT` where the job has none.
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
    return values


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


def make_variables(template: ApplicationTemplate, values: NDArray[np.int64], bins: int) -> tuple[Variable, ...]:
    """Cut the values of each node into states.

    Args:
        template: The application.
        values: int64 (jobs, nodes) of `observe`, at least one job.
        bins: Most bins per variable, 1 to `MAX_BINS`. Sizes of plans get a state each, up to `MAX_BINS`.
    """
    lacking = optional(template) | (values == ABSENT).any(axis=0)
    return tuple(
        _variable(node, position, bool(lacking[position]), values[:, position], bins)
        for position, node in enumerate(template.nodes)
    )


def to_states(variables: Sequence[Variable], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the states of observed values, int64 (jobs, variables).

    Args:
        variables: Variables of an application.
        values: int64 (jobs, nodes) of `observe`. `ABSENT` where a variable has no such state counts as its first bin.
    """
    states = np.empty((len(values), len(variables)), dtype=np.int64)
    for column, variable in enumerate(variables):
        value = values[:, variable.node]
        scale = 1.0 if variable.kind is StageKind.DYNAMIC else _NS
        bin_ = np.searchsorted(variable.edges_s[1:-1], value * scale, side="right")
        states[:, column] = np.where(value == ABSENT, 0, bin_ + variable.absent)
    return states


def _variable(node: TemplateNode, position: int, absent: bool, values: NDArray[np.int64], bins: int) -> Variable:
    ordered = np.sort(values[values != ABSENT])
    size = node.kind is StageKind.DYNAMIC
    scale = 1.0 if size else _NS
    starts = _bin_starts(ordered, MAX_BINS if size else bins, every=size)
    inner = [(int(ordered[at - 1]) + int(ordered[at])) / 2 * scale for at in starts]
    groups = [group for group in np.split(ordered, starts) if len(group)] or [np.zeros(1, dtype=np.int64)]
    summary = np.zeros((3, absent + len(groups)))
    if not size:
        for state, group in enumerate(groups, start=int(absent)):
            low, high = (group[len(group) * share // 1000] for share in (_LOW, _HIGH))
            summary[:, state] = np.array([int(group.sum()) / len(group), low, high]) * scale
    return Variable(
        name=node.name,
        node=position,
        absent=absent,
        edges_s=np.array([0.0, *inner, np.inf]),
        means_s=summary[0],
        lows_s=summary[1],
        highs_s=summary[2],
        kind=node.kind,
    )


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
