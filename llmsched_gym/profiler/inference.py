"""Exact posterior probabilities of one application's variables, given which of their states are still possible.

Two passes over the junction tree (Hugin propagation) give the joint posterior of every clique. Evidence is a bit mask
per variable: all bits set, nothing is known; one bit set, the stage is finished (or skipped). Tables hold only states
that the evidence allows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace
from llmsched_gym.profiler.integers import wide
from llmsched_gym.profiler.profile import MAX_STATES
from llmsched_gym.workloads.detmath import logarithm


@kernel
def condition(bank: ProfileBank, app: int, masks: NDArray[np.uint16], work: Workspace) -> int:
    """Calibrate under the evidence or, if no job can show it, under as much of it as possible.

    Args:
        bank: Profiles.
        app: Index of the application in the bank.
        masks: uint16 (variables of the application,), bit s set if state s is possible.
        work: Gets beliefs, marginals, and the masks in use.

    Returns:
        What was given up: 0 nothing; 1 partial exclusions, such as bins that a running stage has outlasted; 2 all
        durations, only which stages are present or absent was kept; 3 everything.
    """
    for level in range(4):
        if _calibrate(bank, app, masks, level, work):
            return level
    return 3


@kernel
def calibrate(bank: ProfileBank, app: int, masks: NDArray[np.uint16], work: Workspace) -> bool:
    """Fill beliefs, separators, marginals and log evidence of `work`; arguments as of `condition`.

    Returns:
        False if the evidence has probability 0; then only ``work.masks`` and the allowed states are meaningful.
    """
    return _calibrate(bank, app, masks, 0, work)


@kernel
def _calibrate(bank: ProfileBank, app: int, masks: NDArray[np.uint16], level: int, work: Workspace) -> bool:
    work.drawn[0] = False
    start, end = bank.first_variable[app], bank.first_variable[app + 1]
    for v in range(start, end):
        if not _allow(bank, work, v, _relaxed(bank, v, int(masks[v - start]), level)):
            return False
    root, stop = bank.first_clique[app], bank.first_clique[app + 1]
    for clique in range(root, stop):
        _load(bank, work, clique)
    log_evidence = 0.0
    for clique in range(stop - 1, root - 1, -1):
        total = _collect(bank, work, clique)
        if not total > 0.0:
            return False
        log_evidence += logarithm(total)
    work.log_evidence[0] = log_evidence
    for clique in range(root + 1, stop):
        _distribute(bank, work, clique)
    for v in range(start, end):
        _marginal(bank, work, v)
    return True


@kernel
def _relaxed(bank: ProfileBank, v: int, mask: int, level: int) -> int:
    """Widen the mask of a variable: see `condition`."""
    everything = (1 << bank.states[v]) - 1
    mask &= everything
    if level == 0 or (level == 1 and mask & (mask - 1) == 0 and mask != 0):
        return mask
    if level == 3 or mask == 0 or not bank.absent[v]:
        return everything
    if mask == 1:
        return mask
    return everything if mask & 1 else everything - 1


@kernel
def _allow(bank: ProfileBank, work: Workspace, v: int, mask: int) -> bool:
    """List the states in the mask; false if there are none."""
    work.masks[v] = mask
    n = 0
    for state in range(bank.states[v]):
        if mask >> state & 1:
            work.allowed[v, n] = state
            n += 1
    work.n_allowed[v] = n
    return n > 0


@kernel
def _load(bank: ProfileBank, work: Workspace, clique: int) -> None:
    """Copy what the evidence leaves of a clique's potential, and lay out the small table."""
    offsets = work.offsets
    size, fixed = 1, bank.first_entry[clique]
    offsets[0] = 0
    for m in range(bank.first_member[clique], bank.first_member[clique + 1]):
        v, stride = bank.members[m], bank.strides[m]
        n = work.n_allowed[v]
        if n == 1:
            fixed += work.allowed[v, 0] * stride
            continue
        for i in range(size - 1, -1, -1):  # from the back, so that nothing is overwritten before it is read
            offset = offsets[i]
            for k in range(n):
                offsets[i * n + k] = offset + work.allowed[v, k] * stride
        size *= n
    beliefs, potentials = work.beliefs[bank.first_entry[clique] :], bank.potentials[fixed:]
    for i in range(size):
        beliefs[i] = potentials[offsets[i]]
    work.sizes[clique] = size
    stride = 1
    own = bank.first_member[clique] + bank.separator[clique]
    for m in range(bank.first_member[clique + 1] - 1, bank.first_member[clique] - 1, -1):
        work.strides[m] = stride
        stride *= work.n_allowed[bank.members[m]]
        if m == own:
            work.blocks[clique] = stride


