"""The verb ``engine replay``, and the options of an engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import print_json, say
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
from llmsched_gym.errors import InputError, Plain

if TYPE_CHECKING:
    from llmsched_gym.cluster.latency import LatencyProfile


@dataclass(frozen=True)
class Replay:
    """Replay a request log (CSV: arrival_s, prompt_tokens, output_tokens) or a trace on one simulated LLM executor.

    Mooncake's traces say what prompts share, and its ideal and realised share in the prefix cache are printed. Others
    do not: there, prompts share nothing.

    Attributes:
        requests: The requests: a log, or a trace of any format that arrivals may have.
        output: CSV file for the results: when each request was scheduled, had its first token and was finished.
        coefficients: A,B,C,D in ms: per iteration, decoding sequence, prompt token, context token.
        profile: Latency profile by name or file, instead of coefficients.
        max_num_seqs: Most running sequences.
        max_num_batched_tokens: Most tokens per iteration.
        kv_blocks: KV cache capacity in blocks.
        block_size: Tokens per block.
        prefix_caching: Take blocks that prompts share from the prefix cache.
        watermark: Share of the blocks that admissions leave free beside running sequences.
        as_json: Print one JSON object.
    """

    requests: Annotated[Positional[Path], tyro.conf.arg(metavar="REQUESTS")]
    output: RequiredOutput
    coefficients: Text = None
    profile: Text = None
    max_num_seqs: Sequences = 128
    max_num_batched_tokens: BatchedTokens = 2048
    kv_blocks: Blocks = 1_048_576
    block_size: BlockSize = 16
    prefix_caching: bool = True
    watermark: Watermark = 0.0
    as_json: Json = False

    def run(self) -> int:
        """Serve the requests, write the results, and print their means."""
        import numpy as np

        from llmsched_gym.backends.replay import read_requests, result_rows, reuse_of, serve, write_rows
        from llmsched_gym.backends.simulator.state import EngineConfig

        config = EngineConfig(
            self._profile(),
            self.max_num_seqs,
            self.max_num_batched_tokens,
            self.kv_blocks,
            self.block_size,
            self.watermark,
            prefix_caching=self.prefix_caching,
        )
        log = read_requests(self.requests)
        tasks, _ = serve(log, config, self.requests)
        rows, reuse = result_rows(log, tasks), reuse_of(log, tasks)
        write_rows(rows, self.output)
        arrival, first, finish = (
            np.array([float(row[name]) for row in rows]) for name in ("arrival_s", "first_token_s", "finish_s")
        )
        result = {
            "requests": len(rows),
            "output": str(self.output),
            "mean_e2e_s": float((finish - arrival).mean()),
            "mean_first_token_s": float((first - arrival).mean()),
            "makespan_s": float(finish.max() - arrival.min()),
            "restarts": sum(int(row["restarts"]) for row in rows),
        }
        if reuse is not None:
            result |= {"ideal_prefix_hit_rate": reuse.ideal, "prefix_hit_rate": reuse.realised}
        if self.as_json:
            print_json(result)
        else:
            say(
                f"{result['requests']} requests in {result['makespan_s']:.3f} s: mean end-to-end "
                f"{result['mean_e2e_s']:.3f} s, to the first token {result['mean_first_token_s']:.3f} s, "
                f"{result['restarts']} restarts; wrote {self.output}"
            )
            if reuse is not None:
                say(f"{reuse.realised:.1%} of the prompt tokens came from the prefix cache; ideal: {reuse.ideal:.1%}")
        return 0

    def _profile(self) -> LatencyProfile:
        from llmsched_gym.cluster.latency import LatencyProfile, load_profile

        if (self.profile is None) == (self.coefficients is None):
            given = Plain("neither" if self.profile is None else "both")
            raise InputError("llmsched-gym engine replay", "", given, "either --coefficients A,B,C,D or --profile NAME")
        if self.profile is not None:
            return load_profile(self.profile)
        a, b, c, d = parse_coefficients(self.coefficients or "")
        return LatencyProfile.from_ms("coefficients", (a, b, c, d), {}, "--coefficients")


def parse_coefficients(text: str) -> tuple[float, float, float, float]:
    """Read A,B,C,D in milliseconds.

    Raises:
        InputError: Not four numbers >= 0.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(math.isfinite(value) and value >= 0 for value in values):
        raise InputError("--coefficients", "", text, "A,B,C,D: four numbers >= 0, in ms")
    return values[0], values[1], values[2], values[3]
