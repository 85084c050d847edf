"""What finishing a stage would tell about the rest of its job: entropies and mutual information, in nats.

All functions read a workspace after `calibrate` or `condition`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.correlation import correlate
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.sampling import draw
from llmsched_gym.workloads.detmath import logarithm
from llmsched_gym.workloads.template import StageKind


@kernel
def entropy(bank: ProfileBank, app: int, variable: int, work: Workspace) -> float:
    """Return H(X | evidence) of one variable of an application."""
    v = bank.first_variable[app] + variable
    result = 0.0
    for k in range(work.n_allowed[v]):
        p = float(work.marginals[v, work.allowed[v, k]])
        if p > 0.0:
            result -= p * logarithm(p)
    return max(result, 0.0)


@kernel
def information(bank: ProfileBank, app: int, variable: int, limit: int, work: Workspace) -> float:
    """Return I(X; all other variables | evidence) = H(X | evidence) - H(X | all others, evidence).

    Given its Markov blanket a variable is independent of the rest, so the second term is a mean over the states of the
    cliques that hold X. It is exact if there are at most `limit` of them; else it is the mean over the workspace's
    samples of the job (unbiased before it is cut at 0).
    """
    x = bank.first_variable[app] + variable
    if work.n_allowed[x] == 1:
        return 0.0
    states = 1.0
    for h in range(bank.first_holder[x], bank.first_holder[x + 1]):
        states *= _new_states(bank, work, x, wide(h))
    rest = _enumerated(bank, work, x) if states <= limit else _sampled(bank, app, work, x)
    return max(entropy(bank, app, variable, work) - rest, 0.0)


@kernel
def reduction(
    bank: ProfileBank, app: int, variable: int, tail: float, tolerance: float, limit: int, work: Workspace
) -> tuple[float, float, float]:
    """Return what the uncertainty reduction of one stage is made of.

    A stage Y counts as correlated with X if their mean square contingency given the evidence, sum of
    p(x, y)^2 / (p(x) p(y)) - 1, exceeds `tolerance` (for two states each it is the squared correlation; it is never
    below the mutual information in nats). Sizes of plans take no time and have no range.

    Args:
        bank: Profiles.
        app: Index of the application.
        variable: X, counted within the application.
        tail: Probability that a range leaves out at either end, such as 0.05.
        tolerance: Least mean square contingency of correlated stages.
        limit: As of `information`.
        work: Calibrated workspace; gets the mean square contingencies in ``correlation``, 0 where too small.

    Returns:
        Mutual information of X with all others in nats; sum and product of the ranges, in seconds, of the stages
        correlated with X (those with a range; 0 if there are none).
    """
    told = information(bank, app, variable, limit, work)
    start = bank.first_variable[app]
    correlate(bank, app, variable, tolerance, work)
    total, product, found = 0.0, 1.0, False
    for v in range(start, bank.first_variable[app + 1]):
        if v != start + variable and work.correlation[v] > tolerance:
            width = spread(bank, work, v, tail)
            if width > 0.0:
                total += width
                product *= width
                found = True
    return told, total, product if found else 0.0


@kernel
def spread(bank: ProfileBank, work: Workspace, v: int, tail: float) -> float:
    """Width in seconds of what variable `v` of the bank takes, without the states that lie wholly in the tails.

    Tails are cut in the order of the states. It is that of their times but for repeated candidates, of which two short
    calls may take less than a long one.
    """
    if bank.kinds[v] == StageKind.DYNAMIC:
        return 0.0
    last = work.n_allowed[v] - 1
    low, left = 0, work.marginals[v, work.allowed[v, 0]]
    while low < last and left <= tail:
        low += 1
        left += work.marginals[v, work.allowed[v, low]]
    high, left = last, work.marginals[v, work.allowed[v, last]]
    while high > low and left <= tail:
        high -= 1
        left += work.marginals[v, work.allowed[v, high]]
    first, end = bank.lows[v, work.allowed[v, low]], bank.highs[v, work.allowed[v, high]]
    for k in range(low, high + 1):
        first = min(first, bank.lows[v, work.allowed[v, k]])
        end = max(end, bank.highs[v, work.allowed[v, k]])
    return end - first


@kernel
def _new_states(bank: ProfileBank, work: Workspace, x: int, h: int) -> int:
    """States of what holder `h` of variable `x` adds to the holders before it, `x` aside."""
    clique: int = bank.holders[h]
    if h == bank.first_holder[x]:
        return work.sizes[clique] // work.n_allowed[x]
    return work.blocks[clique]


@kernel
def _enumerated(bank: ProfileBank, work: Workspace, x: int) -> float:
    """H(X | others): walk through all states of the cliques that hold X, parents first, and skip impossible ones."""
    first = bank.first_holder[x]
    depth, deepest = wide(0), bank.first_holder[x + 1] - first - 1
    work.weights[0] = 1.0
    work.order[0] = -1
    result = 0.0
    while depth >= 0:
        work.order[depth] += 1
        if work.order[depth] == _new_states(bank, work, x, first + depth):
            depth -= 1
        elif _extend(bank, work, x, first + depth, depth, work.order[depth]):
            if depth == deepest:
                result += _weighted_entropy(work.weights[depth + 1], work.n_allowed[x])
            else:
                depth += 1
                work.order[depth] = -1
    return result


@kernel
def _extend(bank: ProfileBank, work: Workspace, x: int, h: int, depth: int, number: int) -> bool:
    """Put the new variables of a holder into state `number`; weigh each state of `x`. False if none is possible."""
    clique: int = bank.holders[h]
    own = bank.first_member[clique] + (bank.separator[clique] if depth else 0)
    entry, stride_x = 0, 0
    for m in range(bank.first_member[clique + 1] - 1, bank.first_member[clique] - 1, -1):
        v: int = bank.members[m]
        if v == x:
            stride_x = work.strides[m]
            continue
        n: int = work.n_allowed[v]
        if n == 1:
            continue
        if m >= own:
            work.digits[v] = number % n
            number //= n
        entry += work.digits[v] * work.strides[m]
    possible = False
    for k in range(work.n_allowed[x]):
        weight = work.weights[depth, k]
        if weight > 0.0:
            at = entry + k * stride_x
            weight *= work.beliefs[bank.first_entry[clique] + at]
            if depth and weight > 0.0:
                weight /= work.shared[bank.first_shared[clique] + at // work.blocks[clique]]
        work.weights[depth + 1, k] = weight
        possible = possible or weight > 0.0
    return possible


@kernel
def _sampled(bank: ProfileBank, app: int, work: Workspace, x: int) -> float:
    """H(X | others) as the mean over posterior samples of the others."""
    draw(bank, app, work)
    start = bank.first_variable[app]
    result = 0.0
    for row in range(len(work.sums)):
        work.weights[1] = 1.0
        for h in range(bank.first_holder[x], bank.first_holder[x + 1]):
            clique = bank.holders[h]
            at, stride_x = bank.first_entry[clique], 0
            for m in range(bank.first_member[clique], bank.first_member[clique + 1]):
                v = bank.members[m]
                if v == x:
                    stride_x = bank.strides[m]
                else:
                    at += work.allowed[v, work.samples[v - start, row]] * bank.strides[m]
            for k in range(work.n_allowed[x]):
                work.weights[1, k] *= bank.potentials[at + work.allowed[x, k] * stride_x]
        total = 0.0
        for k in range(work.n_allowed[x]):
            total += work.weights[1, k]
        result += _weighted_entropy(work.weights[1], work.n_allowed[x]) / total
    return result / len(work.sums)


@kernel
def _weighted_entropy(weights: NDArray[np.float64], n: int) -> float:
    """Sum of the weights times the entropy of their shares."""
    total, logs, positive = 0.0, 0.0, 0
    for k in range(n):
        if weights[k] > 0.0:
            total += weights[k]
            positive += 1
    if positive < 2:
        return 0.0
    for k in range(n):
        if weights[k] > 0.0:
            logs -= weights[k] * logarithm(weights[k] / total)
    return logs
