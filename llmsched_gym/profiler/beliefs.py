"""What the profiles say about the jobs of an episode, kept up to date as their stages finish.

A job is looked at again only when its evidence may have changed: a task finished, a stage was revealed, or a running
stage may have outlasted a bin. Evidence that was met before, by any job of this process, costs a look-up.

Where a job does not fit: an application without a profile, or with a profile of another version, is believed to take
its historical mean, without an interval and with nothing to learn. Evidence that the network holds for impossible is
relaxed step by step (`inference.condition`), down to the prior. Both are counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel
from llmsched_gym.cluster.state import ClusterState, Rows, StageStatus
from llmsched_gym.profiler.cache import EvidenceCache
from llmsched_gym.profiler.evidence import EVIDENCE, OPEN, collect
from llmsched_gym.profiler.features import (
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
    Prior,
    infer,
    infer_reduction,
    look_up,
)
from llmsched_gym.profiler.inference import condition
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.layout import Layout
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

HISTORY_DEVIATIONS: Final = 1.6448536269514722
"""Standard deviations from the historical mean to the ends of its interval, of a normal law at `features.INTERVAL`."""

BELIEF: Final = np.dtype(
    [
        ("remaining_ns", "i8"),  # expected by historical means, when this was last brought up to date
        ("check_ns", "i8"),  # when a running stage may have outlasted a bin
        ("open_stages", "i4"),  # not done, when this was last brought up to date; -1: never yet
        ("level", "i4"),  # evidence that was given up (`inference.condition`); -1: there is no profile
        ("llm_s", "f8"),  # posterior mean of the slot time to come on LLM executors, batch-1 seconds
        ("llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("regular_s", "f8"),  # on regular executors
        ("low_s", "f8"),  # quantiles of the sum of both, batch-1 seconds: ends of `features.INTERVAL`, and quartiles
        ("quartile_s", "f8"),
        ("median_s", "f8"),
        ("upper_quartile_s", "f8"),
        ("high_s", "f8"),
        ("history_llm_s", "f8"),  # LLM time in `remaining_ns`, batch-1 seconds
        ("history_llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("history_deviation_s", "f8"),  # standard deviation of the same sum without evidence and correlations
        ("first_evidence", "i4"),  # where its `EVIDENCE` rows start
        ("listed", "i4"),  # number of its `OPEN` rows
        ("slot", "i4"),  # of the cache that its evidence was last found in; -1: none
        ("cached_app", "i4"),  # number of its application there
    ],
    align=True,
)
"""One row per job."""

STAGE_BELIEF: Final = np.dtype(
    [
        ("work_s", "f8"),  # posterior mean of the slot time to come, batch-1 seconds
        ("entropy_bits", "f8"),
        # Mutual information with the rest (bits) x sum, or product, of ranges (s), as `reduction` has them. Computed
        # for stages with tasks to start: they get such tasks when another stage finishes, so that their job is stale.
        ("reduction_sum", "f8"),
        ("reduction_product", "f8"),
        ("history_reduction", "f8"),  # reduction_sum before any evidence
    ],
    align=True,
)
"""One row per stage; valid while it is known and not finished."""


class BeliefRows(NamedTuple):
    """All that `refresh` writes.

    Attributes:
        jobs: `BELIEF` rows.
        stages: `STAGE_BELIEF` rows.
        evidence: `EVIDENCE` rows.
        listed: `OPEN` rows, one per stage.
        counts: int64 (3,). Jobs without a profile, updates, updates with evidence that the profile cannot explain.
    """

    jobs: Rows
    stages: Rows
    evidence: Rows
    listed: Rows
    counts: NDArray[np.int64]


def make_rows(layout: Layout, workload: Workload) -> BeliefRows:
    """Allocate them for a workload, of whose jobs nothing is believed yet."""
    apps = layout.apps[workload.jobs["app"]]
    ends = np.cumsum(np.where(apps >= 0, np.diff(layout.first_variable)[apps], 0))
    jobs = np.zeros(workload.n_jobs, BELIEF)
    jobs["open_stages"] = -1
    jobs["slot"] = -1
    jobs["first_evidence"][1:] = ends[:-1]
    stages = len(workload.stages)
    counts = np.zeros(3, np.int64)
    return BeliefRows(
        jobs, np.zeros(stages, STAGE_BELIEF), np.zeros(ends[-1], EVIDENCE), np.zeros(stages, OPEN), counts
    )


_READY: Final = int(StageStatus.READY)
_RUNNING: Final = int(StageStatus.RUNNING)
_DYNAMIC: Final = int(StageKind.DYNAMIC)
_LLM: Final = int(StageKind.LLM)


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
def any_stale(state: ClusterState, jobs: Rows) -> bool:
    """Tell whether that holds for any job in the system; there is nothing to bring up to date without a profiler."""
    if len(jobs) == 0:
        return False
    stale = False
    for i in range(state.clock[0].active):
        stale |= is_stale(state, jobs, state.active[i])
    return stale


@inlined_kernel
def refresh(state: ClusterState, inference: Inference, layout: Layout, soft: bool, rows: BeliefRows) -> None:
    """Bring the beliefs of all jobs in the system up to date.

    Args:
        state: The cluster.
        inference: Profiles.
        layout: Of the workload; ``layout.tokens`` is up to date.
        soft: Whether running stages are evidence.
        rows: Written.
    """
    bank, cache = inference.bank, inference.cache
    for i in range(state.clock[0].active):
        job = state.active[i]
        if not is_stale(state, rows.jobs, job):
            continue
        app = wide(layout.apps[state.jobs[job].app])
        if app < 0:
            _expect_history(state, job, rows)
            continue
        belief = rows.jobs[job]
        check_ns, changed = collect(state, layout, job, soft, belief, rows.evidence, rows.listed)
        n: int = bank.first_variable[app + 1] - bank.first_variable[app]
        key = inference.key[: 2 * n]
        slot, calibrated = -1, False
        if not changed:
            slot = _recall(cache, belief, rows.evidence, n)
        if slot < 0:
            _write_key(rows.evidence, wide(belief.first_evidence), key)
            slot = look_up(inference, app, key)
            calibrated = slot < 0
            if calibrated:
                slot = infer(inference, app, key)
            _remember(cache, slot, belief, rows.evidence, n)
        values = cache.values[slot]
        v = _missing(state, job, belief, rows.listed, values)
        if v >= 0 and not calibrated:
            _write_key(rows.evidence, wide(belief.first_evidence), key)
            condition(bank, app, key[:n], inference.work)
        while v >= 0:
            infer_reduction(inference, app, v, values)
            v = _missing(state, job, belief, rows.listed, values)
        _believe(state, layout, inference.prior, values, job, rows)
        belief.check_ns = check_ns


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
def _expect_history(state: ClusterState, job: int, rows: BeliefRows) -> None:
    """Believe the historical mean."""
    row, belief = state.jobs[job], rows.jobs[job]
    if belief.open_stages < 0:
        rows.counts[0] += 1
    _mark(state, job, rows.jobs)
    belief.level = -1
    belief.check_ns = np.iinfo(np.int64).max
    seconds = row.remaining_ns * 1e-9
    belief.regular_s = seconds
    belief.low_s = seconds
    belief.quartile_s = seconds
    belief.median_s = seconds
    belief.upper_quartile_s = seconds
    belief.high_s = seconds
    for s in range(row.first_stage, row.first_stage + row.n_stages):
        rows.stages[s].work_s = state.stages[s].work_ns * 1e-9


@kernel
def _mark(state: ClusterState, job: int, jobs: Rows) -> None:
    """Remember for which state of the job its belief holds."""
    jobs[job].remaining_ns = state.jobs[job].remaining_ns
    jobs[job].open_stages = state.jobs[job].open_stages


@inlined_kernel
def _believe(
    state: ClusterState, layout: Layout, prior: Prior, values: NDArray[np.float64], job: int, rows: BeliefRows
) -> None:
    """Write the belief of one job, from the features of its evidence."""
    belief, evidence = rows.jobs[job], rows.evidence
    _mark(state, job, rows.jobs)
    owner = state.jobs[job]
    app = wide(layout.apps[owner.app])
    first, at = int(layout.first_variable[app]), belief.first_evidence
    n: int = layout.first_variable[app + 1] - first
    belief.level = int(values[LEVEL])
    rows.counts[1] += 1
    rows.counts[2] += belief.level > 0
    llm_s, regular_s, received_s, variance = 0.0, 0.0, 0.0, 0.0
    for v in range(n):
        row = evidence[at + v]
        if row.left == 0 or layout.kinds[first + v] == _DYNAMIC:
            continue
        mean_s = values[JOB_NUMBERS + v * VARIABLE_NUMBERS + MEAN]
        had_s = _had_s(row, mean_s)
        received_s += had_s
        left_s = max(mean_s - had_s, 0.0)
        if layout.kinds[first + v] == _LLM:
            llm_s += left_s
        else:
            regular_s += left_s
        variance += row.unfinished * prior.variance_once[first + v] if row.times > 0 else prior.variance[first + v]
    latency = layout.latency_ps[owner.app]
    belief.llm_s = llm_s
    belief.llm_iterations = llm_s * 1e12 / max(latency[0] + latency[1], 1)
    belief.regular_s = regular_s
    belief.low_s = max(values[LOW] - received_s, 0.0)
    belief.quartile_s = max(values[QUARTILE] - received_s, 0.0)
    belief.median_s = max(values[MEDIAN] - received_s, 0.0)
    belief.upper_quartile_s = max(values[UPPER_QUARTILE] - received_s, 0.0)
    belief.high_s = max(values[HIGH] - received_s, 0.0)
    belief.history_deviation_s = np.sqrt(variance)
    history_llm_s = 0.0
    for k in range(owner.first_stage, owner.first_stage + belief.listed):
        s, v = wide(rows.listed[k].stage), wide(rows.listed[k].variable)
        stage, told = state.stages[s], rows.stages[s]
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
    belief.history_llm_iterations = history_llm_s * 1e12 / max(latency[0] + latency[1], 1)


@kernel
def _had_s(row: Rows, mean_s: float) -> float:
    """What the unfinished stages of a variable have had of their mean: what they received, or what calls lack of it."""
    if row.left > 1:
        return mean_s - row.calls_left_ns * 1e-9
    return row.received_ns * 1e-9


@inlined_kernel
def _missing(state: ClusterState, job: int, belief: Rows, listed: Rows, values: NDArray[np.float64]) -> int:
    """Return a variable with tasks to start whose uncertainty reduction is not known; -1 if there is none."""
    first = state.jobs[job].first_stage
    for k in range(first, first + belief.listed):
        stage = state.stages[listed[k].stage]
        if stage.status in (_READY, _RUNNING) and stage.started_tasks < stage.n_tasks:
            v = wide(listed[k].variable)
            if np.isnan(values[JOB_NUMBERS + v * VARIABLE_NUMBERS + SUM]):
                return v
    return -1
