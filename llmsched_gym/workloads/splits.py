"""Seeds of workloads: a split and an integer give independent, named random streams."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np

from llmsched_gym.errors import InputError, suggest
from llmsched_gym.numbers import whole_number

SPLITS: Final = {"train": 0, "eval": 1, "profile": 2}
"""Splits and their codes. Jobs of different splits never coincide, whatever the seeds."""

MAX_SEED: Final = 2**63 - 1


def check_seed(seed: Any, source: object = "workload") -> int:
    """Return `seed` as an int.

    Raises:
        InputError: It is no `whole_number` from 0 to `MAX_SEED`.
    """
    whole = whole_number(seed)
    if whole is None or not 0 <= whole <= MAX_SEED:
        raise InputError(source, "seed", seed, f"a whole number from 0 to {MAX_SEED}")
    return whole


def check_split(split: Any, source: object = "workload") -> str:
    """Return a split.

    Raises:
        InputError: There is none of that name.
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise InputError(source, "split", split, suggest(str(split), SPLITS))
    return split


def stream(split: str, seed: int, name: str) -> np.random.Generator:
    """Return the random stream `name` of a split and seed.

    A stream depends on nothing but these three, so drawing more from one never shifts another.

    Raises:
        InputError: Unknown split, or a seed that `check_seed` refuses.
    """
    check_split(split)
    seed = check_seed(seed)
    # SeedSequence splits integers into 32-bit words and pads with zeros. Fixed widths keep (split, seed) unambiguous:
    # [seed, split] would give seed 5 of split 1 and seed 5 + 2**32 of split 0 the same state.
    entropy = [SPLITS[split], seed & 0xFFFFFFFF, seed >> 32]
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    words = (key & 0xFFFFFFFF, key >> 32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=words)))
