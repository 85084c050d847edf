"""The state of simulated LLM engines: record arrays, the dtype of each, and how to allocate and reset them.

Four arrays describe any number of engines; row ``e`` of each belongs to engine ``e``. A field comment states the unit;
*step* counts the iterations that the engine has run. Compiled functions in `engine` and `kv_cache` work on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.state import FAR
from llmsched_gym.errors import InputError
from llmsched_gym.numbers import real_number, whole_number

MAX_BLOCK_SIZE: Final = 1024
"""Largest KV block, in tokens, that an engine row has room to count residues for."""

MAX_SEQUENCES: Final = 1 << 20
"""Most running sequences: each has a row, in use or not."""

MAX_INT32: Final = 2**31 - 1
"""Most tokens per iteration and KV blocks that an engine row can count."""

ENGINE: Final = np.dtype(
    [
        # what it is
        ("iteration_ps", "i8"),  # a of the latency profile
        ("decode_ps", "i8"),  # b
        ("prefill_ps", "i8"),  # c
        ("context_ps", "i8"),  # d
        ("attention_ps", "i8"),  # e
        ("max_num_seqs", "i4"),
        ("max_num_batched_tokens", "i4"),
        ("block_size", "i4"),  # tokens per KV block
        ("total_blocks", "i4"),
        ("watermark_blocks", "i4"),  # kept free by admissions
        ("prefix_caching", "i4"),  # 0 or 1
        # the segment in flight: `segment` iterations with one batch
        ("clock_ps", "i8"),  # where the segment starts; between segments: the boundary
        ("end_ps", "i8"),  # where it ends
        ("event_ns", "i8"),  # end_ps rounded up to ns; FAR: no segment in flight
        ("period_ps", "i8"),  # length of its first iteration
        ("growth_ps", "i8"),  # by how much each iteration is longer than the one before
        ("segment", "i8"),  # iterations in it
        ("iterations", "i8"),  # step at which it starts
        # RUNNING: rows 0 .. running - 1 of `sequences`, in scheduling order
        ("next_done", "i8"),  # earliest done_step of the running sequences that decode or are about to
        ("context_tokens", "i8"),  # prompt + generated, summed over the decoding sequences
        ("joining_context", "i8"),  # what the joining sequences add to it at the end of the iteration
        ("running", "i4"),
        ("decoding", "i4"),  # the first rows: one token per iteration each
        ("joining", "i4"),  # the next rows: their prefill ends with the iteration in flight
        ("attended", "i8"),  # tokens before each prompt token that the iteration computes, summed
        ("prefill_done", "i4"),  # tokens in KV of the row after those, whose prefill is under way
        ("prefill_target", "i4"),  # tokens that its prefill computes in all
        ("prefill_generated", "i4"),  # tokens that it had generated before a restart
        ("prefill_tokens", "i4"),  # prompt tokens computed by the iteration in flight
        # WAITING: a ring in `waiting`
        ("waiting_head", "i4"),
        ("waiting_len", "i4"),
        # KV blocks: used + reclaimable + free == total
        ("free_blocks", "i4"),
        ("reclaimable_blocks", "i4"),  # in prefix entries that no running sequence holds
        ("lru_head", "i4"),  # least recently used of those entries; -1: none
        ("lru_tail", "i4"),
        ("phases", "i4", (MAX_BLOCK_SIZE,)),  # decoding or joining sequences by `base` modulo block_size
    ],
    align=True,
)
"""One row per engine."""

SEQUENCE: Final = np.dtype(
    [
        ("done_step", "i8"),  # step at which its last token is there
        ("first_step", "i8"),  # generated tokens = step - first_step
        ("base", "i8"),  # prompt + generated tokens = step + base
        ("task", "i4"),  # row in the task array
        ("app_blocks", "i4"),  # its blocks that belong to the application's prefix entry
        ("job_blocks", "i4"),  # its blocks that belong to the job's prefix entry; -1: holds none
    ],
    align=True,
)
"""One row per running sequence: (engines, max_num_seqs)."""

WAITING: Final = np.dtype([("task", "i4"), ("generated", "i4")], align=True)
"""One row per waiting request: (engines, capacity); `generated` tokens are recomputed after a preemption."""

PREFIX: Final = np.dtype(
    [
        ("blocks", "i4"),  # full blocks cached
        ("start", "i4"),  # position of the first one: what precedes belongs to the application's entry
        ("holders", "i4"),  # running sequences that hold it
        ("previous", "i4"),  # neighbours in the LRU list, while it has blocks and no holder
        ("next", "i4"),
    ],
    align=True,
)
"""One row per prefix id: (engines, prefixes)."""


@dataclass(frozen=True)
class EngineConfig:
    """One LLM engine.

    Attributes:
        profile: How long an iteration takes.
        max_num_seqs: Most running sequences.
        max_num_batched_tokens: Most tokens per iteration; at least `max_num_seqs`.
        kv_blocks: KV cache capacity in blocks; the default never runs short.
        block_size: Tokens per block, 1 to 1024.
        watermark: Share of the blocks that admissions leave free.
        prefix_caching: Reuse KV blocks of shared prefixes.
    """

    profile: LatencyProfile
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    kv_blocks: int = 1 << 20
    block_size: int = 16
    watermark: float = 0.01
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        """Refuse what no engine could run.

        Raises:
            InputError: A field is out of range.
        """
        source = f"engine {self.profile.name}"
        for name, most in (
            ("max_num_seqs", MAX_SEQUENCES),
            ("max_num_batched_tokens", MAX_INT32),
            ("block_size", MAX_BLOCK_SIZE),
            ("kv_blocks", MAX_INT32),
        ):
            number = whole_number(getattr(self, name))
            if number is None or not 1 <= number <= most:
                raise InputError(source, name, getattr(self, name), f"a whole number from 1 to {most}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            allowed = f"at least max_num_seqs = {self.max_num_seqs}"
            raise InputError(source, "max_num_batched_tokens", self.max_num_batched_tokens, allowed)
        share = real_number(self.watermark)
        if share is None or not 0.0 <= share < 1.0:
            raise InputError(source, "watermark", self.watermark, "a number >= 0 and < 1")

    @property
    def watermark_blocks(self) -> int:
        """Blocks that admissions leave free."""
        return int(self.watermark * self.kv_blocks)

    @property
    def kv_tokens(self) -> int:
        """Most KV tokens of one request (`kv_tokens_needed`) that the engine can ever serve."""
        return (self.kv_blocks - self.watermark_blocks) * self.block_size


@kernel
def kv_tokens_needed(prompt_tokens: int, output_tokens: int) -> int:
    """KV tokens of a request just before its last token; more than `EngineConfig.kv_tokens` can never be served."""
    return prompt_tokens + output_tokens - 1


class Engines(NamedTuple):
    """The arrays that the compiled functions take, in that order."""

    engines: NDArray[Any]
    sequences: NDArray[Any]
    waiting: NDArray[Any]
    prefixes: NDArray[Any]


def new_engines(configs: Sequence[EngineConfig], capacity: int, n_prefixes: int) -> Engines:
    """Allocate idle engines.

    Args:
        configs: One per engine.
        capacity: Most requests that one engine holds at a time, running and waiting.
        n_prefixes: Number of prefix ids that tasks may name (`Workload.n_prefixes`).

    Returns:
        The arrays, reset.
    """
    n = len(configs)
    slots = max((config.max_num_seqs for config in configs), default=1)
    engines = np.zeros(n, ENGINE)
    for row, config in zip(engines, configs, strict=True):
        profile = config.profile
        row["iteration_ps"], row["decode_ps"] = profile.iteration_ps, profile.decode_ps
        row["prefill_ps"], row["context_ps"] = profile.prefill_ps, profile.context_ps
        row["attention_ps"] = profile.attention_ps
        row["max_num_seqs"], row["max_num_batched_tokens"] = config.max_num_seqs, config.max_num_batched_tokens
        row["block_size"], row["total_blocks"] = config.block_size, config.kv_blocks
        row["watermark_blocks"], row["prefix_caching"] = config.watermark_blocks, config.prefix_caching
    state = Engines(
        engines,
        np.zeros((n, slots), SEQUENCE),
        np.zeros((n, max(capacity, slots)), WAITING),
        np.zeros((n, max(n_prefixes, 1)), PREFIX),
    )
    reset(state)
    return state


_KEPT: Final = frozenset((ENGINE.names or ())[:11])
_FRESH: Final[dict[str, int]] = {"event_ns": FAR, "next_done": FAR, "lru_head": -1, "lru_tail": -1}


def reset(state: Engines) -> None:
    """Make all engines idle and empty at time 0, in place."""
    for name in ENGINE.names or ():
        if name not in _KEPT:
            state.engines[name] = _FRESH.get(name, 0)
    state.engines["free_blocks"] = state.engines["total_blocks"]
    state.prefixes[...] = np.zeros((), PREFIX)
