"""The state of simulated LLM engines: record arrays, the dtype of each, and how to allocate and reset them.

Five arrays describe any number of engines; row ``e`` of each belongs to engine ``e``, and `engine_at` gives the rows of
one as an `Engine`, which the compiled functions in `engine`, `kv_cache` and `extents` take. A field comment states the
unit; *step* counts the iterations that the engine has scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel, kernel
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


class PrefixCache(IntEnum):
    """What an engine's prefix cache keeps."""

    NOTHING = 0
    BLOCKS = 1
    """Full blocks, each by itself, as vLLM."""
    PREFIXES = 2
    """Prefixes of applications and jobs as wholes, and nothing else: what the environments of version 0 have."""


ITERATION: Final = np.dtype(
    [
        ("length_ps", "i8"),
        ("decode_context", "i8"),  # prompt + generated tokens of the decoding sequences
        ("prefill_context", "i8"),  # tokens of each chunk times the tokens before it, summed
        ("n_decode", "i4"),
        ("prefill_tokens", "i4"),
    ],
    align=True,
)
"""What one iteration computes."""

ENGINE: Final = np.dtype(
    [
        # what it is
        ("latency_ps", "i8", (5,)),  # coefficients of its latency profile
        ("max_num_seqs", "i4"),
        ("max_num_batched_tokens", "i4"),
        ("block_size", "i4"),  # tokens per KV block
        ("total_blocks", "i4"),
        ("watermark_blocks", "i4"),  # kept free by admissions beside running sequences
        ("prefix_cache", "i4"),  # PrefixCache
        ("async_scheduling", "i4"),  # 0 or 1
        # the segment in flight: `segment` boundaries, of which only the last is of interest
        ("clock_ps", "i8"),  # where the segment starts; between segments: the boundary
        ("end_ps", "i8"),  # where it ends
        ("event_ns", "i8"),  # end_ps rounded up to ns; FAR: no segment in flight
        ("growth_ps", "i8"),  # by how much each iteration is longer than the one before
        ("segment", "i8"),
        ("iterations", "i8"),  # step: iterations scheduled, the first ones of the segment included
        ("flying", "i4"),  # of these, how many have not ended; two with asynchronous scheduling
        ("now", ITERATION),  # the one that runs: the first of the segment
        ("next", ITERATION),  # the one behind it, if it is scheduled
        # RUNNING: rows 0 .. running - 1 of `running`, in scheduling order
        ("next_done", "i8"),  # earliest done_step of the sequences that go on decoding
        ("context_tokens", "i8"),  # prompt + generated tokens of the sequences that go on decoding
        ("running", "i4"),
        ("decoding", "i4"),  # the first rows: their prefill has been scheduled to its end
        ("leaving", "i4"),  # of these, how many wait only for their last token, which an iteration in flight brings
        ("prefill_done", "i4"),  # tokens in KV of the row after those, whose prefill is under way
        ("prefill_target", "i4"),  # tokens that its prefill computes in all
        ("prefill_generated", "i4"),  # tokens that it had generated before a restart
        # WAITING: a ring in `waiting`
        ("waiting_head", "i4"),
        ("waiting_len", "i4"),
        ("preempted", "i4"),  # how many at its head the last scheduled iteration has preempted
        ("settled_blocks", "i4"),  # taken before the segment ends, as somebody looked (`transfer.settle`)
        ("ahead_blocks", "i4"),  # KV blocks taken less those let go by the iteration that is scheduled ahead
        # KV blocks: used + cached + free == total
        ("free_blocks", "i4"),  # without content
        ("cached_blocks", "i4"),  # in extents that nobody holds
        ("spare_extent", "i4"),  # head of the list of extents that were in use; 0: none
        ("extents_used", "i4"),  # rows that were ever in use
        ("spare_content", "i4"),  # likewise for contents of single requests; -1: none
        ("contents_used", "i4"),
        ("admissions", "i4"),  # numbers the copies of contents
        ("shared_chains", "i4"),  # chains to which several running sequences add
        ("phases", "i4", (MAX_BLOCK_SIZE,)),  # sequences that go on decoding by `base` modulo block_size
    ],
    align=True,
)
"""One row per engine."""

