"""Prompts as token ids that share prefixes exactly where the workload says so.

vLLM's prefix cache is a table of blocks keyed by their tokens and all tokens before them, so two prompts share cache
where, and only where, their leading ids are equal. The id at a position therefore depends on the position and on what
the content there belongs to: the application's prefix, the job's chain, or this one task.

Which of these it is says `workloads/contents.py`. A chain grows by the prompts and outputs of the tasks that continue
it: the ids that a server really generated take the place of made-up ones once they are known (`PromptBook.record`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class TokenRange:
    """Ids that prompts are made of.

    Attributes:
        first: Smallest id. The default leaves out what models put at the start of a vocabulary: special tokens and
            single bytes.
        stop: One above the largest id. The default is inside every vocabulary, that of the dummy models included.
    """

    first: int = 259
    stop: int = 1000

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            InputError: It is empty, or reaches below zero.
        """
        if not 0 <= self.first < self.stop:
            raise InputError("token range", "first, stop", Plain(f"{self.first}, {self.stop}"), "0 <= first < stop")


DEFAULT_TOKENS = TokenRange()


def content_ids(content: str, start: int, stop: int, tokens: TokenRange = DEFAULT_TOKENS) -> NDArray[np.int64]:
    """Return the ids at positions `start` to `stop` of one content.

    Args:
        content: Name of the content; other names get unrelated ids.
        start: First position.
        stop: One above the last position.
        tokens: Ids to use.

    Returns:
        int64 (stop - start,), a function of the arguments only.
    """
    key = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")
    # SplitMix64, seeded with the content and counted on by the position.
    mixed = np.arange(start, stop, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return tokens.first + (mixed % np.uint64(tokens.stop - tokens.first)).astype(np.int64)


class PromptBook:
    """The prompts of one workload.

    Args:
        workload: Whose tasks.
        tokens: Ids to use; all below the vocabulary of every server's model.
        epoch: Prompts of different epochs share nothing, so that an episode on servers that run on finds no content
            of an earlier episode in their caches.
    """

    def __init__(self, workload: Workload, tokens: TokenRange = DEFAULT_TOKENS, *, epoch: int = 0) -> None:
        self._rows = workload.tasks
        self._tokens = tokens
        self._epoch = epoch
        self._own_from = workload.contents.own_from
        self._extends = workload.contents.extends(workload.tasks)
        self._generated: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}

    def prompt(self, task: int) -> list[int]:
        """Return the prompt of an LLM task: exactly ``prompt_tokens`` ids."""
        row = self._rows[task]
        length = int(row["prompt_tokens"])
        shared = int(row["app_prefix_tokens"]) if row["app_prefix"] >= 0 else 0
        chain = int(row["job_prefix"])
        chained = min(length, int(self._own_from[task]))
        ids = np.empty(length, dtype=np.int64)
        ids[:shared] = self._content(f"app {row['app_prefix']}", 0, shared)
        ids[shared:chained] = self._content(f"chain {chain}", shared, chained)
        ids[chained:] = self._content(f"task {task}", chained, length)
        for start, generated in self._generated.get(chain, ()):
            low, high = max(start, shared), min(start + len(generated), int(row["job_prefix_tokens"]))
            if low < high:
                ids[low:high] = generated[low - start : high - start]
        return ids.tolist()

    def record(self, task: int, output: Sequence[int]) -> None:
        """Note what a server generated for a task: later prompts of its chain repeat it, and find it in the cache."""
        if self._extends[task]:
            row = self._rows[task]
            generated = np.asarray(output, dtype=np.int64)
            self._generated.setdefault(int(row["job_prefix"]), []).append((int(row["prompt_tokens"]), generated))

    def _content(self, content: str, start: int, stop: int) -> NDArray[np.int64]:
        return content_ids(f"{self._epoch} {content}", start, stop, self._tokens)
