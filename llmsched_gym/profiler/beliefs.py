"""What the profiles say about the jobs of an episode, kept up to date as their stages finish.

A job is looked at again only when its evidence may have changed: a task finished, a stage was revealed, or a running
stage may have outlasted a bin. Evidence that was met before, by any job of this process, costs a look-up.

Where a job does not fit: an application without a profile, or with a profile of another version, is believed to take
its historical mean, without an interval and with nothing to learn. Evidence that the network holds for impossible is
relaxed step by step (`inference.condition`), down to the prior. Both are counted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import ClusterState, Rows, StageStatus
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.cache import EvidenceCache
from llmsched_gym.profiler.evidence import collect
from llmsched_gym.profiler.features import (
    ATOM,
    ATOMS,
    ENTROPY,
    HIGH,
    JOB_NUMBERS,
    LEVEL,
    LOW,
    MEAN,
    MEDIAN,
    PRODUCT,
    QUARTILE,
    SUM,
    UPPER_QUARTILE,
    VARIABLE_NUMBERS,
    Inference,
    infer,
    infer_reduction,
    look_up,
)
from llmsched_gym.profiler.gittins import gittins_index
from llmsched_gym.profiler.inference import condition
from llmsched_gym.profiler.integers import wide
from llmsched_gym.workloads.template import StageKind

HISTORY_DEVIATIONS: Final = 1.6448536269514722
"""Standard deviations from the historical mean to the ends of its interval, of a normal law at `features.INTERVAL`."""


@kernel
def is_stale(state: ClusterState, jobs: Rows, job: int) -> bool:
    """Tell whether the evidence of a job may have changed since its belief was written."""
    row, belief = state.jobs[job], jobs[job]
    return (
        belief.open_stages != row.open_stages
        or belief.remaining_ns != row.remaining_ns
        or belief.check_ns <= state.clock[0].now_ns
    )


@kernel
def refresh(state: ClusterState, inference: Inference, beliefs: Beliefs, soft: bool) -> None:
    """Bring the beliefs of all jobs in the system up to date.

    Args:
        state: The cluster.
        inference: Profiles.
        beliefs: Written; ``beliefs.layout.tokens`` is up to date.
        soft: Whether running stages are evidence.
    """
    bank, cache, evidence = inference.bank, inference.cache, beliefs.evidence
    for i in range(state.clock[0].active):
        job = state.active[i]
        if not is_stale(state, beliefs.jobs, job):
            continue
        app = wide(beliefs.layout.apps[state.jobs[job].app])
        if app < 0:
            _expect_history(state, beliefs, job)
            continue
        belief = beliefs.jobs[job]
        check_ns, changed = collect(state, inference.states, beliefs, job, soft)
        n: int = bank.first_variable[app + 1] - bank.first_variable[app]
        key = inference.key[: 2 * n]
        slot, calibrated = -1, False
        if not changed:
            slot = _recall(cache, belief, evidence, n)
        if slot < 0:
            _write_key(evidence, wide(belief.first_evidence), key)
            slot = look_up(inference, app, key)
            calibrated = slot < 0
            if calibrated:
                slot = infer(inference, app, key)
            _remember(cache, slot, belief, evidence, n)
        values = cache.values[slot]
        v = _missing(state, beliefs, job, values)
        if v >= 0 and not calibrated:
            _write_key(evidence, wide(belief.first_evidence), key)
            condition(bank, app, key[:n], inference.work)
        while v >= 0:
            infer_reduction(inference, app, v, values)
            v = _missing(state, beliefs, job, values)
        _believe(state, inference, beliefs, job, values)
        belief.check_ns = check_ns


@kernel
def refresh_beliefs(state: ClusterState, inference: Inference, beliefs: Beliefs, soft: bool) -> None:
    """Do as `refresh` does, called from Python."""
    refresh(state, inference, beliefs, soft)


@kernel
def _write_key(evidence: Rows, first: int, key: NDArray[np.uint16]) -> None:
    """Write down the evidence of a job as inference takes it."""
    n = len(key) // 2
    for v in range(n):
        key[v] = evidence[first + v].mask
        key[n + v] = evidence[first + v].left


@kernel
def _recall(cache: EvidenceCache, belief: Rows, evidence: Rows, n: int) -> int:
    """Return the slot of a job's evidence, which is as it was when it was last looked up; -1 if it is not there now."""
    slot = belief.slot
    if slot < 0 or slot >= len(cache.apps) or cache.apps[slot] != belief.cached_app:
        return -1
    for v in range(n):
        if cache.keys[slot, v] != evidence[belief.first_evidence + v].word:
            return -1
    cache.counts[1] += 1
    return wide(slot)


@kernel
def _remember(cache: EvidenceCache, slot: int, belief: Rows, evidence: Rows, n: int) -> None:
    """Note where the evidence of a job is in the cache, and under which key."""
    belief.slot = slot
    belief.cached_app = cache.apps[slot]
    for v in range(n):
        evidence[belief.first_evidence + v].word = cache.keys[slot, v]


