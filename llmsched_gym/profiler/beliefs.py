"""What the profiles say about the jobs of an episode, kept up to date as their stages finish.

A job is looked at again only when its evidence may have changed: a task finished, a stage was revealed, or a running
stage may have outlasted a bin. Evidence that was met before, by any job of this process, costs a look-up.

Where a job does not fit: an application without a profile, or with a profile of another version, is believed to take
its historical mean, without an interval and with nothing to learn. Evidence that the network holds for impossible is
relaxed step by step (`inference.condition`), down to the prior. Both are counted.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import ClusterState, Rows, StageStatus
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.cache import EvidenceCache, claim, find
from llmsched_gym.profiler.evidence import Evidence, Layout, collect
from llmsched_gym.profiler.inference import condition
from llmsched_gym.profiler.information import entropy, reduction
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.profile import MAX_STATES, SLICES
from llmsched_gym.profiler.sampling import calls_mean, remaining
from llmsched_gym.workloads.template import StageKind

INTERVAL: Final = 0.9
"""Share of the posterior between the ends of the intervals that are shown."""

HISTORY_DEVIATIONS: Final = 1.6448536269514722
"""Standard deviations between the historical mean and the ends of its interval: those of a normal law at `INTERVAL`."""

TAIL: Final = 0.05
"""Probability that the range of a stage leaves out at either end."""

TOLERANCE: Final = 1e-3
"""Stages with a smaller mean square contingency count as independent."""

ENUMERATED: Final = 512
"""Most states of a Markov blanket that mutual information is summed over; beyond, it is estimated from samples."""

BITS_PER_NAT: Final = 1.4426950408889634

BELIEF: Final = np.dtype(
    [
        ("remaining_ns", "i8"),  # expected by historical means, when this was last brought up to date
        ("check_ns", "i8"),  # when a running stage may have outlasted a bin
        ("open_stages", "i4"),  # not done, when this was last brought up to date; -1: never yet
        ("level", "i4"),  # evidence that was given up (`inference.condition`); -1: there is no profile
        ("llm_s", "f8"),  # posterior mean of the slot time to come on LLM executors, batch-1 seconds
        ("llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("regular_s", "f8"),  # on regular executors
        ("low_s", "f8"),  # quantiles of the sum of both, batch-1 seconds: ends of `INTERVAL`, and quartiles
        ("quartile_s", "f8"),
        ("median_s", "f8"),
        ("upper_quartile_s", "f8"),
        ("high_s", "f8"),
        ("history_llm_s", "f8"),  # LLM time in `remaining_ns`, batch-1 seconds
        ("history_llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("history_deviation_s", "f8"),  # standard deviation of the same sum without evidence and correlations
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

# Numbers per evidence in the cache: those of the job, then those of each variable.
_LEVEL, _LOW, _QUARTILE, _MEDIAN, _UPPER_QUARTILE, _HIGH = range(6)
JOB_NUMBERS: Final = 6
_MEAN, _ENTROPY, _SUM, _PRODUCT = range(4)
VARIABLE_NUMBERS: Final = 4

_READY: Final = int(StageStatus.READY)
_RUNNING: Final = int(StageStatus.RUNNING)
_DONE: Final = int(StageStatus.DONE)
_HIDDEN: Final = int(StageStatus.HIDDEN)
_DYNAMIC: Final = int(StageKind.DYNAMIC)
_LLM: Final = int(StageKind.LLM)
_INTERVAL: Final = float(INTERVAL)
_SLICES: Final = int(SLICES)


class Prior(NamedTuple):
    """What the profiles say before any evidence. float64, one entry per variable of the bank.

    Attributes:
        variance: Variance of the seconds that the stage takes, 0 counted where it is absent.
        variance_once: Variance of one occurrence.
        reduction: Uncertainty reduction, sum form, bit·s.
    """

    variance: NDArray[np.float64]
    variance_once: NDArray[np.float64]
    reduction: NDArray[np.float64]


class Inference(NamedTuple):
    """Everything that inference needs, shared by the episodes of a process.

    Attributes:
        bank: Profiles.
        work: Scratch of the inference.
        cache: Features by evidence.
        prior: Without evidence.
        evidence: Scratch: evidence of one job.
        unfinished: Scratch: uint16, per variable; see `sampling.remaining`.
        nothing_s: float64 zeros, per variable.
    """

    bank: ProfileBank
    work: Workspace
    cache: EvidenceCache
    prior: Prior
    evidence: Evidence
    unfinished: NDArray[np.uint16]
    nothing_s: NDArray[np.float64]


def fill_prior(inference: Inference) -> None:
    """Compute ``inference.prior``: once per process, so that the loops are not worth compiling with all they call."""
    bank, work, prior = inference.bank, inference.work, inference.prior
    for app, (first, end) in enumerate(pairwise(bank.first_variable.tolist())):
        inference.evidence.key[: end - first] = 0xFFFF
        condition(bank, app, inference.evidence.key[: end - first], work)
        for v in range(first, end):
            prior.variance[v] = _variance(bank, work, v, 0)
            prior.variance_once[v] = float(bank.calls[v].var())
            if prior.variance_once[v] == 0.0:
                prior.variance_once[v] = _variance(bank, work, v, int(bank.absent[v]))
            told, ranges, _ = reduction(bank, app, v - first, TAIL, TOLERANCE, ENUMERATED, work)
            prior.reduction[v] = told * BITS_PER_NAT * ranges


@kernel
def _variance(bank: ProfileBank, work: Workspace, v: int, lowest: int) -> float:
    """Variance over the states from `lowest` on."""
    weight, mean, square = 0.0, 0.0, 0.0
    for state in range(lowest, bank.states[v]):
        p = work.marginals[v, state]
        weight += p
        mean += p * bank.means[v, state]
        for k in range(_SLICES):
            square += p * bank.slices[v, state, k] * bank.slices[v, state, k] / _SLICES
    if weight <= 0.0:
        return 0.0
    mean /= weight
    return max(square / weight - mean * mean, 0.0)


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
    """Tell whether that holds for any job in the system."""
    stale = False
    for i in range(state.clock[0].active):
        stale |= is_stale(state, jobs, state.active[i])
    return stale


@kernel
def refresh(
    state: ClusterState, inference: Inference, layout: Layout, soft: bool, jobs: Rows, stages: Rows, counts: Rows
) -> None:
    """Bring the beliefs of all jobs in the system up to date.

    Args:
        state: The cluster.
        inference: Profiles.
        layout: Of the workload; ``layout.tokens`` is up to date.
        soft: Whether running stages are evidence.
        jobs: `BELIEF` rows.
        stages: `STAGE_BELIEF` rows.
        counts: int64 (3,). Jobs without a profile, updates, updates with evidence that the profile cannot explain.
    """
    bank, work, cache, evidence = inference.bank, inference.work, inference.cache, inference.evidence
    for i in range(state.clock[0].active):
        job = state.active[i]
        if not is_stale(state, jobs, job):
            continue
        app = wide(layout.apps[state.jobs[job].app])
        if app < 0:
            _expect_history(state, job, jobs, stages, counts)
            continue
        check_ns = collect(state, layout, job, soft, evidence)
        n: int = bank.first_variable[app + 1] - bank.first_variable[app]
        key = evidence.key[: 2 * n]
        slot = find(cache, app, key)
        calibrated = slot < 0
        if calibrated:
            level = condition(bank, app, key[:n], work)
            slot = claim(cache, app, key)
            _summarise(inference, app, n, cache.values[slot])
            cache.values[slot, _LEVEL] = level
        values = cache.values[slot]
        v = _missing(state, layout, job, values)
        if v >= 0 and not calibrated:
            condition(bank, app, key[:n], work)
        while v >= 0:
            told, ranges, product = reduction(bank, app, v, TAIL, TOLERANCE, wide(ENUMERATED), work)
            at = JOB_NUMBERS + v * VARIABLE_NUMBERS
            values[at + _SUM] = told * BITS_PER_NAT * ranges
            values[at + _PRODUCT] = told * BITS_PER_NAT * product
            v = _missing(state, layout, job, values)
        _believe(state, layout, evidence, inference.prior, values, job, jobs, stages, counts)
        jobs[job].check_ns = check_ns


@kernel
def _expect_history(state: ClusterState, job: int, jobs: Rows, stages: Rows, counts: Rows) -> None:
    """Believe the historical mean."""
    row, belief = state.jobs[job], jobs[job]
    if belief.open_stages < 0:
        counts[0] += 1
    _mark(state, job, jobs)
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
        stages[s].work_s = state.stages[s].work_ns * 1e-9


@kernel
def _mark(state: ClusterState, job: int, jobs: Rows) -> None:
    """Remember for which state of the job its belief holds."""
    jobs[job].remaining_ns = state.jobs[job].remaining_ns
    jobs[job].open_stages = state.jobs[job].open_stages


@kernel
def _believe(
    state: ClusterState,
    layout: Layout,
    evidence: Evidence,
    prior: Prior,
    values: NDArray[np.float64],
    job: int,
    jobs: Rows,
    stages: Rows,
    counts: Rows,
) -> None:
    """Write the belief of one job, from the features of its evidence."""
    belief = jobs[job]
    _mark(state, job, jobs)
    app = wide(layout.apps[state.jobs[job].app])
    first = int(layout.first_variable[app])
    n: int = layout.first_variable[app + 1] - first
    belief.level = int(values[_LEVEL])
    counts[1] += 1
    counts[2] += belief.level > 0
    llm_s, regular_s, received_s, variance = 0.0, 0.0, 0.0, 0.0
    for v in range(n):
        if evidence.key[n + v] == 0 or layout.kinds[first + v] == _DYNAMIC:
            continue
        mean_s = values[JOB_NUMBERS + v * VARIABLE_NUMBERS + _MEAN]
        had_s = _had_s(evidence, n, v, mean_s)
        received_s += had_s
        left_s = max(mean_s - had_s, 0.0)
        if layout.kinds[first + v] == _LLM:
            llm_s += left_s
        else:
            regular_s += left_s
        known = evidence.times[v] > 0
        variance += evidence.unfinished[v] * prior.variance_once[first + v] if known else prior.variance[first + v]
    latency = layout.latency_ps[state.jobs[job].app]
    belief.llm_s = llm_s
    belief.llm_iterations = llm_s * 1e12 / max(latency[0] + latency[1], 1)
    belief.regular_s = regular_s
    belief.low_s = max(values[_LOW] - received_s, 0.0)
    belief.quartile_s = max(values[_QUARTILE] - received_s, 0.0)
    belief.median_s = max(values[_MEDIAN] - received_s, 0.0)
    belief.upper_quartile_s = max(values[_UPPER_QUARTILE] - received_s, 0.0)
    belief.high_s = max(values[_HIGH] - received_s, 0.0)
    belief.history_deviation_s = np.sqrt(variance)
    owner = state.jobs[job]
    history_llm_s = 0.0
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        row = state.stages[s]
        if row.status >= _DONE or (row.status == _HIDDEN and row.planned == 1):
            continue
        node = layout.first_node[owner.app] + row.node
        history_llm_s += row.work_ns * 1e-9 * layout.llm_share[node]
        v = layout.variable[node]
        at = JOB_NUMBERS + v * VARIABLE_NUMBERS
        left_s = max(values[at + _MEAN] - _had_s(evidence, n, wide(v), float(values[at + _MEAN])), 0.0)
        stages[s].work_s = left_s / max(evidence.unfinished[v], 1)
        stages[s].entropy_bits = values[at + _ENTROPY]
        computed = not np.isnan(values[at + _SUM])
        stages[s].reduction_sum = values[at + _SUM] if computed else 0.0
        stages[s].reduction_product = values[at + _PRODUCT] if computed else 0.0
        stages[s].history_reduction = prior.reduction[first + v]
    belief.history_llm_s = history_llm_s
    belief.history_llm_iterations = history_llm_s * 1e12 / max(latency[0] + latency[1], 1)


@kernel
def _had_s(evidence: Evidence, n: int, v: int, mean_s: float) -> float:
    """What the unfinished stages of a variable have had of their mean: what they received, or what calls lack of it."""
    if evidence.key[n + v] > 1:
        return mean_s - evidence.calls_left_ns[v] * 1e-9
    return evidence.received_ns[v] * 1e-9


@kernel
def _missing(state: ClusterState, layout: Layout, job: int, values: NDArray[np.float64]) -> int:
    """Return a variable with tasks to start whose uncertainty reduction is not known; -1 if there is none."""
    owner = state.jobs[job]
    for s in range(owner.first_stage, owner.first_stage + owner.n_stages):
        row = state.stages[s]
        if row.status in (_READY, _RUNNING) and row.started_tasks < row.n_tasks:
            v = int(layout.variable[layout.first_node[owner.app] + row.node])
            if np.isnan(values[JOB_NUMBERS + v * VARIABLE_NUMBERS + _SUM]):
                return v
    return -1


@kernel
def _summarise(inference: Inference, app: int, n: int, values: NDArray[np.float64]) -> None:
    """Fill all numbers of one evidence but the level and the reductions, which are marked as missing."""
    bank, work = inference.bank, inference.work
    first = bank.first_variable[app]
    for v in range(n):
        inference.unfinished[v] = inference.evidence.key[n + v]
        at = JOB_NUMBERS + v * VARIABLE_NUMBERS
        mean = 0.0
        if inference.unfinished[v] > 1:
            mean = calls_mean(bank, first + v, inference.unfinished[v] - 1)
        else:
            for state in range(MAX_STATES):
                mean += work.marginals[first + v, state] * bank.means[first + v, state]
        values[at + _MEAN] = mean
        values[at + _ENTROPY] = entropy(bank, app, v, work) * BITS_PER_NAT
        values[at + _SUM] = np.nan
        values[at + _PRODUCT] = np.nan
    _, _, low_s, high_s = remaining(bank, app, inference.unfinished[:n], inference.nothing_s[:n], _INTERVAL, work)
    quarter = len(work.sums) // 4
    values[_LOW] = low_s
    values[_QUARTILE] = work.sums[quarter]
    values[_MEDIAN] = work.sums[2 * quarter]
    values[_UPPER_QUARTILE] = work.sums[3 * quarter]
    values[_HIGH] = high_s