SEQUENCE: Final = np.dtype(
    [
        ("join_step", "i8"),  # step that ends its prefill, and brings its first token since it was admitted
        ("done_step", "i8"),  # step that brings its last token
        ("first_step", "i8"),  # generated tokens = step - first_step
        ("base", "i8"),  # prompt + generated tokens = step + base
        ("task", "i4"),  # row in the task array
        ("hits", "i4"),  # leading blocks that it found in the cache
        ("app_blocks", "i4"),  # leading blocks of its application's prefix; in whole prefixes, those it shares
        ("shared_blocks", "i4"),  # leading blocks of that and of its job's chain
        ("job_blocks", "i4"),  # in whole prefixes: blocks of its chain that it shares; -1: holds none
        ("copy", "i4"),  # number of the copies that it makes of contents
        ("written", "i4"),  # leading blocks that its chain's extents show, while it adds to the chain
        ("own", "i4"),  # content row of the tokens that are its own; -1: never preempted
    ],
    align=True,
)
"""One row per running sequence: (engines, max_num_seqs)."""

WAITING: Final = np.dtype(
    [
        ("task", "i4"),
        ("generated", "i4"),  # tokens before it was preempted, which are recomputed
        ("coming", "i4"),  # of these, how many an iteration in flight brings
        ("own", "i4"),  # as in SEQUENCE
        ("fetched_blocks", "i4"),  # leading blocks that come from elsewhere, when it is first admitted
    ],
    align=True,
)
"""One row per waiting request: (engines, capacity)."""

CONTENT: Final = np.dtype(
    [
        ("first", "i4"),  # its first extent; 0: none
        ("writers", "i4"),  # running sequences that add to it
    ],
    align=True,
)
"""One row per content: (engines, contents + capacity). Application prefixes and chains come first, then what is the own
of a request that was preempted."""

EXTENT: Final = np.dtype(
    [
        ("content", "i4"),  # -1: nobody will ask for it again
        ("copy", "i4"),  # number of the copy, while the sequence that made it runs
        ("first", "i4"),  # blocks first .. stop - 1 of the content
        ("stop", "i4"),
        ("holders", "i4"),  # running sequences that hold it
        ("older", "i4"),  # neighbours in the queue of extents that nobody holds
        ("newer", "i4"),
        ("after", "i4"),  # next extent of the content
    ],
    align=True,
)
"""One row per extent: (engines, kv_blocks + 1). Row 0 is no extent, but both ends of the queue."""


@dataclass(frozen=True)
class EngineConfig:
    """One LLM engine.

    Attributes:
        profile: How long an iteration takes.
        max_num_seqs: Most running sequences.
        max_num_batched_tokens: Most tokens per iteration; at least `max_num_seqs`.
        kv_blocks: KV cache capacity in blocks; the default never runs short.
        block_size: Tokens per block, 1 to 1024.
        watermark: Share of the blocks that admissions leave free beside running sequences.
        prefix_caching: Reuse KV blocks of shared prefixes.
        async_scheduling: Schedule each iteration while the one before it runs, as vLLM does on GPUs.
        whole_prefixes: Let the cache keep application and job prefixes as wholes and nothing else, as in the
            environments of version 0; vLLM keeps every full block by itself.
    """

    profile: LatencyProfile
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    kv_blocks: int = 1 << 20
    block_size: int = 16
    watermark: float = 0.0
    prefix_caching: bool = True
    async_scheduling: bool = False
    whole_prefixes: bool = False

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
    def prefix_cache(self) -> PrefixCache:
        """What its prefix cache keeps."""
        if not self.prefix_caching:
            return PrefixCache.NOTHING
        return PrefixCache.PREFIXES if self.whole_prefixes else PrefixCache.BLOCKS

    @property
    def watermark_blocks(self) -> int:
        """Blocks that admissions beside running sequences leave free: of all that vLLM has, one of them unused."""
        return int(self.watermark * (self.kv_blocks + 1))

    @property
    def kv_tokens(self) -> int:
        """Most KV tokens of one request (`kv_tokens_needed`) that the engine can ever serve."""
        return self.kv_blocks * self.block_size


