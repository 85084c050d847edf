"""Prompts that begin alike, as a prefix cache sees them: block ids of a trace turned into contents of prompts.

Some traces name the blocks of every prompt: equal ids are equal tokens behind equal tokens, so that prompts are
paths in a tree. An engine knows two shared parts of a prompt (`llmsched_gym.workloads.contents`): the
application's prefix and the chain. So the tree is cut into lines: from each node the line goes on to the child
that most prompts pass, and every other child begins a line of its own. A prompt's chain is the line that its
shared blocks end in, and its first part is an earlier line. Up to two lines this is exact. Deeper down something
is computed once more: what lies before the first part's own line, or between the place where it is left and the
chain's line; `_first_parts` weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PrefixTree(NamedTuple):
    """What prompts share.

    Attributes:
        contents: int64 (n, 5), `llmsched_gym.workloads.contents.COLUMNS`.
        shared_tokens: int64 (n,) Leading tokens that a prompt of before had: what a cache that forgets nothing finds.
    """

    contents: NDArray[np.int64]
    shared_tokens: NDArray[np.int64]


def prefix_tree(blocks: Sequence[NDArray[np.int64]], prompt_tokens: NDArray[np.int64], block_tokens: int) -> PrefixTree:
    """Find out what prompts share.

    Args:
        blocks: Block ids of each prompt, in the order in which the prompts come.
        prompt_tokens: int (n,).
        block_tokens: Tokens of a block; the last one of a prompt may hold fewer.
    """
    passing: dict[int, int] = {}
    shared = np.zeros(len(blocks), np.int64)
    for row, ids in enumerate(blocks):
        known = 0
        for block in ids.tolist():
            before = passing.get(block, 0)
            known += before > 0
            passing[block] = before + 1
        shared[row] = known * block_tokens
    lines, starts, parents = _lines(blocks, passing)
    firsts, leaves = _first_parts(starts, parents)
    contents = np.zeros((len(blocks), 5), np.int64)
    for row, ids in enumerate(blocks):
        depth = 0
        while depth < len(ids) and passing[int(ids[depth])] > 1:
            depth += 1
        contents[row] = (-1, 0, -1, 0, 0)
        if depth:
            line = lines[int(ids[depth - 1])]
            end = min(depth * block_tokens, int(prompt_tokens[row]))
            first = min(leaves[line] * block_tokens, end)
            contents[row] = (firsts[line], first, line, end, end)
    return PrefixTree(contents, np.minimum(shared, prompt_tokens))


def _lines(blocks: Sequence[NDArray[np.int64]], passing: dict[int, int]) -> tuple[dict[int, int], list[int], list[int]]:
    """Cut the tree into lines: of each block that several prompts pass, its line; of each line, where it begins and the
    line that it branches off from (-1: none).
    """
    heavy: dict[int, int] = {}
    for ids in blocks:
        for block, child in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            if block not in heavy or passing[child] > passing[heavy[block]]:
                heavy[block] = child
    lines: dict[int, int] = {}
    starts: list[int] = []
    parents: list[int] = []
    for ids in blocks:
        before = -1
        for depth, block in enumerate(ids.tolist()):
            if passing[block] < 2:
                break
            if block not in lines:
                if depth and heavy[before] == block:
                    lines[block] = lines[before]
                else:
                    lines[block] = len(starts)
                    starts.append(depth)
                    parents.append(lines[before] if depth else -1)
            before = block
    return lines, starts, parents


def _first_parts(starts: list[int], parents: list[int]) -> tuple[list[int], list[int]]:
    """Choose the first part of each line: one of the lines before it (-1: none), and the block where it is left.

    The line at the root costs nothing. Another one costs what lies before its own chain, once, and saves blocks of all
    lines further down that take it; it is chosen where it saves more.
    """
    firsts, leaves = [-1] * len(starts), [0] * len(starts)
    below: list[list[tuple[int, int]]] = [[] for _ in starts]
    for line in range(len(starts)):
        before, leave = parents[line], starts[line]
        while before >= 0:
            below[before].append((line, leave))
            firsts[line], leaves[line] = before, leave
            before, leave = parents[before], starts[before]
    for line, parent in enumerate(parents):
        gain = sum(max(0, leave - leaves[other]) for other, leave in below[line])
        if parent >= 0 and gain > leaves[line]:
            for other, leave in below[line]:
                if leave > leaves[other]:
                    firsts[other], leaves[other] = line, leave
    return firsts, leaves
