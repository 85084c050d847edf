"""A provable lower bound on the mean job completion time (JCT) of a workload on a simulated cluster.

**Claim.** No schedule, clairvoyant or not, work-conserving or not, has a mean JCT below `lower_bound_mean_jct`; nor
has a preemptive one, as long as a task goes on where it began.

**What a task needs.** An LLM task with p prompt tokens, of which prefixes can cover at most h, and o output tokens
takes part in at least o iterations of one engine: prefill iterations, which compute u >= p - h tokens, and one for
each later token. An iteration lasts a + (own cost of each sequence in it), where a sequence's own cost is c per
prefill token, or b + d * context when it decodes. The iteration that yields token k + 1 is a decode of cost b + d (p
+ k), or, after a preemption, a recomputation of at least p + k - h tokens; the cheaper one counts. So the task's
*span* is at least the sum of (a + own cost). No more than S = max_num_seqs sequences share an iteration, so charging
a / S + own cost per sequence and iteration charges an engine with no more than the time that passes: the task's
*work*, in engine seconds, is at least the sum of these charges. A regular task has span and work equal to its
duration. With several kinds of engines, the least of each need counts. Models are taken to load at once, and inputs to
be where they are needed: of the engines of an executor one runs at a time.

**Stages.** All work of a stage falls between ready and done. So its span is at least the longest span of its tasks, its
work over the number m of executors, and, since an engine that serves any of its tasks runs as many iterations as the
longest of them, a * (shortest output) + (own costs of all) / m: the mean over the engines used is no more than their
maximum. Less a nanosecond: events are counted in these, and a batch that began within the one before the dispatch of a
task takes it along.

**Paths.** A stage is ready no earlier than its parents and its revealer are done; skipped stages are done when they are
revealed. Longest paths give each stage a least *head* (arrival to ready) and *tail* (done to the end of the job). A
job's JCT is at least its longest path P_j.

**Pools.** Take one pool of m executors. For a job j with work W_j in it, let M_j be the mean time at which that work is
done. Work of stage s that is done at time t leaves at least tail_s until the job ends, beside what is left of its
own task, or of the stage's work at rate m. Averaged over the job's work this gives a constant D_j with C_j >= M_j +
D_j. Also, on average over all work, M_j cannot be small for all jobs: the pool does at most m seconds of work per
second, and that of stage s not before arrival + head_s. For any weights x_j >= 0 the least value of sum x_j M_j
under these two constraints is that of one machine of speed m which always serves, of what is released, the job with
the largest x_j / W_j: M_j is linear in the time at which each bit of work is done, so an exchange of two bits proves
it (Goemans et al. 2002 call M_j the mean busy time).

**Together.** Weights x_j0 + x_j1 + x_j2 = 1 for each job give sum_j C_j >= sum_j x_j0 P_j + (bound of the LLM pool
for x_1) + (bound of the regular pool for x_2). Every choice of weights is a bound; each bound is concave in the
weights, and the M_j + D_j of its optimal schedule are a supergradient, so a few ascent steps look for good ones. The
value returned is the best one met.

What it leaves on the table: batches that are not full, and the other stages of a job while one of its pools is at work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import allocating_kernel
from llmsched_gym.cluster.executors import Host, LLMExecutors
from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

Floats = NDArray[np.float64]

_STEPS: Final = 40
_FIRST_STEP: Final = 8.0
_SLACK: Final = 1e-9
"""Relative slack for rounding."""
_ROUNDING: Final = 1e-14
"""The same, relative to the latest arrival: JCTs are differences of times."""
_JOIN_S: Final = 1e-9
"""A batch may have started within the nanosecond before a task of it was dispatched: by that much earlier may its work
begin, and its stage end."""


def lower_bound_mean_jct(workload: Workload, cluster: ClusterSpec) -> float:
    """Return a mean JCT in seconds that no schedule of the workload on the simulated cluster can beat.

    Raises:
        InputError: The cluster cannot run some task.
    """
    cluster.check_serves(workload)
    stages, jobs = workload.stages, workload.jobs
    span, work, rest = _stage_needs(workload, cluster)
    head, tail = _heads_and_tails(stages, workload.children, workload.reveals, span)
    paths = np.zeros(len(jobs))
    np.maximum.at(paths, stages["job"], head + span)
    executors = {StageKind.LLM: sum(group.count for group in cluster.llm), StageKind.REGULAR: cluster.n_regular}
    pools = [
        _Pool.of(
            workload, float(count), np.flatnonzero((stages["kind"] == kind) & (work > 0.0)), work, rest + tail, head
        )
        for kind, count in executors.items()
    ]
    best = max(_values_for_one(paths, pool) for pool in pools)
    best = max(best, math.fsum(paths), _ascend(paths, pools)) / len(jobs)
    return max(0.0, best * (1.0 - _SLACK) - _ROUNDING * float(workload.jobs["arrival_ns"].max()) * 1e-9)


@dataclass(frozen=True)
class _Pool:
    """The stages that one pool of executors serves, by release.

    Attributes:
        speed: Executors.
        job: int (n,). Job of each stage.
        release: (n,) earliest time at which it can be ready, seconds.
        work: (n,) executor seconds.
        share: (n,) of its job's work in this pool.
        total: (jobs,) work of each job; 0 where it has none.
        constant: (jobs,) what a job's JCT exceeds the mean time of its work by, at least: D_j - arrival_j.
    """

    speed: float
    job: NDArray[np.int64]
    release: Floats
    work: Floats
    share: Floats
    total: Floats
    constant: Floats

    @classmethod
    def of(
        cls, workload: Workload, speed: float, rows: NDArray[np.intp], work: Floats, after: Floats, head: Floats
    ) -> _Pool:
        """Collect the stages `rows`; `after` is the mean time from their work to the end of their job."""
        n_jobs = workload.n_jobs
        arrival = workload.jobs["arrival_ns"] * 1e-9
        release = arrival[workload.stages["job"][rows]] + head[rows]
        rows = rows[np.argsort(release, kind="stable")]
        job = workload.stages["job"][rows].astype(np.int64)
        total = np.bincount(job, work[rows], n_jobs).astype(np.float64)
        share = work[rows] / total[job]
        constant = np.maximum(np.bincount(job, share * after[rows], n_jobs), total / (2.0 * max(speed, 1.0)))
        return cls(speed, job, arrival[job] + head[rows] - _JOIN_S, work[rows], share, total, constant - arrival)

    def values(self, weights: Floats) -> Floats:
        """Return M_j + D_j - arrival_j in the schedule that minimises their sum with the given weights, (jobs,)."""
        if not len(self.job):
            return np.zeros(len(self.total))
        urgency = weights[self.job] / self.total[self.job]
        rank = np.empty(len(self.job), np.int64)
        rank[np.argsort(-urgency, kind="stable")] = np.arange(len(self.job))
        mean_times = _mean_busy_times(self.release, self.work, rank, self.speed)
        values = np.bincount(self.job, self.share * mean_times, len(self.total)) + self.constant
        return np.where(self.total > 0.0, values, 0.0)


def _values_for_one(paths: Floats, pool: _Pool) -> float:
    """Return the bound on the sum of JCTs in which a job that needs the pool counts by it alone."""
    return math.fsum(np.where(pool.total > 0.0, pool.values(np.ones(len(paths))), paths))


def _ascend(paths: Floats, pools: list[_Pool]) -> float:
    """Return the best bound on the sum of JCTs met on an ascent over the weights (exponentiated gradient)."""
    scores = np.array([np.zeros(len(paths)), *(np.where(pool.total > 0.0, 0.0, -500.0) for pool in pools)])
    best = 0.0
    for step in range(_STEPS):
        weights = detmath.exp(scores - scores.max(axis=0))
        weights = weights / np.cumsum(weights, axis=0)[-1]
        values = np.array([paths, *(pool.values(w) for pool, w in zip(pools, weights[1:], strict=True))])
        best = max(best, math.fsum((weights * values).ravel()))
        scale = math.fsum(values.ravel()) / values.size
        scores = scores + _FIRST_STEP / math.sqrt(step + 1.0) * values / max(scale, 1e-12)
        scores = np.maximum(scores - scores.max(axis=0), -500.0)  # what detmath.exp can take
    return best


def _stage_needs(workload: Workload, cluster: ClusterSpec) -> tuple[Floats, Floats, Floats]:
    """Return the least span and work of each stage, and the least mean time from its work to its end, in seconds.

    Stages that are skipped, and dynamic ones, need nothing.
    """
    stage, stages = workload.tasks["stage"], workload.stages
    needs, servers_of_task = _task_needs(workload, cluster)
    n = len(stages)
    servers, span, fixed = np.ones(n), np.zeros(n), np.full(n, np.inf)
    np.maximum.at(servers, stage, servers_of_task)
    np.maximum.at(span, stage, needs[_SPAN])
    np.minimum.at(fixed, stage, needs[_FIXED])
    work = np.bincount(stage, needs[_WORK], n)
    own = np.bincount(stage, needs[_OWN], n)
    together = np.where(np.isfinite(fixed), fixed, 0.0) + own / servers
    span = np.maximum(span, np.maximum(work / servers, together))
    span = np.maximum(span - np.where(stages["kind"] == StageKind.LLM, _JOIN_S, 0.0), 0.0)
    rest = np.bincount(stage, needs[_WORK] * needs[_REST], n) / np.maximum(work, 1e-300)
    present = stages["present"] == 1
    return span * present, work * present, np.maximum(rest, work / (2.0 * servers))


_SPAN, _WORK, _REST, _FIXED, _OWN = range(5)
"""What a task needs, in seconds: span, work, mean time from its work to its end, iterations as such, own costs."""


def _task_needs(workload: Workload, cluster: ClusterSpec) -> tuple[Floats, Floats]:
    """Return the least needs of each task, (5, tasks), and how many executors serve it, (tasks,)."""
    tasks = workload.tasks
    seconds = tasks["duration_ns"] * 1e-9
    needs = np.array([seconds, seconds, 0.5 * seconds, np.zeros(len(tasks)), seconds])
    servers = np.full(len(tasks), float(max(cluster.n_regular, 1)))
    for m in range(len(workload.models)):
        serving = cluster.serving(m, workload.models)
        rows = np.flatnonzero(tasks["model"] == m)
        if serving and len(rows):
            needs[:, rows] = np.minimum.reduce([_llm_needs_on(tasks[rows], group, host) for group, host in serving])
            servers[rows] = sum(group.count for group, _ in serving)
    return needs, servers


def _llm_needs_on(tasks: NDArray[Any], group: LLMExecutors, host: Host) -> Floats:
    prompt = tasks["prompt_tokens"].astype(np.int64)
    covered = np.maximum(tasks["app_prefix_tokens"], tasks["job_prefix_tokens"]) if group.prefix_caching else 0
    profile = load_profile(host.latency)
    return _llm_needs(
        prompt,
        tasks["output_tokens"].astype(np.int64),
        prompt - np.minimum(covered, prompt - 1),
        1e-12 * profile.iteration_ps,
        1e-12 * profile.decode_ps,
        1e-12 * profile.prefill_ps,
        1e-12 * profile.context_ps,
        group.max_num_seqs,
        group.max_num_batched_tokens,
    )


@allocating_kernel
def _llm_needs(
    prompts: NDArray[np.int64],
    outputs: NDArray[np.int64],
    uncovered: NDArray[np.int64],
    a: float,
    b: float,
    c: float,
    d: float,
    seats: int,
    budget: int,
) -> Floats:
    """Return the least needs of LLM tasks on one kind of engine, (5, n)."""
    needs = np.zeros((5, len(prompts)))
    for i in range(len(prompts)):
        left, work, rest, own = 0.0, 0.0, 0.0, 0.0
        for generated in range(outputs[i] - 1, 0, -1):  # from the last token back to the second
            decode = b + d * (prompts[i] + generated)
            cost = min(decode, c * (uncovered[i] + generated))
            charge = a / seats + cost
            rest += charge * (left + 0.5 * (a + cost))
            left += a + cost
            work += charge
            own += cost
        chunks = (uncovered[i] + budget - 1) // budget
        charge = chunks * a / seats + c * uncovered[i]
        rest += charge * left
        work += charge
        needs[_SPAN, i] = left + chunks * a + c * uncovered[i]
        needs[_WORK, i] = work
        needs[_REST, i] = rest / work if work > 0.0 else 0.0
        needs[_FIXED, i] = a * outputs[i]
        needs[_OWN, i] = own + c * uncovered[i]
    return needs


@allocating_kernel
def _heads_and_tails(
    stages: Any, children: NDArray[np.int32], reveals: NDArray[np.int32], span: Floats
) -> tuple[Floats, Floats]:
    """Return the longest paths from arrival to ready and from done to the end of the job, in seconds.

    A skipped stage is over when it is revealed, whatever its parents do, so edges into it bind nothing.
    """
    head, tail = np.zeros(len(stages)), np.zeros(len(stages))
    for s in range(len(stages)):
        row = stages[s]
        for k in range(row.first_child, row.first_child + row.n_children):
            if stages[children[k]].present == 1:
                head[children[k]] = max(head[children[k]], head[s] + span[s])
        for k in range(row.first_reveal, row.first_reveal + row.n_reveals):
            head[reveals[k]] = max(head[reveals[k]], head[s] + span[s])
    for s in range(len(stages) - 1, -1, -1):
        row = stages[s]
        for k in range(row.first_child, row.first_child + row.n_children):
            if stages[children[k]].present == 1:
                tail[s] = max(tail[s], span[children[k]] + tail[children[k]])
        for k in range(row.first_reveal, row.first_reveal + row.n_reveals):
            tail[s] = max(tail[s], span[reveals[k]] + tail[reveals[k]])
    return head, tail


@allocating_kernel
def _mean_busy_times(release: Floats, work: Floats, rank: NDArray[np.int64], speed: float) -> Floats:
    """Serve parts on one machine, always the released one of the lowest rank; return the mean time of each part's work.

    Args:
        release: (n,) ascending, seconds.
        work: (n,) positive.
        rank: (n,) a permutation.
        speed: Work per second.
    """
    n = len(release)
    of_rank = np.empty(n, np.int64)
    for i in range(n):
        of_rank[rank[i]] = i
    left = work / speed
    mean = np.zeros(n)
    released = [0]  # a heap of ranks; the first entry tells the compiler its type
    released.pop()
    now = 0.0
    following = 0
    while following < n or len(released) > 0:
        if len(released) == 0:
            now = max(now, release[following])
        while following < n and release[following] <= now:
            heappush(released, rank[following])
            following += 1
        i = of_rank[released[0]]
        served, until = left[i], now + left[i]
        if following < n and release[following] < until:
            until = release[following]
            served = until - now
            left[i] -= served
        else:
            heappop(released)
        mean[i] += served * 0.5 * (until + now)  # the difference of two late times would be no work of a nanosecond
        now = until
    return mean * speed / work
