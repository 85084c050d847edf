"""Latency profiles: how long one iteration of an LLM engine takes.

A profile is four coefficients, on some machines a fifth, and where they come from. Profiles ship as JSON files in
`profiles/`; users write their own:

    {
      "schema": 1,
      "name": "llama-2-7b-h100",
      "iteration_ms": 5.8,            a, once per iteration
      "decode_ms": 0.02,              b, per sequence that decodes
      "prefill_ms": 0.019,            c, per prompt token computed
      "context_ms": 0.000176,         d, per token of KV cache that a decoding sequence attends to
      "attention_ms": 0.0,            e, per prompt token computed and token before it; optional, 0 where left out
      "provenance": {...}             optional, free: source, licence, hardware, fit error
    }
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import inlined_kernel
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.files import read_json, write_atomic

PS_PER_MS: Final = 1_000_000_000
"""Picoseconds in a millisecond."""

PS_PER_NS: Final = 1_000
"""Picoseconds in a nanosecond, the shortest iteration: engines tell the ends of iterations apart by nanoseconds."""

SCHEMA_VERSION: Final = 1
"""Version of the profile files."""

PROFILES: Final = Path(__file__).parent / "profiles"
"""Folder of the profiles that ship."""

FOLDER_VARIABLE: Final = "LLMSCHED_GYM_PROFILES"
"""Environment variable with the folder of the user's own profiles."""

COEFFICIENTS: Final = ("iteration_ms", "decode_ms", "prefill_ms", "context_ms")
"""Fields of a profile file that hold a, b, c and d."""

ATTENTION: Final = "attention_ms"
"""Field of a profile file that may hold e."""

_MAX_MS: Final = 1e6


@dataclass(frozen=True)
class LatencyProfile:
    """Iteration time a + b·n_decode + c·prefill_tokens + d·Σ decode context + e·Σ prefill context, in integer ps.

    On a GPU, attention is a negligible part of a prefill, and e is 0. On a CPU it is not: prompt tokens that follow a
    long cached prefix take several times as long as those at the start.

    Attributes:
        name: Profile name, as cluster files use it.
        iteration_ps: a, once per iteration.
        decode_ps: b, per sequence that decodes.
        prefill_ps: c, per prompt token computed.
        context_ps: d, per prompt and generated token of the decoding sequences.
        provenance: Source, licence, hardware, fit error; JSON-able.
        attention_ps: e, per prompt token computed and token before it. Expected times (historical means, loads) and
            lower bounds leave it out.
    """

    name: str
    iteration_ps: int
    decode_ps: int
    prefill_ps: int
    context_ps: int
    provenance: dict[str, Any] = field(default_factory=dict)
    attention_ps: int = 0

    @classmethod
    def from_ms(
        cls,
        name: str,
        coefficients_ms: tuple[float, ...],
        provenance: dict[str, Any] | None = None,
        source: object = "",
    ) -> LatencyProfile:
        """Make a profile of a, b, c, d and perhaps e in milliseconds.

        Args:
            name: Profile name.
            coefficients_ms: a > 0; b, c, d >= 0; e >= 0, 0 where left out.
            provenance: Where they come from.
            source: What to name in errors; default: the profile.

        Raises:
            InputError: There are not four or five coefficients, or one is out of range.
        """
        source = source or f"latency profile {name}"
        if not 0 <= len(coefficients_ms) - len(COEFFICIENTS) <= 1:
            raise InputError(source, "coefficients", coefficients_ms, "four numbers a, b, c, d in milliseconds")
        for key, value in zip((*COEFFICIENTS, ATTENTION), coefficients_ms, strict=False):
            number = real_number(value)
            if number is None or not 0.0 <= number <= _MAX_MS:
                raise InputError(source, key, value, f"a number of milliseconds from 0 to {_MAX_MS:g}")
        a, b, c, d, *rest = (round(value * PS_PER_MS) for value in coefficients_ms)
        if a < PS_PER_NS:
            allowed = "a number of milliseconds from 1e-06: an iteration takes a nanosecond or more"
            raise InputError(source, COEFFICIENTS[0], coefficients_ms[0], allowed)
        return cls(name, a, b, c, d, provenance or {}, *rest)

    @property
    def coefficients_ms(self) -> tuple[float, float, float, float]:
        """a, b, c and d in milliseconds."""
        a, b, c, d = (
            value / PS_PER_MS for value in (self.iteration_ps, self.decode_ps, self.prefill_ps, self.context_ps)
        )
        return a, b, c, d

    @property
    def coefficients_ps(self) -> NDArray[np.int64]:
        """a, b, c, d and e in picoseconds, as `iteration_ps` takes them; int64 (5,)."""
        linear = (self.iteration_ps, self.decode_ps, self.prefill_ps, self.context_ps)
        return np.array([*linear, self.attention_ps], dtype=np.int64)

    @property
    def attention_ms(self) -> float:
        """The coefficient e in milliseconds."""
        return self.attention_ps / PS_PER_MS

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, whole or not at all.

        Raises:
            InputError: The file cannot be written.
        """
        content = {"schema": SCHEMA_VERSION, "name": self.name}
        content |= dict(zip(COEFFICIENTS, self.coefficients_ms, strict=True))
        content |= ({ATTENTION: self.attention_ms} if self.attention_ps else {}) | {"provenance": self.provenance}
        write_atomic(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


@inlined_kernel
def iteration_ps(
    latency_ps: NDArray[np.int64], n_decode: Any, prefill_tokens: Any, decode_context: Any, attended: Any
) -> Any:
    """Return how long an iteration takes.

    Args:
        latency_ps: int64 (5,), `LatencyProfile.coefficients_ps`.
        n_decode: Sequences that decode; integers, as those that follow.
        prefill_tokens: Prompt tokens computed.
        decode_context: Prompt and generated tokens of the decoding sequences.
        attended: Tokens before each prompt token computed, summed over these.
    """
    return (
        latency_ps[0]
        + latency_ps[1] * n_decode
        + latency_ps[2] * prefill_tokens
        + latency_ps[3] * decode_context
        + latency_ps[4] * attended
    )


def expected_ps(latency_ps: NDArray[np.int64], output: Any, prefill: Any, context: Any, batch: float = 1.0) -> Any:
    """Return how long LLM tasks take in the mean, by what they consist of in the mean.

    Args:
        latency_ps: int64 (5,), `LatencyProfile.coefficients_ps`. Attention to a growing prompt (e) is left out.
        output: Tokens generated; floats or arrays, as those that follow.
        prefill: Prompt tokens computed.
        context: Tokens attended to, summed over the generated ones.
        batch: Sequences that share an iteration.
    """
    return output * (latency_ps[0] / batch + latency_ps[1]) + (
        prefill * float(latency_ps[2]) + context * float(latency_ps[3])
    )


def read_profile(path: str | Path) -> LatencyProfile:
    """Read a profile file.

    Raises:
        InputError: The file cannot be read or is not a profile.
    """
    content = read_json(path, "a latency profile: a JSON object")
    if not isinstance(content, dict):
        raise InputError(path, "", content, "a latency profile: a JSON object")
    known = {"schema", "name", "provenance", *COEFFICIENTS, ATTENTION}
    for key in content:
        if key not in known:
            raise InputError(path, key, content[key], f"no such field, but {suggest(key, known)}")
    for key in ("schema", "name", *COEFFICIENTS):
        if key not in content:
            raise InputError(path, key, Plain("nothing"), "a value")
    if content["schema"] != SCHEMA_VERSION or isinstance(content["schema"], bool):
        raise InputError(path, "schema", content["schema"], f"version {SCHEMA_VERSION}, which this release reads")
    if not isinstance(content["name"], str) or not content["name"]:
        raise InputError(path, "name", content["name"], "text that is not empty")
    provenance = content.get("provenance", {})
    if not isinstance(provenance, dict):
        raise InputError(path, "provenance", provenance, "a JSON object")
    coefficients = (*(content[key] for key in COEFFICIENTS), content.get(ATTENTION, 0.0))
    return LatencyProfile.from_ms(content["name"], coefficients, provenance, path)


def list_profiles() -> list[str]:
    """Names of the profiles that ship, sorted."""
    return list(_shipped_names())


@cache
def _shipped_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in PROFILES.glob("*.json")))


def own_profiles() -> Path:
    """Return the folder of the user's own profiles, where ``llmsched-gym calibrate`` puts them.

    ``LLMSCHED_GYM_PROFILES``, else ``llmsched_gym/profiles`` under ``XDG_DATA_HOME`` or ``~/.local/share``.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    data = os.environ.get("XDG_DATA_HOME")
    return (
        Path(given) if given else (Path(data) if data else Path.home() / ".local" / "share") / "llmsched_gym/profiles"
    )


