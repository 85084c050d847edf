"""Latency profiles: how long one iteration of an LLM engine takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

PS_PER_MS: Final = 1_000_000_000
"""Picoseconds in a millisecond."""


@dataclass(frozen=True)
class LatencyProfile:
    """Iteration time a + b·n_decode + c·prefill_tokens + d·Σ decode context, in integer picoseconds.

    Attributes:
        name: Profile name, as cluster files use it.
        iteration_ps: a, once per iteration.
        decode_ps: b, per sequence that decodes.
        prefill_ps: c, per prompt token computed.
        context_ps: d, per token of KV cache that a decoding sequence attends to (before the step).
        provenance: Source, licence, hardware, fit error; JSON-able.
    """

    name: str
    iteration_ps: int
    decode_ps: int
    prefill_ps: int
    context_ps: int
    provenance: dict[str, Any] = field(default_factory=dict)
