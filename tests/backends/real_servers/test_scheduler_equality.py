"""The engine, plain and compiled, against the scheduler class of vLLM itself: every time of every request, to the ns.

`benchmarks/vllm_scheduler.py` is the same as a long run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from engine_runs import prompts
from random_loads import Load
from vllm_scheduler import VllmScheduler, compare

from llmsched_gym.backends.replay import serve
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.cluster.latency import LatencyProfile

VERSION = "0.32.0"
"""The vLLM that all this holds for; others are not tested."""


@pytest.fixture(scope="module")
def process(vllm_python: str) -> Iterator[VllmScheduler]:
    """VLLM's scheduler in a process of its own."""
    with VllmScheduler(vllm_python) as running:
        if running.version != VERSION:
            pytest.skip(f"vLLM {running.version}: the engine is held against {VERSION}")
        yield running


@pytest.mark.parametrize("asynchronous", [False, True])
def test_random_loads_are_equal(process: VllmScheduler, asynchronous: bool) -> None:
    tally = compare(process, first_seed=10_000, loads=40, asynchronous=asynchronous)
    assert tally.differing == []
    assert tally.preempting >= 8
    assert tally.hitting >= 20


def test_a_preempted_request_finds_its_own_prompt_and_output_again(process: VllmScheduler) -> None:
    profile = LatencyProfile.from_ms("test", (10.0, 0.0, 1.0, 0.0))
    config = EngineConfig(profile, max_num_seqs=2, max_num_batched_tokens=512, kv_blocks=24)
    load = Load(config, np.zeros(2, np.int64), prompts((150, 60), (150, 60)))
    vllm = [row["finish_ns"] for row in process.serve(load)["times"]]
    assert vllm == serve(load.log, config)[0]["finish_ns"].tolist() == [900_000_000, 1_103_000_000]