@kernel
def _collect(bank: ProfileBank, work: Workspace, clique: int) -> float:
    """Normalise a clique that has heard from its children, and tell its parent. Returns its sum before."""
    beliefs, shared = work.beliefs[bank.first_entry[clique] :], work.shared[bank.first_shared[clique] :]
    block = work.blocks[clique]
    n_shared = work.sizes[clique] // block
    total = 0.0
    for s in range(n_shared):
        part = _sum(beliefs, s * block, block)
        shared[s] = part
        total += part
    if not total > 0.0:
        return 0.0
    scale = 1.0 / total
    for i in range(work.sizes[clique]):
        beliefs[i] *= scale
    if n_shared == 1:
        shared[0] = 1.0  # the parent cannot learn from it
        return total
    for s in range(n_shared):
        shared[s] *= scale
    _map(bank, work, clique)
    above, maps = work.beliefs[bank.first_entry[bank.parent[clique]] :], work.maps[bank.first_map[clique] :]
    for i in range(work.sizes[bank.parent[clique]]):
        above[i] *= shared[maps[i]]
    return total


@kernel
def _map(bank: ProfileBank, work: Workspace, clique: int) -> None:
    """Write down which entry of the separator each entry of the parent belongs to, and how many in a row share it."""
    parent, maps = bank.parent[clique], work.maps[bank.first_map[clique] :]
    links = bank.first_link[clique] - bank.first_member[parent]
    size = run = 1
    maps[0] = 0
    for m in range(bank.first_member[parent], bank.first_member[parent + 1]):
        n = work.n_allowed[bank.members[m]]
        if n == 1:
            continue
        same = bank.links[links + m]
        stride = work.strides[same] // work.blocks[clique] if same >= 0 else 0
        for i in range(size - 1, -1, -1):
            position = maps[i]
            for k in range(n):
                maps[i * n + k] = position + k * stride
        size *= n
        run = run * n if same < 0 else 1
    work.runs[clique] = run


@kernel
def _distribute(bank: ProfileBank, work: Workspace, clique: int) -> None:
    """Bring a clique in line with its parent."""
    parent, block, run = bank.parent[clique], work.blocks[clique], work.runs[clique]
    n_shared = work.sizes[clique] // block
    if n_shared == 1:
        return
    above, maps = work.beliefs[bank.first_entry[parent] :], work.maps[bank.first_map[clique] :]
    posterior = work.joint[:n_shared]
    posterior[:] = 0.0
    for i in range(0, work.sizes[parent], run):
        posterior[maps[i]] += _sum(above, i, run)
    beliefs, shared = work.beliefs[bank.first_entry[clique] :], work.shared[bank.first_shared[clique] :]
    for s in range(n_shared):
        factor = posterior[s] / shared[s] if shared[s] > 0.0 else 0.0
        for i in range(s * block, (s + 1) * block):
            beliefs[i] *= factor
        shared[s] = posterior[s]


@kernel
def _marginal(bank: ProfileBank, work: Workspace, v: int) -> None:
    """Sum the belief of a variable's topmost clique over all others."""
    marginal = work.marginals[v]
    for state in range(MAX_STATES):
        marginal[state] = 0.0
    n = work.n_allowed[v]
    if n == 1:
        marginal[work.allowed[v, 0]] = 1.0
        return
    clique = bank.home[v]
    m = bank.first_member[clique]
    while bank.members[m] != v:
        m += 1
    at, beliefs = wide(0), work.beliefs[bank.first_entry[clique] :]
    stride = int(work.strides[m])
    for _ in range(work.sizes[clique] // (stride * n)):
        for k in range(n):
            marginal[work.allowed[v, k]] += _sum(beliefs, at, stride)
            at += stride


@kernel
def _sum(values: NDArray[np.float64], first: int, count: int) -> float:
    """Sum a run of values in four interleaved chains, which a processor can add at the same time."""
    if count == 1:
        return float(values[first])
    a = b = c = d = 0.0
    end = first + count
    i = first
    while i + 3 < end:
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
        i += 4
    while i < end:
        a += values[i]
        i += 1
    return (a + b) + (c + d)
