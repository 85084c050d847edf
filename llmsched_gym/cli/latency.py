"""The verbs ``latency fit``, ``show`` and ``list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import note, print_json, print_table
from llmsched_gym.cli.options import (
    BatchedTokens,
    Blocks,
    BlockSize,
    Json,
    RequiredOutput,
    Sequences,
    Text,
    Watermark,
)

if TYPE_CHECKING:
    from llmsched_gym.cluster.latency import LatencyProfile


@dataclass(frozen=True)
class Fit:
    """Fit the four coefficients of a latency profile to a table of iteration times.

    The fit weighs the iterations that an engine visits while it serves the log's requests. Of the log only arrivals
    and token counts are used, never times of service.

    Attributes:
        table: CSV file of iteration times.
        requests: CSV file of requests: arrival_s, prompt_tokens, output_tokens.
        output: Profile to write (JSON).
        name: Name of the profile; default: the output's.
        max_num_seqs: Most running sequences.
        max_num_batched_tokens: Most tokens per iteration.
        kv_blocks: KV cache capacity in blocks.
        block_size: Tokens per block.
        watermark: Share of the blocks that admissions leave free beside running sequences.
        as_json: Print one JSON object.
    """

    table: Annotated[Positional[Path], tyro.conf.arg(metavar="TABLE.csv")]
    requests: Annotated[Path, tyro.conf.arg(metavar="LOG.csv")]
    output: RequiredOutput
    name: Text = None
    max_num_seqs: Sequences = 128
    max_num_batched_tokens: BatchedTokens = 2048
    kv_blocks: Blocks = 1_048_576
    block_size: BlockSize = 16
    watermark: Watermark = 0.0
    as_json: Json = False

    def run(self) -> int:
        """Fit, write, and show the profile."""
        from llmsched_gym.backends.simulator.state import EngineConfig
        from llmsched_gym.calibration.latency_fit import fit_profile
        from llmsched_gym.cluster.latency import LatencyProfile

        # The engine's own profile is replaced by the one that is fitted.
        start = LatencyProfile.from_ms("start", (1.0, 0.0, 0.0, 0.0))
        config = EngineConfig(
            start,
            self.max_num_seqs,
            self.max_num_batched_tokens,
            self.kv_blocks,
            self.block_size,
            self.watermark,
        )
        profile = fit_profile(self.table, self.requests, config, self.name or self.output.stem)
        profile.save(self.output)
        if doubts := profile.provenance["fit"]["warnings"]:
            note(f"warning: {'; '.join(doubts)}")
        _show(profile, self.as_json)
        if not self.as_json:
            note(f"wrote {self.output}")
        return 0


@dataclass(frozen=True)
class Show:
    """Show one latency profile: coefficients, source and fit error.

    Attributes:
        profile: Name (`llmsched-gym latency list`) or file.
        as_json: Print one JSON object.
    """

    profile: Annotated[Positional[str], tyro.conf.arg(metavar="NAME|FILE")]
    as_json: Json = False

    def run(self) -> int:
        """Print it."""
        from llmsched_gym.cluster.latency import load_profile

        _show(load_profile(self.profile), self.as_json)
        return 0


@dataclass(frozen=True)
class List:
    """List the latency profiles that come with the package.

    Attributes:
        as_json: Print one JSON object.
    """

    as_json: Json = False

    def run(self) -> int:
        """Print names and coefficients."""
        from llmsched_gym.cluster.latency import list_profiles, load_profile

        profiles = [load_profile(name) for name in list_profiles()]
        if self.as_json:
            print_json({"profiles": {profile.name: _coefficients(profile) for profile in profiles}})
        else:
            rows = [(profile.name, *profile.coefficients_ms) for profile in profiles]
            units = ("a [ms/iteration]", "b [ms/sequence]", "c [ms/prompt token]", "d [ms/context token]")
            print_table("", ("name", *units), rows)
        return 0


def _coefficients(profile: LatencyProfile) -> dict[str, float]:
    return dict(zip("abcd", profile.coefficients_ms, strict=True))


def _show(profile: LatencyProfile, as_json: bool) -> None:
    from llmsched_gym.cluster.latency import describe

    if as_json:
        coefficients = _coefficients(profile)
        print_json({"name": profile.name, "coefficients_ms": coefficients, "provenance": profile.provenance})
    else:
        print_table("", ("", ""), describe(profile))
