"""Which stages are correlated with one stage, given the evidence.

The joint posterior of a variable X and each separator is passed on through the calibrated tree. A branch ends where
the separator is hardly correlated with X: nothing behind it can be more so (data processing inequality).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.profile import MAX_STATES


@kernel
def correlate(bank: ProfileBank, app: int, variable: int, tolerance: float, work: Workspace) -> None:
    """Write the mean square contingency of X and each variable of the application to ``work.correlation``.

    Args:
        bank: Profiles.
        app: Index of the application.
        variable: X, counted within the application.
        tolerance: Smaller values need not be told apart from 0.
        work: Calibrated workspace.
    """
    for v in range(bank.first_variable[app], bank.first_variable[app + 1]):
        work.correlation[v] = 0.0
    x = bank.first_variable[app] + variable
    if work.n_allowed[x] == 1:
        return
    work.order[0] = bank.home[x]
    work.entered[bank.home[x]] = -1
    visited, known = 0, 1
    while visited < known:
        clique = wide(work.order[visited])
        visited += 1
        entered: int = work.entered[clique]
        _enter(bank, work, x, clique, entered)
        _correlate_members(bank, work, x, clique)
        for other in range(clique + 1, bank.first_clique[app + 1]):
            if (
                bank.parent[other] == clique
                and other != entered
                and _leave(bank, work, x, clique, wide(other), tolerance)
            ):
                work.order[known] = other
                work.entered[other] = other
                known += 1
        parent = bank.parent[clique]
        if parent >= 0 and entered != clique and _leave(bank, work, x, clique, clique, tolerance):
            work.order[known] = parent
            work.entered[parent] = clique
            known += 1


@kernel
def _enter(bank: ProfileBank, work: Workspace, x: int, clique: int, entered: int) -> None:
    """Write p(x | separator) and the separator's entry for each of the clique's; at the start, x is the separator."""
    n, size = work.n_allowed[x], work.sizes[clique]
    given = work.given
    if entered < 0:
        for s in range(n):
            for k in range(n):
                given[s, k] = 1.0 if s == k else 0.0
        _index_member(bank, work, x, clique)
        return
    shared, joint = bank.first_shared[entered], bank.first_shared[entered] * MAX_STATES
    for s in range(work.sizes[entered] // work.blocks[entered]):
        p = work.shared[shared + s]
        for k in range(n):
            given[s, k] = work.joint[joint + s * n + k] / p if p > 0.0 else 0.0
    if entered == clique:
        _index(work, size, int(work.blocks[clique]), size)
    else:
        for i in range(size):
            work.offsets[i] = work.maps[bank.first_map[entered] + i]


@kernel
def _leave(bank: ProfileBank, work: Workspace, x: int, clique: int, separator: int, tolerance: float) -> bool:
    """Write the joint of x and a separator of the clique; tell whether it is worth following."""
    n, size, block = work.n_allowed[x], work.sizes[clique], work.blocks[separator]
    n_shared = work.sizes[separator] // block
    if n_shared == 1:
        return False
    joint = bank.first_shared[separator] * MAX_STATES
    table = work.joint[joint : joint + n_shared * n]
    table[:] = 0.0
    first: int = bank.first_entry[clique]
    positions: int = bank.first_map[separator]
    for i in range(size):
        at: int = i // block if separator == clique else work.maps[positions + i]
        _add(table, at, work.beliefs[first + i], work.given, work.offsets[i], n)
    return _contingency(bank, work, x, table) > tolerance


@kernel
def _correlate_members(bank: ProfileBank, work: Workspace, x: int, clique: int) -> None:
    """Settle the members of a clique that no clique visited before had."""
    n: int = work.n_allowed[x]
    first: int = bank.first_entry[clique]
    for m in range(bank.first_member[clique], bank.first_member[clique + 1]):
        v = bank.members[m]
        n_own, stride = work.n_allowed[v], work.strides[m]
        if n_own == 1 or v == x or work.correlation[v] != 0.0:
            continue
        table = work.pair[: n_own * n]
        table[:] = 0.0
        i, state = wide(0), wide(0)
        while i < work.sizes[clique]:
            for at in range(i, i + stride):
                _add(table, state, work.beliefs[first + at], work.given, work.offsets[at], n)
            i += stride
            state = state + 1 if state + 1 < n_own else wide(0)
        work.correlation[v] = _contingency(bank, work, x, table)


@kernel
def _index_member(bank: ProfileBank, work: Workspace, v: int, clique: int) -> None:
    """Write the state of a member for each entry of the clique."""
    m = bank.first_member[clique]
    while bank.members[m] != v:
        m += 1
    _index(work, int(work.sizes[clique]), int(work.strides[m]), int(work.n_allowed[v]))


@kernel
def _index(work: Workspace, size: int, stride: int, states: int) -> None:
    """Write ``i // stride % states`` for each entry i, without dividing."""
    i, state = 0, 0
    while i < size:
        for at in range(i, i + stride):
            work.offsets[at] = state
        i += stride
        state = state + 1 if state + 1 < states else 0


@kernel
def _add(
    table: NDArray[np.float64], at: int, belief: float, given: NDArray[np.float64], separator: int, n: int
) -> None:
    """Add an entry of a clique, split over the states of x, to a row of a joint table."""
    if belief > 0.0:
        for k in range(n):
            table[at * n + k] += belief * given[separator, k]


@kernel
def _contingency(bank: ProfileBank, work: Workspace, x: int, table: NDArray[np.float64]) -> float:
    """Mean square contingency of a joint table of (others, x); never negative."""
    n = work.n_allowed[x]
    result = 0.0
    for at in range(0, len(table), n):
        row = total = 0.0
        for k in range(n):
            p = table[at + k]
            if p > 0.0:
                total += p
                row += p * p / work.marginals[x, work.allowed[x, k]]
        if total > 0.0:
            result += row / total
    return max(result - 1.0, 0.0)