@cache
def _shipped(name: str) -> LatencyProfile:
    return read_profile(PROFILES / f"{name}.json")


def names_file(text: str) -> bool:
    """Tell whether a text is the path of a profile rather than the name of one."""
    return text not in _shipped_names() and (text.endswith(".json") or "/" in text or os.sep in text)


def load_profile(name_or_path: str | Path) -> LatencyProfile:
    """Find a profile by the name of one that ships, by the name of one of the user's own, or by the path of a file.

    Raises:
        InputError: There is no such profile, or the file is not usable.
    """
    text = str(name_or_path)
    if text in _shipped_names():
        return _shipped(text)
    if names_file(text) or Path(text).is_file():
        return read_profile(text)
    own = own_profiles()
    if text and (own / f"{text}.json").is_file():
        return read_profile(own / f"{text}.json")
    known = [*list_profiles(), *(path.stem for path in own.glob("*.json"))]
    raise InputError("latency profile", "name", text, f"the path of a JSON file, or {suggest(text, known)}")


def describe(profile: LatencyProfile) -> list[tuple[str, str]]:
    """What there is to show of a profile: (label, text) rows, the provenance flattened."""
    units = ("ms per iteration", "ms per decoding sequence", "ms per prompt token", "ms per context token")
    rows = [("name", profile.name)]
    for letter, unit, value in zip("abcd", units, profile.coefficients_ms, strict=True):
        rows.append((f"{letter}, {unit}", f"{value:.6g}"))
    if profile.attention_ps:
        rows.append(("e, ms per prompt token and token before it", f"{profile.attention_ms:.6g}"))
    return rows + _flatten("", profile.provenance)


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    if isinstance(value, list):
        return [(prefix, "; ".join(str(item) for item in value))] if value else []
    return [(prefix, f"{value:.4g}" if isinstance(value, float) else str(value))]
