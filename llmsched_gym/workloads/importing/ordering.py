"""Which steps had to end before others could start, told from when they ran and what called them.

Calls that one caller made follow each other in time: one follows all that had ended when it started. Of what different
callers did, only the callers are compared, so steps of two agents that ran side by side wait for nothing of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain

OVERLAP_NS: Final = 1_000_000
"""Calls of one caller that overlap by no more than this, and half of the shorter, follow each other: clocks are read
around a call, not in it."""

MOST_SIBLINGS: Final = 3000
"""Most calls of one caller: every two of them are compared."""

_MOST_LEVELS: Final = 300


@dataclass(eq=False, slots=True)
class Item:
    """Something that ran: a step, a caller of other items, or both: then its step comes before the others.

    Attributes:
        start_ns: When it started.
        end_ns: When it ended.
        step: Number of its step; -1: none.
        inside: What it called.
    """

    start_ns: int
    end_ns: int
    step: int = -1
    inside: list[Item] = field(default_factory=list)


def predecessors(root: Item, n_steps: int, source: object, place: str) -> list[list[int]]:
    """Tell which steps each step follows.

    Args:
        root: What holds all items.
        n_steps: Number of steps; each stands in one item.
        source: Where the items came from, for messages.
        place: Where in there.

    Returns:
        Per step, the numbers of those it follows.

    Raises:
        InputError: Items are nested too deeply, or one holds too many.
    """
    after: list[list[int]] = [[] for _ in range(n_steps)]

    def link(item: Item, before: list[int], level: int) -> list[int]:
        """Let an item follow the steps `before`; returns the steps that its end waits for."""
        if level > _MOST_LEVELS:
            raise InputError(source, place, Plain("deeper nesting"), f"calls at most {_MOST_LEVELS} levels deep")
        if len(item.inside) > MOST_SIBLINGS:
            allowed = f"at most {MOST_SIBLINGS} calls of one caller: give runs of their own, or fewer of them"
            raise InputError(source, place, Plain(f"{len(item.inside)} calls of one caller"), allowed)
        if item.step >= 0:
            after[item.step] = before
            before = [item.step]
        if not item.inside:
            return before
        inside = sorted(item.inside, key=lambda one: (one.start_ns, one.end_ns))
        follows = _follows(inside)
        exits: list[list[int]] = []
        for k, one in enumerate(inside):
            earlier = np.flatnonzero(follows[k]).tolist()
            exits.append(link(one, [step for e in earlier for step in exits[e]] if earlier else before, level + 1))
        return [step for e in np.flatnonzero(~follows.any(axis=0)) for step in exits[e]]

    link(root, [], 0)
    return after


def _follows(items: list[Item]) -> NDArray[np.bool_]:
    """Return bool (n, n): item k follows item e directly; the items are sorted by start."""
    start = np.array([item.start_ns for item in items], dtype=np.int64)
    end = np.array([item.end_ns for item in items], dtype=np.int64)
    length = end - start
    slack = np.minimum(OVERLAP_NS, np.minimum(length[:, None], length[None, :]) // 2)
    earlier = np.tri(len(items), k=-1, dtype=np.bool_)
    follows = earlier & (end[None, :] <= start[:, None] + slack)
    between = follows.astype(np.float32)
    return follows & ~(between @ between > 0)
