"""What the profiles say given some evidence of one job: inferred once, then looked up whenever it recurs."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.cache import EvidenceCache, claim, find
from llmsched_gym.profiler.inference import condition
from llmsched_gym.profiler.information import entropy, reduction
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.layout import StateTables
from llmsched_gym.profiler.profile import MAX_STATES, SLICES
from llmsched_gym.profiler.relevance import write_all, write_relevant
from llmsched_gym.profiler.sampling import calls_mean, means_of_parts, remaining

INTERVAL: Final = 0.9
"""Share of the posterior between the ends of the intervals that are shown."""

TAIL: Final = 0.05
"""Probability that the range of a stage leaves out at either end."""

TOLERANCE: Final = 1e-3
"""Stages with a smaller mean square contingency count as independent."""

ENUMERATED: Final = 512
"""Most states of a Markov blanket that mutual information is summed over; beyond, it is estimated from samples."""

BITS_PER_NAT: Final = 1.4426950408889634

# Numbers per evidence in the cache: those of the job, then those of each variable.
LEVEL, LOW, QUARTILE, MEDIAN, UPPER_QUARTILE, HIGH, ATOM = range(7)
ATOMS: Final = 32
"""The sum of what is to come as so many values of equal probability, ascending: means of equal parts of the samples."""

JOB_NUMBERS: Final = ATOM + ATOMS
MEAN, ENTROPY, SUM, PRODUCT = range(4)
VARIABLE_NUMBERS: Final = 4

_KEEPS_KNOWN: Final = 1
"""Up to this level of `condition`, what is known of finished and skipped stages is kept."""


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
        states: What evidence asks of the variables.
        key: Scratch: uint16 (2 * variables,) Evidence of one job: the masks, then what is still to come.
        words: Scratch: the same as a key of the cache; uint32, per variable.
        unfinished: Scratch: uint16, per variable; see `sampling.remaining`.
        nothing_s: float64 zeros, per variable.
    """

    bank: ProfileBank
    work: Workspace
    cache: EvidenceCache
    prior: Prior
    states: StateTables
    key: NDArray[np.uint16]
    words: NDArray[np.uint32]
    unfinished: NDArray[np.uint16]
    nothing_s: NDArray[np.float64]


def fill_prior(inference: Inference) -> None:
    """Compute ``inference.prior``: once per process, so that the loops are not worth compiling with all they call."""
    bank, work, prior = inference.bank, inference.work, inference.prior
    for app, (first, end) in enumerate(pairwise(bank.first_variable.tolist())):
        inference.key[: end - first] = 0xFFFF
        condition(bank, app, inference.key[: end - first], work)
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
        for k in range(SLICES):
            square += p * bank.slices[v, state, k] * bank.slices[v, state, k] / SLICES
    if weight <= 0.0:
        return 0.0
    mean /= weight
    return max(square / weight - mean * mean, 0.0)


@kernel
def look_up(inference: Inference, app: int, key: NDArray[np.uint16]) -> int:
    """Return the slot of the cache that holds the features of some evidence; -1 if none does."""
    words = inference.words[: len(key) // 2]
    slot = -1
    if write_relevant(inference.bank, app, key, words):
        slot = find(inference.cache, app, words)
    if slot < 0:
        write_all(key, words)
        slot = find(inference.cache, _by_all_evidence(inference, app), words)
    return slot


@kernel
def infer(inference: Inference, app: int, key: NDArray[np.uint16]) -> int:
    """Condition on evidence that the cache does not hold, and return the slot that holds its features from now on."""
    n = len(key) // 2
    words = inference.words[:n]
    level = condition(inference.bank, app, key[:n], inference.work)
    # Beyond that level, states that had been known are given up, and so matter again.
    if level <= _KEEPS_KNOWN and write_relevant(inference.bank, app, key, words):
        slot = claim(inference.cache, app, words)
    else:
        write_all(key, words)
        slot = claim(inference.cache, _by_all_evidence(inference, app), words)
    _summarise(inference, app, key, inference.cache.values[slot])
    inference.cache.values[slot, LEVEL] = level
    return slot


@kernel
def _by_all_evidence(inference: Inference, app: int) -> int:
    """Return the number that an application has in the cache where all of the evidence is the key."""
    return len(inference.bank.first_variable) + app


@kernel
def infer_reduction(inference: Inference, app: int, v: int, values: NDArray[np.float64]) -> None:
    """Fill the uncertainty reduction of one variable, under the evidence that was conditioned on last."""
    told, ranges, product = reduction(inference.bank, app, v, TAIL, TOLERANCE, wide(ENUMERATED), inference.work)
    at = JOB_NUMBERS + v * VARIABLE_NUMBERS
    values[at + SUM] = told * BITS_PER_NAT * ranges
    values[at + PRODUCT] = told * BITS_PER_NAT * product


@kernel
def _summarise(inference: Inference, app: int, key: NDArray[np.uint16], values: NDArray[np.float64]) -> None:
    """Fill all numbers of one evidence but the level and the reductions, which are marked as missing."""
    bank, work = inference.bank, inference.work
    first, n = bank.first_variable[app], len(key) // 2
    for v in range(n):
        inference.unfinished[v] = key[n + v]
        at = JOB_NUMBERS + v * VARIABLE_NUMBERS
        mean = 0.0
        if inference.unfinished[v] > 1:
            mean = calls_mean(bank, first + v, inference.unfinished[v] - 1)
        else:
            for state in range(MAX_STATES):
                mean += work.marginals[first + v, state] * bank.means[first + v, state]
        values[at + MEAN] = mean
        values[at + ENTROPY] = entropy(bank, app, v, work) * BITS_PER_NAT
        values[at + SUM] = np.nan
        values[at + PRODUCT] = np.nan
    _, _, low_s, high_s = remaining(bank, app, inference.unfinished[:n], inference.nothing_s[:n], INTERVAL, work)
    quarter = len(work.sums) // 4
    values[LOW] = low_s
    values[QUARTILE] = work.sums[quarter]
    values[MEDIAN] = work.sums[2 * quarter]
    values[UPPER_QUARTILE] = work.sums[3 * quarter]
    values[HIGH] = high_s
    means_of_parts(work.sums, values[ATOM : ATOM + ATOMS])
