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

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.state import FAR, ClusterState, Rows, StageStatus, TaskStatus
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.layout import Layout, StateTables
from llmsched_gym.profiler.profile import SLICES
from llmsched_gym.workloads.template import StageKind

PATIENCE_NS: Final = 50_000_000
"""Soft evidence of a running stage may come this much late, so that it need not be looked for at every event."""

_CHECKED: Final = 5
"""A call that runs is looked at again when it has outlasted so many more slices of its calls."""


@kernel
def collect(state: ClusterState, states: StateTables, beliefs: Beliefs, job: int, soft: bool) -> tuple[int, bool]:
    """Bring the evidence of a job up to date, whose application has a profile.

    Args:
        state: The cluster.
        states: Of the variables of the bank.
        beliefs: Of the episode.
        job: Row of the job.
        soft: Whether what running stages have received so far counts.

    Returns:
        The earliest time (ns) at which a stage that runs can have outlasted another state, FAR if none runs; and
        whether `mask` or `left` of any variable is another one than before.
    """
    owner, belief = state.jobs[job], beliefs.jobs[job]
    evidence, listed = beliefs.evidence, beliefs.listed
    app = wide(beliefs.layout.apps[owner.app])
    first = wide(states.first_variable[app])
    at = belief.first_evidence
    # What is known of other stages than those that run changes only when one is finished or skipped.
    anew = belief.open_stages != owner.open_stages
    n = wide(states.first_variable[app + 1]) - first
    if anew:
        _read_stages(state, beliefs, job, n)
        _read_plans(state, beliefs, job)
    _read_work(state, states, beliefs, job, soft)
    due_ns, changed = FAR, False
    if anew:
        for v in range(n):
            own_due_ns, differs = _judge(states, first + v, evidence[at + v], soft)
            due_ns = min(due_ns, own_due_ns)
            changed |= differs
    else:
        for k in range(owner.first_stage, owner.first_stage + belief.listed):
            v = wide(listed[k].variable)
            if listed[k].told and (state.stages[listed[k].stage].started_tasks > 0 or evidence[at + v].times > 1):
                own_due_ns, differs = _judge(states, first + v, evidence[at + v], soft)
                due_ns = min(due_ns, own_due_ns)
                changed |= differs
    if due_ns == FAR:
        return FAR, changed
    return state.clock[0].now_ns + max(due_ns, PATIENCE_NS), changed


@kernel
def _read_stages(state: ClusterState, beliefs: Beliefs, job: int, n: int) -> None:
    """List the open stages of a job, and count those that are known and what finished ones received, by variable."""
    layout, evidence, listed = beliefs.layout, beliefs.evidence, beliefs.listed
    at = beliefs.jobs[job].first_evidence
    for v in range(n):
        row = evidence[at + v]
        row.settled_ns = 0
        row.received_ns = 0
        row.calls_left_ns = 0.0
        row.due_ns = FAR
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
        told = stage.status != StageStatus.HIDDEN and stage.kind != StageKind.DYNAMIC
        if stage.status < StageStatus.DONE and (stage.status != StageStatus.HIDDEN or stage.planned == 0):
            listed[end].stage = s
            listed[end].variable = v
            listed[end].told = told
            end += 1
        if not told:
            continue
        row = evidence[at + v]
        if stage.status == StageStatus.SKIPPED:
            row.skipped = True
            continue
        if layout.plan[node] >= 0:
            evidence[at + layout.plan[node]].planned = 1
            evidence[at + layout.plan[node]].times += 1
        row.times += 1
        if stage.status != StageStatus.DONE:
            row.unfinished += 1
            continue
        # Rows of tasks that ended long ago are far from the processor, so those of finished stages are not read.
        for task in range(stage.first_task, stage.first_task + stage.started_tasks):
            row.settled_ns += layout.work_ns[task]
        row.received_ns = row.settled_ns
    beliefs.jobs[job].listed = end - owner.first_stage


@kernel
def _read_plans(state: ClusterState, beliefs: Beliefs, job: int) -> None:
    """Note empty plans, plans that will not be made, and the candidates that a plan leaves out."""
    layout, evidence = beliefs.layout, beliefs.evidence
    at = beliefs.jobs[job].first_evidence
    owner = state.jobs[job]
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        stage = state.stages[s]
        if stage.kind == StageKind.DYNAMIC:
            size = layout.variable[layout.first_node[owner.app] + stage.node]
            if stage.status == StageStatus.DONE:
                evidence[at + size].planned = 1
            elif stage.status == StageStatus.SKIPPED:
                evidence[at + size].skipped = True
    for node in range(layout.first_node[owner.app], layout.first_node[owner.app + 1]):
        size = layout.plan[node]
        if size >= 0 and (evidence[at + size].planned == 1 or evidence[at + size].skipped):
            row = evidence[at + layout.variable[node]]
            row.skipped = row.times == 0


