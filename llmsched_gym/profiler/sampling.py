"""The time that the rest of a job takes: exact posterior mean, and an interval from posterior samples.

Samples are drawn from the calibrated junction tree, cliques from the root downwards, with uniforms that are fixed and
stratified per variable: the same evidence always gives the same interval.

Within a state, times lie as those of the profiling jobs do: their quantiles, by twentieths. Calls that a plan holds
several times are drawn one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.profile import SLICES
from llmsched_gym.workloads.template import StageKind


@kernel
def remaining(
    bank: ProfileBank,
    app: int,
    unfinished: NDArray[np.uint16],
    elapsed_s: NDArray[np.float64],
    interval: float,
    work: Workspace,
) -> tuple[float, float, float, float]:
    """Return what the unfinished stages of a job still take, after `calibrate` or `condition`.

    Args:
        bank: Profiles.
        app: Index of the application in the bank.
        unfinished: (variables of the application,) 0: nothing is left. 1: what the states tell. 1 + n: n calls of a
            candidate that the plan holds several times.
        elapsed_s: (variables of the application,) Batch-1 seconds that they have had; 0 for those that wait.
        interval: Share of the posterior between the ends, such as 0.9.
        work: Calibrated workspace.

    Returns:
        Mean batch-1 slot seconds on LLM executors and on regular executors; lower and upper end of the sum of both.
    """
    start = bank.first_variable[app]
    llm = regular = 0.0
    for v in range(start, bank.first_variable[app + 1]):
        if unfinished[v - start] and bank.kinds[v] != StageKind.DYNAMIC:
            seconds, had = 0.0, float(elapsed_s[v - start])
            if unfinished[v - start] > 1:
                seconds = max(calls_mean(bank, v, wide(unfinished[v - start]) - 1) - had, 0.0)
            else:
                for k in range(work.n_allowed[v]):
                    state = work.allowed[v, k]
                    seconds += work.marginals[v, state] * _mean_left(bank, v, state, had)
            if bank.kinds[v] == StageKind.LLM:
                llm += seconds
            else:
                regular += seconds
    draw(bank, app, work)
    _sum_samples(bank, app, unfinished, elapsed_s, work)
    _sort(work.sums)
    tail = (1.0 - interval) / 2.0
    return llm, regular, quantile(work.sums, tail), quantile(work.sums, 1.0 - tail)


@kernel
def draw(bank: ProfileBank, app: int, work: Workspace) -> None:
    """Fill ``work.samples`` with jobs drawn from the calibrated posterior, unless they are there already."""
    if work.drawn[0]:
        return
    work.drawn[0] = True
    start = bank.first_variable[app]
    work.samples[: bank.first_variable[app + 1] - start] = 0
    n = 0
    for clique in range(bank.first_clique[app], bank.first_clique[app + 1]):
        if work.blocks[clique] > 1:
            _cumulate(bank, work, clique)
            work.order[n] = clique
            n += 1
    for number in range(n):
        _draw_clique(bank, work, work.order[number], start, work.uniforms[number])


@kernel
def _cumulate(bank: ProfileBank, work: Workspace, clique: int) -> None:
    """Sum up the beliefs within each block, four blocks at a time: a processor adds in all of them at once."""
    block = int(work.blocks[clique])
    first = int(bank.first_entry[clique])
    end = first + work.sizes[clique]
    beliefs, cumulated = work.beliefs, work.cumulated
    while first + 4 * block <= end:
        a = b = c = d = 0.0
        for i in range(first, first + block):
            a += beliefs[i]
            b += beliefs[i + block]
            c += beliefs[i + 2 * block]
            d += beliefs[i + 3 * block]
            cumulated[i] = a
            cumulated[i + block] = b
            cumulated[i + 2 * block] = c
            cumulated[i + 3 * block] = d
        first += 4 * block
    while first < end:
        total = 0.0
        for i in range(first, first + block):
            total += beliefs[i]
            cumulated[i] = total
        first += block


@kernel
def _draw_clique(bank: ProfileBank, work: Workspace, clique: int, start: int, uniforms: NDArray[np.float64]) -> None:
    """Draw, in every sample, the variables that a clique does not share with its parent, given those that it does."""
    block = int(work.blocks[clique])
    own, last = bank.first_member[clique] + bank.separator[clique], bank.first_member[clique + 1] - 1
    starts, cumulated = work.starts, work.cumulated[bank.first_entry[clique] :]
    starts[:] = 0
    for m in range(bank.first_member[clique], own):
        v = bank.members[m]
        if work.n_allowed[v] > 1:
            drawn, stride = work.samples[v - start], work.strides[m]
            for row in range(len(starts)):
                starts[row] += drawn[row] * stride
    drawn = work.samples[bank.members[last] - start]
    for row in range(len(starts)):
        # The first entry with cumulated > wanted, by a search without branches that a processor could mispredict.
        at = low = starts[row]
        wanted, left = uniforms[row] * cumulated[at + block - 1], block
        while left > 1:
            half = left >> 1
            low += half if cumulated[low + half - 1] <= wanted else 0
            left -= half
        drawn[row] = low - at
    for m in range(own, last):
        stride, upper = work.strides[m], work.samples[bank.members[m] - start]
        if work.n_allowed[bank.members[m]] > 1:
            for row in range(len(starts)):
                digit = drawn[row] // stride
                upper[row] = digit
                drawn[row] -= digit * stride


@kernel
def _sum_samples(
    bank: ProfileBank, app: int, unfinished: NDArray[np.uint16], elapsed_s: NDArray[np.float64], work: Workspace
) -> None:
    start, end = bank.first_variable[app], bank.first_variable[app + 1]
    work.sums[:] = 0.0
    for v in range(start, end):
        if not unfinished[v - start] or bank.kinds[v] == StageKind.DYNAMIC:
            continue
        own = end - start + v - start
        slots, shares = work.slots[own], work.shares[own]
        drawn, had = work.samples[v - start], float(elapsed_s[v - start])
        if unfinished[v - start] > 1:
            for row in range(len(work.sums)):
                time = _calls_time(bank.calls[v], wide(unfinished[v - start]) - 1, slots, shares, row)
                work.sums[row] += max(time - had, 0.0)
        else:
            for row in range(len(work.sums)):
                state = work.allowed[v, drawn[row]]
                time = _between(bank.slices[v, state], slots[row], shares[row])
                work.sums[row] += max(time - had, 0.0)


@kernel
def calls_mean(bank: ProfileBank, v: int, calls: int) -> float:
    """Mean seconds of so many calls of a candidate, variable `v` of the bank."""
    total = 0.0
    for k in range(SLICES):
        total += bank.calls[v, k]
    return calls * total / SLICES


@kernel
def _calls_time(
    slices: NDArray[np.float64], calls: int, slots: NDArray[np.int32], shares: NDArray[np.float64], row: int
) -> float:
    """Draw the seconds of independent calls: stratified uniforms, read from a different sample on for each."""
    total = 0.0
    for _ in range(calls):
        total += _between(slices, slots[row], shares[row])
        row += len(slots) // 3 + 1
        if row >= len(slots):
            row -= len(slots)
    return total


@kernel
def _between(slices: NDArray[np.float64], slot: int, share: float) -> float:
    """Quantile of what has these means of equal parts: linear between the middles of the parts."""
    return slices[slot] + share * (slices[slot + 1] - slices[slot])


@kernel
def _mean_left(bank: ProfileBank, v: int, state: int, elapsed: float) -> float:
    """Mean over a state of the time beyond `elapsed`."""
    if elapsed <= bank.lows[v, state]:
        return bank.means[v, state] - elapsed
    total = 0.0
    for k in range(SLICES):
        total += max(bank.slices[v, state, k] - elapsed, 0.0)
    return total / SLICES


@kernel
def quantile(ordered: NDArray[np.float64], p: float) -> float:
    """Quantile of a sorted sample, linear between the middles of its steps (Hazen)."""
    position = min(max(p * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    below = min(int(position), len(ordered) - 2)
    return ordered[below] + (position - below) * (ordered[below + 1] - ordered[below])


@kernel
def means_of_parts(ordered: NDArray[np.float64], means: NDArray[np.float64]) -> None:
    """Cut a sorted sample into as many equal parts as there is room for, and write down the mean of each."""
    n, parts = len(ordered), len(means)
    for part in range(parts):
        first, end = part * n // parts, (part + 1) * n // parts
        end = max(end, first + 1)
        total = 0.0
        for i in range(first, end):
            total += ordered[i]
        means[part] = total / (end - first)


@kernel
def _sort(values: NDArray[np.float64]) -> None:
    """Sort in place by Batcher's merge exchange (Knuth 5.2.2, algorithm M), whose branches do not depend on values."""
    n, top = len(values), 1
    while 2 * top < n:
        top *= 2
    p = top
    while p > 0:
        q, first, distance = top, 0, p
        while True:
            for start in range(first, n - distance, 2 * p):
                for i in range(start, min(start + p, n - distance)):
                    a, b = values[i], values[i + distance]
                    values[i] = min(a, b)
                    values[i + distance] = max(a, b)
            if q == p:
                break
            distance, first, q = q - p, p, q // 2
        p //= 2
