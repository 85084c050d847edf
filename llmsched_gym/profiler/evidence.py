"""What has been revealed of a job, as evidence for its application's network.

Evidence is one bit mask per variable of the states that are still possible. A finished stage leaves the bin of its
batch-1 work, a skipped one "absent", a plan its size and how often it holds each candidate. A stage that runs leaves
the bins that it has not outlasted: of every task, what it has received so far counts (soft evidence).

Where a plan holds a candidate several times, the times of its calls are independent and not in the network. What its
unfinished calls are expected to take still follows here, one by one: a call that runs takes what such calls take that
take that long (soft evidence, again).

Nothing here reads what has not been revealed: token counts and durations of finished tasks, prompts of started ones,
and the tokens that running ones have generated.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from llmsched_gym._jit import inlined_kernel, kernel
from llmsched_gym.cluster.state import FAR, ClusterState, Rows, StageStatus, TaskStatus
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.layout import Layout
from llmsched_gym.profiler.profile import SLICES
from llmsched_gym.workloads.template import StageKind

PATIENCE_NS: Final = 50_000_000
"""Soft evidence of a running stage may come this much late, so that it need not be looked for at every event."""

_FAR: Final = int(FAR)
_SLICES: Final = int(SLICES)
_CHECKED: Final = 5
"""A call that runs is looked at again when it has outlasted so many more slices of its calls."""

_PATIENCE_NS: Final = PATIENCE_NS
_HIDDEN: Final = int(StageStatus.HIDDEN)
_DONE: Final = int(StageStatus.DONE)
_SKIPPED: Final = int(StageStatus.SKIPPED)
_TASK_RUNNING: Final = int(TaskStatus.RUNNING)
_TASK_DONE: Final = int(TaskStatus.DONE)
_DYNAMIC: Final = int(StageKind.DYNAMIC)


EVIDENCE: Final = np.dtype(
    [
        ("settled_ns", "i8"),  # batch-1 work that its finished stages have received
        ("received_ns", "i8"),  # the same, and what unfinished ones have received
        ("calls_left_ns", "f8"),  # what unfinished calls of a candidate are still expected to take, one by one
        ("due_ns", "i8"),  # in how long one of them may have outlasted more of its slices; FAR if none
        ("times", "i4"),  # stages of the job that are known to belong to the variable
        ("unfinished", "i4"),  # how many of them are not finished
        ("running", "i4"),  # their running tasks
        ("planned", "i4"),  # for sizes of plans: the plan is known (1) or not (0)
        ("word", "u4"),  # under which it was last found in the cache
        ("mask", "u2"),  # the states that are possible
        ("left", "u2"),  # what is still to come, as `sampling.remaining` has it
        ("skipped", "?"),  # the stage is known to be skipped
    ],
    align=True,
)
"""One row per job and variable of its application, grouped by job. Beliefs depend on `mask` and `left`."""

OPEN: Final = np.dtype(
    [
        ("stage", "i4"),
        ("variable", "i2"),
        ("told", "?"),  # it is known, and no plan: what it has received is evidence
    ],
    align=True,
)
"""Unfinished stages of a job, known or to be expected, in the first rows of its stages."""


@inlined_kernel
def collect(
    state: ClusterState, layout: Layout, job: int, soft: bool, belief: Rows, evidence: Rows, listed: Rows
) -> tuple[int, bool]:
    """Bring the evidence of a job up to date, whose application has a profile.

    Args:
        state: The cluster.
        layout: Of the workload.
        job: Row of the job.
        soft: Whether what running stages have received so far counts.
        belief: The job's `beliefs.BELIEF` row.
        evidence: `EVIDENCE` rows of the workload.
        listed: `OPEN` rows of the workload, one per stage.

    Returns:
        The earliest time (ns) at which a stage that runs can have outlasted another state, FAR if none runs; and
        whether `mask` or `left` of any variable is another one than before.
    """
    owner = state.jobs[job]
    first = wide(layout.first_variable[layout.apps[owner.app]])
    at = belief.first_evidence
    # What is known of other stages than those that run changes only when one is finished or skipped.
    anew = belief.open_stages != owner.open_stages
    n = wide(layout.first_variable[layout.apps[owner.app] + 1]) - first
    if anew:
        _read_stages(state, layout, job, belief, at, n, evidence, listed)
        _read_plans(state, layout, job, at, evidence)
    _read_work(state, layout, job, soft, belief, at, evidence, listed)
    due_ns, changed = _FAR, False
    if anew:
        for v in range(n):
            own_due_ns, differs = _judge(layout, first + v, evidence[at + v], soft)
            due_ns = min(due_ns, own_due_ns)
            changed |= differs
    else:
        for k in range(owner.first_stage, owner.first_stage + belief.listed):
            v = wide(listed[k].variable)
            if listed[k].told and (state.stages[listed[k].stage].started_tasks > 0 or evidence[at + v].times > 1):
                own_due_ns, differs = _judge(layout, first + v, evidence[at + v], soft)
                due_ns = min(due_ns, own_due_ns)
                changed |= differs
    if due_ns == _FAR:
        return _FAR, changed
    return state.clock[0].now_ns + max(due_ns, _PATIENCE_NS), changed


@inlined_kernel
def _read_stages(
    state: ClusterState, layout: Layout, job: int, belief: Rows, at: int, n: int, evidence: Rows, listed: Rows
) -> None:
    """List the open stages of a job, and count those that are known and what finished ones received, by variable."""
    for v in range(n):
        row = evidence[at + v]
        row.settled_ns = 0
        row.received_ns = 0
        row.calls_left_ns = 0.0
        row.due_ns = _FAR
        row.times = 0
        row.unfinished = 0
        row.running = 0
        row.planned = 0
        row.skipped = False
    owner = state.jobs[job]
    end = owner.first_stage
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        stage = state.stages[s]
        node = layout.first_node[owner.app] + stage.node
        v = layout.variable[node]
        told = stage.status != _HIDDEN and stage.kind != _DYNAMIC
        if stage.status < _DONE and (stage.status != _HIDDEN or stage.planned == 0):
            listed[end].stage = s
            listed[end].variable = v
            listed[end].told = told
            end += 1
        if not told:
            continue
        row = evidence[at + v]
        if stage.status == _SKIPPED:
            row.skipped = True
            continue
        if layout.plan[node] >= 0:
            evidence[at + layout.plan[node]].planned = 1
            evidence[at + layout.plan[node]].times += 1
        row.times += 1
        if stage.status != _DONE:
            row.unfinished += 1
            continue
        # Rows of tasks that ended long ago are far from the processor, so those of finished stages are not read.
        for task in range(stage.first_task, stage.first_task + stage.started_tasks):
            row.settled_ns += layout.work_ns[task]
        row.received_ns = row.settled_ns
    belief.listed = end - owner.first_stage


@inlined_kernel
def _read_plans(state: ClusterState, layout: Layout, job: int, at: int, evidence: Rows) -> None:
    """Note empty plans, plans that will not be made, and the candidates that a plan leaves out."""
    owner = state.jobs[job]
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        stage = state.stages[s]
        if stage.kind == _DYNAMIC:
            size = layout.variable[layout.first_node[owner.app] + stage.node]
            if stage.status == _DONE:
                evidence[at + size].planned = 1
            elif stage.status == _SKIPPED:
                evidence[at + size].skipped = True
    for node in range(layout.first_node[owner.app], layout.first_node[owner.app + 1]):
        size = layout.plan[node]
        if size >= 0 and (evidence[at + size].planned == 1 or evidence[at + size].skipped):
            row = evidence[at + layout.variable[node]]
            row.skipped = row.times == 0


@inlined_kernel
def _read_work(
    state: ClusterState, layout: Layout, job: int, soft: bool, belief: Rows, at: int, evidence: Rows, listed: Rows
) -> None:
    """Sum up what the open stages of a job have received, by variable."""
    owner = state.jobs[job]
    first, end = owner.first_stage, owner.first_stage + belief.listed
    for k in range(first, end):
        if listed[k].told:
            row = evidence[at + listed[k].variable]
            row.received_ns = row.settled_ns
            row.calls_left_ns = 0.0
            row.due_ns = _FAR
            row.running = 0
    for k in range(first, end):
        if not listed[k].told:
            continue
        stage = state.stages[listed[k].stage]
        planned = layout.plan[layout.first_node[owner.app] + stage.node] >= 0
        if stage.started_tasks == 0 and not planned:
            continue
        row = evidence[at + listed[k].variable]
        had_ns, running = 0, 0
        for task in range(stage.first_task, stage.first_task + stage.started_tasks):
            if state.tasks[task].status == _TASK_DONE:
                had_ns += layout.work_ns[task]
            elif state.tasks[task].status == _TASK_RUNNING:
                had_ns += received_ns(state, layout, owner.app, task)
                running += 1
        row.received_ns += had_ns
        row.running += running
        if planned:
            v = wide(layout.first_variable[layout.apps[owner.app]] + listed[k].variable)
            row.calls_left_ns += _call_left_ns(layout, v, had_ns, soft)
            if soft and running > 0:
                row.due_ns = min(row.due_ns, _call_due_ns(layout, v, had_ns) // running)


@kernel
def _judge(layout: Layout, v: int, row: Rows, soft: bool) -> tuple[int, bool]:
    """Find the states of a variable of the bank that are possible, and what of it is still to come.

    Returns:
        In how long (ns) it can have outlasted another state, FAR if it does not run; and whether anything differs.
    """
    everything = (1 << layout.states[v]) - 1
    present = everything - 1 if layout.absent[v] else everything
    mask, left, due_ns = everything, 1, _FAR
    if layout.kinds[v] == _DYNAMIC:
        if row.planned > 0 or row.skipped:
            left = 0
            mask = everything - present  # "absent", or nothing that this network can explain
            if row.times > 0:
                mask = 1 << _bin(layout, v, wide(row.times))
    elif row.skipped:
        mask, left = everything - present, 0
    elif row.times > 1 and present != layout.once[v]:
        mask = 1 << _repeated(layout, v, wide(row.times))
        left = 1 + row.unfinished if row.unfinished > 0 else 0
        due_ns = row.due_ns
    elif row.times > 0:
        if row.unfinished == 0:
            mask, left = 1 << _bin(layout, v, row.received_ns), 0
        else:
            mask = wide(layout.once[v])
            if soft:
                lowest = _bin(layout, v, row.received_ns)
                mask &= ~((1 << lowest) - 1)
                if row.running > 0 and layout.ends[v, lowest] != _FAR:
                    due_ns = (layout.ends[v, lowest] - row.received_ns) // row.running
    differs = row.mask != mask or row.left != left
    row.mask = mask
    row.left = left
    return due_ns, differs


@kernel
def received_ns(state: ClusterState, layout: Layout, app: int, task: int) -> int:
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
def _call_left_ns(layout: Layout, v: int, received_ns: int, soft: bool) -> float:
    """What a call that has received so much is still expected to take; without `soft`, as if that told nothing."""
    total, longer = 0.0, 0
    for k in range(_SLICES):
        if not soft or layout.calls_ns[v, k] > received_ns:
            total += layout.calls_ns[v, k]
            longer += 1
    return max(total / max(longer, 1) - received_ns, 0.0)


@kernel
def _call_due_ns(layout: Layout, v: int, received_ns: int) -> int:
    """How much more a call must receive to outlast the next `_CHECKED` slices; FAR beyond the last ones."""
    for k in range(_CHECKED, _SLICES, _CHECKED):
        if layout.calls_ns[v, k] > received_ns:
            return int(layout.calls_ns[v, k]) - received_ns
    return _FAR


@kernel
def _repeated(layout: Layout, v: int, times: int) -> int:
    """Return the state of a candidate that the plan holds so many times, two or more."""
    state = layout.states[v] - 1
    while layout.repeats[v, state] > times:
        state -= 1
    return state


@kernel
def _bin(layout: Layout, v: int, value: Any) -> int:
    """Return the state, not "absent", that a value belongs to."""
    state = 1 if layout.absent[v] else 0
    while value >= layout.ends[v, state]:
        state += 1
    return state