@kernel
def _read_work(state: ClusterState, states: StateTables, beliefs: Beliefs, job: int, soft: bool) -> None:
    """Sum up what the open stages of a job have received, by variable."""
    layout, evidence, listed = beliefs.layout, beliefs.evidence, beliefs.listed
    owner, belief = state.jobs[job], beliefs.jobs[job]
    at = belief.first_evidence
    first, end = owner.first_stage, owner.first_stage + belief.listed
    for k in range(first, end):
        if listed[k].told:
            row = evidence[at + listed[k].variable]
            row.received_ns = row.settled_ns
            row.calls_left_ns = 0.0
            row.due_ns = FAR
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
            if state.tasks[task].status == TaskStatus.DONE:
                had_ns += layout.work_ns[task]
            elif state.tasks[task].status == TaskStatus.RUNNING:
                had_ns += received_ns(state, layout, owner.app, task)
                running += 1
        row.received_ns += had_ns
        row.running += running
        if planned:
            v = wide(states.first_variable[layout.apps[owner.app]] + listed[k].variable)
            row.calls_left_ns += _call_left_ns(states, v, had_ns, soft)
            if soft and running > 0:
                row.due_ns = min(row.due_ns, _call_due_ns(states, v, had_ns) // running)


@kernel
def _judge(states: StateTables, v: int, row: Rows, soft: bool) -> tuple[int, bool]:
    """Find the states of a variable of the bank that are possible, and what of it is still to come.

    Returns:
        In how long (ns) it can have outlasted another state, FAR if it does not run; and whether anything differs.
    """
    everything = (1 << states.counts[v]) - 1
    present = everything - 1 if states.absent[v] else everything
    mask, left, due_ns = everything, 1, FAR
    if states.kinds[v] == StageKind.DYNAMIC:
        if row.planned > 0 or row.skipped:
            left = 0
            mask = everything - present  # "absent", or nothing that this network can explain
            if row.times > 0:
                mask = 1 << _bin(states, v, wide(row.times))
    elif row.skipped:
        mask, left = everything - present, 0
    elif row.times > 1 and present != states.once[v]:
        mask = 1 << _repeated(states, v, wide(row.times))
        left = 1 + row.unfinished if row.unfinished > 0 else 0
        due_ns = row.due_ns
    elif row.times > 0:
        if row.unfinished == 0:
            mask, left = 1 << _bin(states, v, row.received_ns), 0
        else:
            mask = wide(states.once[v])
            if soft:
                lowest = _bin(states, v, row.received_ns)
                mask &= ~((1 << lowest) - 1)
                if row.running > 0 and states.ends[v, lowest] != FAR:
                    due_ns = (states.ends[v, lowest] - row.received_ns) // row.running
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
    return (decodes * latency[0] + iteration_ps(latency, decodes, prefill, context, 0)) // 1000


@kernel
def _call_left_ns(states: StateTables, v: int, received_ns: int, soft: bool) -> float:
    """What a call that has received so much is still expected to take; without `soft`, as if that told nothing."""
    total, longer = 0.0, 0
    for k in range(SLICES):
        if not soft or states.calls_ns[v, k] > received_ns:
            total += states.calls_ns[v, k]
            longer += 1
    return max(total / max(longer, 1) - received_ns, 0.0)


@kernel
def _call_due_ns(states: StateTables, v: int, received_ns: int) -> int:
    """How much more a call must receive to outlast the next `_CHECKED` slices; FAR beyond the last ones."""
    for k in range(_CHECKED, SLICES, _CHECKED):
        if states.calls_ns[v, k] > received_ns:
            return int(states.calls_ns[v, k]) - received_ns
    return FAR


@kernel
def _repeated(states: StateTables, v: int, times: int) -> int:
    """Return the state of a candidate that the plan holds so many times, two or more."""
    state = states.counts[v] - 1
    while states.repeats[v, state] > times:
        state -= 1
    return state


@kernel
def _bin(states: StateTables, v: int, value: Any) -> int:
    """Return the state, not "absent", that a value belongs to."""
    state = 1 if states.absent[v] else 0
    while value >= states.ends[v, state]:
        state += 1
    return state