@kernel
def _expect_history(state: ClusterState, beliefs: Beliefs, job: int) -> None:
    """Believe the historical mean."""
    row, belief = state.jobs[job], beliefs.jobs[job]
    if belief.open_stages < 0:
        beliefs.counts[0] += 1
    _mark(state, beliefs, job)
    belief.level = -1
    belief.check_ns = np.iinfo(np.int64).max
    seconds = row.remaining_ns * 1e-9
    belief.regular_s = seconds
    belief.low_s = seconds
    belief.quartile_s = seconds
    belief.median_s = seconds
    belief.upper_quartile_s = seconds
    belief.high_s = seconds
    belief.gittins_s = seconds
    layout, tool_s = beliefs.layout, 0.0
    for s in range(row.first_stage, row.first_stage + row.n_stages):
        stage = state.stages[s]
        beliefs.stages[s].work_s = stage.work_ns * 1e-9
        tool_s += stage.work_ns * 1e-9 * (1.0 - layout.llm_share[layout.first_node[row.app] + stage.node])
    belief.tool_s = tool_s
    belief.history_tool_s = tool_s


@kernel
def _mark(state: ClusterState, beliefs: Beliefs, job: int) -> None:
    """Remember for which state of the job its belief holds."""
    beliefs.jobs[job].remaining_ns = state.jobs[job].remaining_ns
    beliefs.jobs[job].open_stages = state.jobs[job].open_stages


@kernel
def _believe(
    state: ClusterState, inference: Inference, beliefs: Beliefs, job: int, values: NDArray[np.float64]
) -> None:
    """Write the belief of one job, from the features of its evidence."""
    belief, evidence, layout = beliefs.jobs[job], beliefs.evidence, beliefs.layout
    states, prior = inference.states, inference.prior
    _mark(state, beliefs, job)
    owner = state.jobs[job]
    app = wide(layout.apps[owner.app])
    first, at = int(states.first_variable[app]), belief.first_evidence
    n: int = states.first_variable[app + 1] - first
    belief.level = int(values[LEVEL])
    beliefs.counts[1] += 1
    beliefs.counts[2] += belief.level > 0
    llm_s, regular_s, received_s, variance = 0.0, 0.0, 0.0, 0.0
    for v in range(n):
        row = evidence[at + v]
        if row.left == 0 or states.kinds[first + v] == StageKind.DYNAMIC:
            continue
        mean_s = values[JOB_NUMBERS + v * VARIABLE_NUMBERS + MEAN]
        had_s = _had_s(row, mean_s)
        received_s += had_s
        left_s = max(mean_s - had_s, 0.0)
        if states.kinds[first + v] == StageKind.LLM:
            llm_s += left_s
        else:
            regular_s += left_s
        variance += row.unfinished * prior.variance_once[first + v] if row.times > 0 else prior.variance[first + v]
    latency = layout.latency_ps[owner.app]
    belief.llm_s = llm_s
    belief.llm_iterations = llm_s * 1e12 / max(latency[0] + latency[1], 1)
    belief.regular_s = regular_s
    belief.tool_s = regular_s
    belief.low_s = max(values[LOW] - received_s, 0.0)
    belief.quartile_s = max(values[QUARTILE] - received_s, 0.0)
    belief.median_s = max(values[MEDIAN] - received_s, 0.0)
    belief.upper_quartile_s = max(values[UPPER_QUARTILE] - received_s, 0.0)
    belief.high_s = max(values[HIGH] - received_s, 0.0)
    index_s = gittins_index(values[ATOM : ATOM + ATOMS], received_s)
    belief.gittins_s = index_s if index_s < np.inf else llm_s + regular_s
    belief.history_deviation_s = np.sqrt(variance)
    history_llm_s = 0.0
    for k in range(owner.first_stage, owner.first_stage + belief.listed):
        s, v = wide(beliefs.listed[k].stage), wide(beliefs.listed[k].variable)
        stage, told = state.stages[s], beliefs.stages[s]
        history_llm_s += stage.work_ns * 1e-9 * layout.llm_share[layout.first_node[owner.app] + stage.node]
        values_at = JOB_NUMBERS + v * VARIABLE_NUMBERS
        mean_s = float(values[values_at + MEAN])
        left_s = max(mean_s - _had_s(evidence[at + v], mean_s), 0.0)
        told.work_s = left_s / max(evidence[at + v].unfinished, 1)
        told.entropy_bits = values[values_at + ENTROPY]
        computed = not np.isnan(values[values_at + SUM])
        told.reduction_sum = values[values_at + SUM] if computed else 0.0
        told.reduction_product = values[values_at + PRODUCT] if computed else 0.0
        told.history_reduction = prior.reduction[first + v]
    belief.history_llm_s = history_llm_s
    belief.history_tool_s = max(owner.remaining_ns * 1e-9 - history_llm_s, 0.0)
    belief.history_llm_iterations = history_llm_s * 1e12 / max(latency[0] + latency[1], 1)


@kernel
def _had_s(row: Rows, mean_s: float) -> float:
    """What the unfinished stages of a variable have had of their mean: what they received, or what calls lack of it."""
    if row.left > 1:
        return mean_s - row.calls_left_ns * 1e-9
    return row.received_ns * 1e-9


@kernel
def _missing(state: ClusterState, beliefs: Beliefs, job: int, values: NDArray[np.float64]) -> int:
    """Return a variable with tasks to start whose uncertainty reduction is not known; -1 if there is none."""
    first, listed = state.jobs[job].first_stage, beliefs.listed
    for k in range(first, first + beliefs.jobs[job].listed):
        stage = state.stages[listed[k].stage]
        if stage.status in (StageStatus.READY, StageStatus.RUNNING) and stage.started_tasks < stage.n_tasks:
            v = wide(listed[k].variable)
            if np.isnan(values[JOB_NUMBERS + v * VARIABLE_NUMBERS + SUM]):
                return v
    return -1
