"""vLLM's own V1 scheduler with a made-up model runner, under an iteration-time formula as the clock.

Run by the Python that has vLLM (`benchmarks/vllm_scheduler.py` does so): loads come in as lines of JSON, their times go
out likewise. Nothing of this package is imported. What is vLLM's here: `Scheduler` and `AsyncScheduler` with all below
them (block pool, hash table, prefix cache). What is not: the model, whose every output is the token that the load says,
and the clock. The loop is that of `EngineCore.step` and `EngineCore.step_with_batch_queue`.
"""

# pyright: reportMissingImports=false
# It runs in an environment of its own, which has vLLM.

from __future__ import annotations

import json
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
import vllm
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

LONGEST = 16384
"""Longest sequence: that of the dummy model."""


@dataclass
class Flight:
    """One iteration in flight."""

    end_ps: int
    scheduled: Any
    outputs: set[str]


def scheduler_for(engine: dict[str, Any], model: str) -> Scheduler:
    """Make vLLM's scheduler as an engine of a load says; one block more, because vLLM keeps one for padding."""
    model_config = ModelConfig(
        model=model, skip_tokenizer_init=True, dtype="bfloat16", seed=0, max_model_len=LONGEST, enforce_eager=True
    )
    scheduler_config = SchedulerConfig(
        max_num_seqs=engine["max_num_seqs"],
        max_num_batched_tokens=engine["max_num_batched_tokens"],
        max_model_len=LONGEST,
        is_encoder_decoder=False,
        watermark=engine["watermark"],
        async_scheduling=engine["async_scheduling"],
    )
    cache_config = CacheConfig(block_size=engine["block_size"], enable_prefix_caching=engine["prefix_caching"])
    config = VllmConfig(model_config=model_config, scheduler_config=scheduler_config, cache_config=cache_config)
    blocks = engine["kv_blocks"] + 1
    config.cache_config.num_gpu_blocks = blocks
    attention = FullAttentionSpec(block_size=engine["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32)
    kind = AsyncScheduler if engine["async_scheduling"] else Scheduler
    return kind(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(blocks, [], [KVCacheGroupSpec(["layer"], attention)]),
        structured_output_manager=StructuredOutputManager(config),
        block_size=engine["block_size"],
    )


class Engine:
    """A scheduler, its requests and its clock."""

    def __init__(self, load: dict[str, Any], model: str) -> None:
        self.load = load
        self.scheduler = scheduler_for(load["engine"], model)
        hasher = get_hash_fn_by_name("sha256")
        init_none_hash(hasher)
        self.hasher = get_request_block_hasher(load["engine"]["block_size"], hasher)
        self.tokens: dict[str, list[int]] = {}
        self.arrivals = deque(enumerate(load["requests"]))
        self.depth = 2 if load["engine"]["async_scheduling"] else 1
        self.flights: deque[Flight] = deque()
        self.clock_ps = 0
        self.times = [{"first_token_ns": -1, "finish_ns": -1, "restarts": 0} for _ in load["requests"]]
        self.used: list[int] = []

    def add(self) -> None:
        """Hand over the next request."""
        index, request = self.arrivals.popleft()
        name = str(index)
        self.tokens[name] = [
            (content << 24) + k for content, start, stop in request["tokens"] for k in range(start, stop)
        ]
        length = len(self.tokens[name]) - request["output"]
        self.scheduler.add_request(
            Request(
                name,
                self.tokens[name][:length],
                SamplingParams(max_tokens=request["output"], min_tokens=request["output"], ignore_eos=True),
                None,
                arrival_time=float(index),
                block_hasher=self.hasher if self.load["engine"]["prefix_caching"] else None,
            )
        )

    def schedule(self) -> Flight:
        """Let vLLM schedule an iteration, and work out when it ends."""
        scheduler = self.scheduler
        decoding = {r.request_id for r in scheduler.running if not r.is_prefill_chunk}
        scheduled = scheduler.schedule()
        a, b, c, d, e = self.load["engine"]["latency_ps"]
        length_ps = a if scheduled.num_scheduled_tokens else 0
        outputs = set()
        for name, tokens in scheduled.num_scheduled_tokens.items():
            request = scheduler.requests[name]
            before = request.num_computed_tokens - tokens
            if name in decoding:
                length_ps += b + d * (before + 1)
            else:
                length_ps += c * tokens + e * (tokens * before + tokens * (tokens - 1) // 2)
            if not request.is_prefill_chunk:
                outputs.add(name)
        start_ps = self.flights[-1].end_ps if self.flights else self.clock_ps
        if scheduled.num_scheduled_tokens:
            self.used.append(
                self.load["engine"]["kv_blocks"] - scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
            )
        return Flight(start_ps + length_ps, scheduled, outputs)

    def land(self) -> None:
        """End the oldest iteration in flight: hand vLLM its tokens."""
        flight = self.flights.popleft()
        self.clock_ps = flight.end_ps
        now_ns = -(-self.clock_ps // 1000)
        names = list(flight.scheduled.num_scheduled_tokens)
        sampled: list[list[int]] = []
        for name in names:
            request = self.scheduler.requests[name]
            sampled.append([self.tokens[name][request.num_tokens]] if name in flight.outputs else [])
            self.times[int(name)]["restarts"] = request.num_preemptions
        output = ModelRunnerOutput(
            req_ids=names, req_id_to_index={name: k for k, name in enumerate(names)}, sampled_token_ids=sampled
        )
        for outputs in self.scheduler.update_from_output(flight.scheduled, output).values():
            for one in outputs.outputs:
                row = self.times[int(one.request_id)]
                if row["first_token_ns"] < 0:
                    row["first_token_ns"] = now_ns
                if one.finish_reason is not None:
                    row["finish_ns"] = now_ns

    def run(self) -> dict[str, Any]:
        """Serve all requests."""
        scheduler = self.scheduler
        while self.arrivals or scheduler.has_requests() or self.flights:
            if not scheduler.has_requests() and not self.flights:
                self.clock_ps = max(self.clock_ps, self.arrivals[0][1]["arrival_ns"] * 1000)
            while self.arrivals and self.arrivals[0][1]["arrival_ns"] <= -(-self.clock_ps // 1000):
                self.add()
            if scheduler.has_requests():
                self.flights.append(self.schedule())
                if len(self.flights) < self.depth:
                    continue
            if self.flights:
                self.land()
        return {"times": self.times, "used": self.used, "clock_ps": self.clock_ps}


def main() -> None:
    """Serve the loads of standard input; the first line of the output names vLLM's version."""
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever vLLM prints
    print(json.dumps({"vllm": vllm.__version__}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(Engine(json.loads(line), sys.argv[1]).run()), file=out, flush=True)


if __name__ == "__main__":
    main()
