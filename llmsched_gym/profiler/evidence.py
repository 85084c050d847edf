"""What has been revealed of a job, as evidence for its application's network.

Evidence is one bit mask per variable of the states that are still possible. A finished stage leaves the bin of its
batch-1 work, a skipped one "absent", a plan its size and its candidates. A stage that runs leaves the bins that it has
not outlasted: of every task, what it has received so far counts (soft evidence).

Nothing here reads what has not been revealed: token counts and durations of finished tasks, prompts of started ones,
and the tokens that running ones have generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.cluster.state import FAR, ClusterState, StageStatus, TaskStatus
from llmsched_gym.profiler.bank import ProfileBank
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.profile import MAX_STATES, Profile
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

PATIENCE_NS: Final = 50_000_000
"""Soft evidence of a running stage may come this much late, so that it need not be looked for at every event."""

_FAR: Final = int(FAR)
_PATIENCE_NS: Final = PATIENCE_NS
_HIDDEN: Final = int(StageStatus.HIDDEN)
_DONE: Final = int(StageStatus.DONE)
_SKIPPED: Final = int(StageStatus.SKIPPED)
_TASK_RUNNING: Final = int(TaskStatus.RUNNING)
_TASK_DONE: Final = int(TaskStatus.DONE)
_DYNAMIC: Final = int(StageKind.DYNAMIC)


class Layout(NamedTuple):
    """How a workload's jobs map to the variables of a bank; constant during an episode.

    Attributes:
        apps: int32 (applications,) Index of the application in the bank; -1 for none.
        first_node: int32 (applications + 1,) Where the nodes of an application start.
        variable: int32 (nodes,) Variable of a template node, counted within the application.
        plan: int32 (nodes,) Variable of the size of the plan that the node is a candidate of; -1 for other nodes.
        latency_ps: int64 (applications, 4) a, b, c and d of the latency profile that the network was fitted with.
        work_ns: int64 (tasks,) Batch-1 slot time of each task under that latency profile, by truth.
        ends: int64 (variables of the bank, MAX_STATES) Least value beyond a state: ns, or planned stages; FAR for the
            last state. 0 for "absent".
        tokens: int32 (tasks,) Tokens that running LLM tasks have generated; the backend's to fill.
        first_variable: As of the bank, and so the others: few arrays cross into compiled code faster than many.
        states: Number of states of each variable of the bank.
        absent: State 0 is "absent".
        kinds: `StageKind`.
    """

    apps: NDArray[np.int32]
    first_node: NDArray[np.int32]
    variable: NDArray[np.int32]
    plan: NDArray[np.int32]
    latency_ps: NDArray[np.int64]
    work_ns: NDArray[np.int64]
    ends: NDArray[np.int64]
    tokens: NDArray[np.int32]
    first_variable: NDArray[np.int32]
    states: NDArray[np.int32]
    absent: NDArray[np.bool_]
    kinds: NDArray[np.int32]


class Evidence(NamedTuple):
    """The evidence of one job; scratch, filled anew for each. One entry per variable of the application.

    Attributes:
        key: uint16 (2 * variables,) The masks, then 1 where work is still to come: what beliefs depend on.
        received_ns: int64. Batch-1 work that the unfinished stages of the variable have received.
        times: int32. Stages of the job that are known to belong to the variable.
        unfinished: int32. How many of them are not finished.
        running: int32. Their running tasks.
        skipped: bool. The stage is known to be skipped.
        planned: int32. For sizes of plans: the plan is known (1) or not (0).
    """

    key: NDArray[np.uint16]
    received_ns: NDArray[np.int64]
    times: NDArray[np.int32]
    unfinished: NDArray[np.int32]
    running: NDArray[np.int32]
    skipped: NDArray[np.bool_]
    planned: NDArray[np.int32]


def make_layout(
    workload: Workload, profiles: Mapping[int, tuple[int, Profile]], bank: ProfileBank, ends: NDArray[np.int64]
) -> Layout:
    """Map a workload to profiles.

    Args:
        workload: The jobs.
        profiles: For each application of the workload that has one: its index in the bank, and its profile.
        bank: All profiles.
        ends: From `state_ends`.
    """
    templates = workload.templates
    first_node = np.cumsum([0, *(len(template.nodes) for template in templates)])
    variable = np.full(first_node[-1], -1, np.int32)
    plan = np.full(first_node[-1], -1, np.int32)
    latency = np.zeros((len(templates), 4), np.int64)
    work_ns = np.zeros(len(workload.tasks), np.int64)
    task_app = workload.jobs["app"][workload.stages["job"][workload.tasks["stage"]]]
    for app, (_, profile) in profiles.items():
        for v, one in enumerate(profile.variables):
            variable[first_node[app] + one.node] = v
        for position, node in enumerate(templates[app].nodes):
            if node.candidate_of is not None:
                dynamic = templates[app].index[node.candidate_of]
                plan[first_node[app] + position] = variable[first_node[app] + dynamic]
        clock = profile.latency
        latency[app] = clock.iteration_ps, clock.decode_ps, clock.prefill_ps, clock.context_ps
        mine = task_app == app
        work_ns[mine] = task_work_ns(workload.tasks[mine], clock)
    return Layout(
        apps=np.array([profiles[app][0] if app in profiles else -1 for app in range(len(templates))], np.int32),
        first_node=first_node.astype(np.int32),
        variable=variable,
        plan=plan,
        latency_ps=latency,
        work_ns=work_ns,
        ends=ends,
        tokens=np.zeros(len(workload.tasks), np.int32),
        first_variable=bank.first_variable,
        states=bank.states,
        absent=bank.absent,
        kinds=bank.kinds,
    )


def state_ends(profiles: list[Profile]) -> NDArray[np.int64]:
    """Return `Layout.ends` for the profiles of a bank, in its order."""
    variables = [variable for profile in profiles for variable in profile.variables]
    ends = np.full((len(variables), MAX_STATES), FAR, np.int64)
    for row, variable in zip(ends, variables, strict=True):
        scale = 1.0 if variable.kind is StageKind.DYNAMIC else 1e9
        inner = np.ceil(variable.edges_s[1:-1] * scale).astype(np.int64)
        row[variable.absent : variable.absent + len(inner)] = inner
        row[: variable.absent] = 0
    return ends


def make_evidence(variables: int) -> Evidence:
    """Allocate the evidence of a job with up to that many variables."""
    return Evidence(
        key=np.zeros(2 * variables, np.uint16),
        received_ns=np.zeros(variables, np.int64),
        times=np.zeros(variables, np.int32),
        unfinished=np.zeros(variables, np.int32),
        running=np.zeros(variables, np.int32),
        skipped=np.zeros(variables, np.bool_),
        planned=np.zeros(variables, np.int32),
    )


@kernel
def collect(state: ClusterState, layout: Layout, job: int, soft: bool, evidence: Evidence) -> int:
    """Read the evidence of a job whose application has a profile.

    Args:
        state: The cluster.
        layout: Of the workload.
        job: Row of the job.
        soft: Whether what running stages have received so far counts.
        evidence: Filled.

    Returns:
        The earliest time (ns) at which a stage that runs can have outlasted another state; FAR if none runs.
    """
    app = state.jobs[job].app
    first = int(layout.first_variable[layout.apps[app]])
    n = layout.first_variable[layout.apps[app] + 1] - first
    for v in range(n):
        evidence.received_ns[v] = 0
        evidence.times[v] = 0
        evidence.unfinished[v] = 0
        evidence.running[v] = 0
        evidence.skipped[v] = False
        evidence.planned[v] = 0
    _read_stages(state, layout, job, evidence)
    _read_plans(state, layout, job, evidence)
    due_ns = _FAR
    for v in range(n):
        everything = (1 << layout.states[first + v]) - 1
        present = everything - 1 if layout.absent[first + v] else everything
        mask, unfinished = everything, True
        if layout.kinds[first + v] == _DYNAMIC:
            if evidence.planned[v] > 0 or evidence.skipped[v]:
                unfinished = False
                mask = everything - present  # "absent", or nothing that this network can explain
                if evidence.times[v] > 0:
                    mask = 1 << _bin(layout, first + v, wide(evidence.times[v]))
        elif evidence.skipped[v]:
            mask, unfinished = everything - present, False
        elif evidence.times[v] > 0:
            if evidence.unfinished[v] == 0:
                mask, unfinished = 1 << _bin(layout, first + v, evidence.received_ns[v]), False
            else:
                mask = present
                if soft:
                    lowest = _bin(layout, first + v, evidence.received_ns[v])
                    mask = present & ~((1 << lowest) - 1)
                    if evidence.running[v] > 0 and layout.ends[first + v, lowest] != _FAR:
                        left_ns = layout.ends[first + v, lowest] - evidence.received_ns[v]
                        due_ns = min(due_ns, left_ns // evidence.running[v])
        evidence.key[v] = mask
        evidence.key[n + v] = unfinished
    if due_ns == _FAR:
        return _FAR
    return state.clock[0].now_ns + max(due_ns, _PATIENCE_NS)


@kernel
def _read_stages(state: ClusterState, layout: Layout, job: int, evidence: Evidence) -> None:
    """Sum up what is known of the stages of a job, and what they have received, by variable."""
    owner = state.jobs[job]
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        stage = state.stages[s]
        node = layout.first_node[owner.app] + stage.node
        v = layout.variable[node]
        if stage.status == _HIDDEN or stage.kind == _DYNAMIC:
            continue
        if stage.status == _SKIPPED:
            evidence.skipped[v] = True
            continue
        if layout.plan[node] >= 0:
            evidence.planned[layout.plan[node]] = 1
            evidence.times[layout.plan[node]] += 1
        evidence.times[v] += 1
        if stage.status != _DONE:
            evidence.unfinished[v] += 1
        for task in range(stage.first_task, stage.first_task + stage.started_tasks):
            status = state.tasks[task].status
            if status == _TASK_DONE:
                evidence.received_ns[v] += layout.work_ns[task]
            elif status == _TASK_RUNNING:
                evidence.received_ns[v] += _received_ns(state, layout, owner.app, task)
                evidence.running[v] += 1


@kernel
def _read_plans(state: ClusterState, layout: Layout, job: int, evidence: Evidence) -> None:
    """Note empty plans, plans that will not be made, and the candidates that a plan leaves out."""
    owner = state.jobs[job]
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        stage = state.stages[s]
        if stage.kind == _DYNAMIC:
            size = layout.variable[layout.first_node[owner.app] + stage.node]
            if stage.status == _DONE:
                evidence.planned[size] = 1
            elif stage.status == _SKIPPED:
                evidence.skipped[size] = True
    for node in range(layout.first_node[owner.app], layout.first_node[owner.app + 1]):
        size = layout.plan[node]
        if size >= 0 and (evidence.planned[size] == 1 or evidence.skipped[size]):
            evidence.skipped[layout.variable[node]] = evidence.times[layout.variable[node]] == 0


@kernel
def _received_ns(state: ClusterState, layout: Layout, app: int, task: int) -> int:
    """Batch-1 work that a running task has received: for an LLM task that of the tokens it has generated."""
    row = state.tasks[task]
    if row.output_tokens == 0:
        return state.clock[0].now_ns - row.start_ns
    tokens = layout.tokens[task]
    if tokens == 0:
        return 0
    latency = layout.latency_ps[app]
    prompt, decodes = np.int64(row.prompt_tokens), np.int64(tokens - 1)
    prefill = max(prompt - max(row.job_prefix_tokens, row.app_prefix_tokens), 1)
    context = decodes * prompt + decodes * (decodes + 1) // 2
    return (tokens * latency[0] + decodes * latency[1] + prefill * latency[2] + context * latency[3]) // 1000


@kernel
def _bin(layout: Layout, v: int, value: Any) -> int:
    """Return the state, not "absent", that a value belongs to."""
    state = 1 if layout.absent[v] else 0
    while value >= layout.ends[v, state]:
        state += 1
    return state