@kernel
def kv_tokens_needed(prompt_tokens: int, output_tokens: int) -> int:
    """KV tokens of a request just before its last token; more than `EngineConfig.kv_tokens` can never be served."""
    return prompt_tokens + output_tokens - 1


MOVING: Final = np.dtype([("join_ns", "i8"), ("task", "i4"), ("fetched_blocks", "i4")], align=True)
"""One row per task that waits for its model or its inputs: (executors, slots), by when it joins, then by dispatch."""


class Engines(NamedTuple):
    """The arrays of some engines; the first axis counts engines."""

    rows: Any
    running: NDArray[Any]
    waiting: NDArray[Any]
    contents: NDArray[Any]
    extents: NDArray[Any]


class Engine(NamedTuple):
    """One engine: views of its rows of `Engines`.

    Attributes:
        row: (1,) `ENGINE`.
        running: (max_num_seqs,) `SEQUENCE`.
        waiting: (capacity,) `WAITING`, a ring.
        contents: `CONTENT`.
        extents: `EXTENT`.
    """

    row: Any
    running: Any
    waiting: Any
    contents: Any
    extents: Any


@inlined_kernel
def engine_at(engines: Engines, e: int) -> Engine:
    """Return engine `e`, in compiled code: kernels cannot hand views to Python."""
    return Engine(
        engines.rows[e : e + 1], engines.running[e], engines.waiting[e], engines.contents[e], engines.extents[e]
    )


def new_engines(configs: Sequence[EngineConfig], capacity: int, n_contents: int) -> Engines:
    """Allocate idle engines.

    Args:
        configs: One per engine.
        capacity: Most requests that one engine holds at a time, running and waiting.
        n_contents: Number of application prefixes and chains that tasks may name (`Contents.total`).

    Returns:
        The arrays, reset. Most rows of extents are never touched, and so take no memory.
    """
    n = len(configs)
    slots = max((config.max_num_seqs for config in configs), default=1)
    capacity = max(capacity, slots)
    most_extents = max((_most_extents(config, n_contents) for config in configs), default=0)
    rows = np.zeros(n, ENGINE)
    for row, config in zip(rows, configs, strict=True):
        row["latency_ps"] = config.profile.coefficients_ps
        row["max_num_seqs"], row["max_num_batched_tokens"] = config.max_num_seqs, config.max_num_batched_tokens
        row["block_size"], row["total_blocks"] = config.block_size, config.kv_blocks
        row["watermark_blocks"], row["prefix_cache"] = config.watermark_blocks, config.prefix_cache
        row["async_scheduling"] = config.async_scheduling
    state = Engines(
        rows,
        np.zeros((n, slots), SEQUENCE),
        np.zeros((n, capacity), WAITING),
        np.zeros((n, n_contents + capacity), CONTENT),
        np.zeros((n, most_extents + 1), EXTENT),
    )
    reset(state, n_contents)
    return state


def _most_extents(config: EngineConfig, n_contents: int) -> int:
    """Return how many extents there can be: none is empty, and a whole prefix is one."""
    return {PrefixCache.NOTHING: 0, PrefixCache.PREFIXES: n_contents, PrefixCache.BLOCKS: config.kv_blocks}[
        config.prefix_cache
    ]


_KEPT: Final = frozenset((ENGINE.names or ())[:8])
_FRESH: Final[dict[str, int]] = {"event_ns": FAR, "next_done": FAR, "spare_content": -1}


def reset(state: Engines, n_contents: int) -> None:
    """Make all engines idle and empty at time 0, in place."""
    for name in ENGINE.names or ():
        if name not in _KEPT:
            state.rows[name] = _FRESH.get(name, 0)
    state.rows["free_blocks"] = state.rows["total_blocks"]
    state.rows["contents_used"] = n_contents
    state.contents[...] = np.zeros((), CONTENT)
    state.extents[:, :1] = np.zeros((), EXTENT)
    state.extents[state.rows["prefix_cache"] == PrefixCache.PREFIXES] = np.zeros((), EXTENT)
