"""The part of a job's evidence that beliefs about the job depend on, so that it recurs more often.

A finished stage tells nothing more once all stages that it depends on are finished too: a clique of the junction tree
whose variables are all known sends nothing to its neighbours. Of such variables the state is left out. Jobs that differ
only in them have the same posterior, to the last bit (`tests/profiler/test_relevance.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.profiler.bank import ProfileBank
from llmsched_gym.profiler.integers import lowest_bit, wide


@kernel
def write_relevant(bank: ProfileBank, app: int, key: NDArray[np.uint16], words: NDArray[np.uint32]) -> bool:
    """Write down the relevant part of some evidence.

    Args:
        bank: Profiles.
        app: Index of the application in the bank.
        key: `Inference.key`: masks, and what is still to come.
        words: uint32 (variables of the application,) Filled; both in one number per variable.

    Returns:
        False if the network cannot explain what is left out, so that all evidence is relevant.
    """
    n = len(words)
    for v in range(n):
        words[v] = _word(key, v) if key[n + v] == 1 else wide(key[n + v]) << 16
    start = wide(bank.first_variable[app])
    for clique in range(bank.first_clique[app], bank.first_clique[app + 1]):
        entry, known = wide(bank.first_entry[clique]), True
        for m in range(bank.first_member[clique], bank.first_member[clique + 1]):
            mask = wide(key[bank.members[m] - start])
            if mask == 0:
                return False
            known = known and mask & (mask - 1) == 0
            entry += lowest_bit(mask) * bank.strides[m]
        if not known:
            for m in range(bank.first_member[clique], bank.first_member[clique + 1]):
                words[bank.members[m] - start] = _word(key, bank.members[m] - start)
        elif bank.potentials[entry] == 0.0:
            return False
    return True


@kernel
def write_all(key: NDArray[np.uint16], words: NDArray[np.uint32]) -> None:
    """Write down all evidence; arguments as of `write_relevant`."""
    for v in range(len(words)):
        words[v] = _word(key, v)


@kernel
def _word(key: NDArray[np.uint16], v: int) -> int:
    return wide(key[v]) | wide(key[len(key) // 2 + v]) << 16
