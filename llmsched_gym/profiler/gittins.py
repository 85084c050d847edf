"""The Gittins index of work to come that has a few values of equal probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel


@kernel
def gittins_index(atoms: NDArray[np.float64], received: float) -> float:
    """Return the Gittins index of a job that has received some of its work and is not finished.

    That is the least, over quotas t, of E[min(S, t)] / P(S <= t), where S is the work to come given that it is more
    than nothing (Gittins 1979); the least lies at a value that S may take.

    Args:
        atoms: (n,) The values that all of its work may take, ascending, each as probable as the others.
        received: What it has received of them. Values up to that are ruled out, as the job is not finished.

    Returns:
        In the unit of the atoms; infinite if all of them are ruled out.
    """
    ruled_out = 0
    while ruled_out < len(atoms) and atoms[ruled_out] <= received:
        ruled_out += 1
    least, finished_s = np.inf, 0.0
    for k in range(ruled_out, len(atoms)):
        left = atoms[k] - received
        finished_s += left
        others = len(atoms) - 1 - k
        least = min(least, (finished_s + others * left) / (k + 1 - ruled_out))
    return least
