"""The engine's rules one by one, on loads small enough to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest
from engine_runs import prompts, serve, task_rows, view
from plain_engine import PlainEngine, Request

from llmsched_gym.backends.simulator.engine import complete, plan, submit
from llmsched_gym.backends.simulator.readings import count_tokens
from llmsched_gym.backends.simulator.state import EngineConfig, kv_tokens_needed, new_engines
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError

MS = LatencyProfile.from_ms("ms", (1.0, 0.0, 0.0, 0.0))
SECOND = 10**9
CHAIN, OTHER_CHAIN, THIRD_CHAIN = 4, 5, 6


def test_a_submission_is_seen_by_the_first_iteration_that_starts_no_earlier() -> None:
    at_boundary, after = 3_000_000, 3_000_001  # iterations start every millisecond
    tasks = serve(EngineConfig(MS), prompts((4, 100), (4, 5), (4, 5)), [0, at_boundary, after])
    assert tasks["scheduled_ns"].tolist() == [0, 3_000_000, 4_000_000]
    assert tasks["first_token_ns"].tolist() == [1_000_000, 4_000_000, 5_000_000]
    assert tasks["finish_ns"].tolist() == [100_000_000, 8_000_000, 9_000_000]


def test_asynchronous_scheduling_admits_one_iteration_later() -> None:
    config = EngineConfig(MS, async_scheduling=True)
    tasks = serve(config, prompts((4, 100), (4, 5), (4, 5)), [0, 3_000_000, 3_000_001])
    assert tasks["scheduled_ns"].tolist() == [0, 4_000_000, 5_000_000]
    assert tasks["first_token_ns"].tolist() == [1_000_000, 5_000_000, 6_000_000]
    assert tasks["finish_ns"].tolist() == [100_000_000, 9_000_000, 10_000_000]


def test_asynchronous_scheduling_frees_a_slot_one_iteration_later() -> None:
    arrivals, requests = [0, 0], prompts((4, 3), (4, 1))
    one_slot = EngineConfig(MS, max_num_seqs=1)
    assert serve(one_slot, requests, arrivals)["scheduled_ns"].tolist() == [0, 3_000_000]
    # When the first one's last token is known, at 3 ms, nothing else is in flight: its slot is used at once.
    later = EngineConfig(MS, max_num_seqs=1, async_scheduling=True)
    assert serve(later, requests, arrivals)["scheduled_ns"].tolist() == [0, 3_000_000]
    # With another sequence, the iteration that starts at 3 ms is scheduled already.
    three, arrivals = prompts((4, 3), (4, 9), (4, 1)), [0, 0, 0]
    config = EngineConfig(MS, max_num_seqs=2, async_scheduling=True)
    assert serve(config, three, arrivals)["scheduled_ns"].tolist() == [0, 0, 4_000_000]


def test_siblings_sampled_from_one_prompt_hit_in_the_same_step() -> None:
    prompt = 16 * 6 + 5
    siblings = prompts(*[(prompt, 3, -1, 0, CHAIN, prompt)] * 3)
    tasks = serve(EngineConfig(MS), siblings, [0, 0, 0])
    assert tasks["cached_tokens"].tolist() == [0, 96, 96]
    assert tasks["scheduled_ns"].tolist() == [0, 0, 0]
    without = serve(EngineConfig(MS, prefix_caching=False), siblings, [0, 0, 0])
    assert without["cached_tokens"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("whole_prefixes", [False, True])
def test_a_growing_conversation_hits_its_prompt_and_output(whole_prefixes: bool) -> None:
    turns = prompts((40, 30, 0, 20, CHAIN, 20), (90, 5, 0, 20, CHAIN, 70), (90, 5, 0, 20, OTHER_CHAIN, 20))
    tasks = serve(EngineConfig(MS, whole_prefixes=whole_prefixes), turns, [0, SECOND, 2 * SECOND])
    # 69 tokens of the first turn were computed: 4 blocks; another job of the application finds one block of its prefix.
    assert tasks["cached_tokens"].tolist() == [0, 64, 16]


def test_a_turn_that_leaves_out_the_answer_shares_the_prompt_before_it() -> None:
    turns = prompts((64, 40, -1, 0, CHAIN, 0), (120, 5, -1, 0, CHAIN, 64), (140, 5, -1, 0, CHAIN, 104))
    tasks = serve(EngineConfig(MS), turns, [0, SECOND, 2 * SECOND])
    assert tasks["cached_tokens"].tolist() == [0, 64, 96]


def test_a_hit_leaves_one_token_to_compute() -> None:
    tasks = serve(EngineConfig(MS), prompts((32, 2, 0, 32), (32, 2, 0, 32)), [0, SECOND])
    assert tasks["cached_tokens"].tolist() == [0, 16]


def test_the_least_recently_used_block_is_reused_first_of_a_prompt_the_last() -> None:
    chains = [CHAIN, OTHER_CHAIN, CHAIN, THIRD_CHAIN, CHAIN, OTHER_CHAIN]
    turns = prompts(*[(50, 2, -1, 0, chain, 50) for chain in chains])
    tasks = serve(EngineConfig(MS, kv_blocks=9), turns, [SECOND * turn for turn in range(len(chains))])
    # Three blocks stay of each job. Job 6 takes three free ones and one of job 5, the least recently used.
    assert tasks["cached_tokens"].tolist() == [0, 0, 48, 0, 48, 32]


@pytest.mark.parametrize(("whole_prefixes", "hit"), [(False, 0), (True, 32)])
def test_what_nobody_will_ask_for_again_drives_prefixes_out(whole_prefixes: bool, hit: int) -> None:
    """As in vLLM, which cannot know; the environments of version 0 keep prefixes only."""
    requests = prompts((40, 2, 0, 32), (130, 2), (130, 2), (40, 2, 0, 32))
    config = EngineConfig(MS, kv_blocks=11, whole_prefixes=whole_prefixes)
    tasks = serve(config, requests, [SECOND * turn for turn in range(4)])
    assert tasks["cached_tokens"].tolist() == [0, 0, 0, hit]


def test_the_last_of_running_is_preempted_and_restarts_in_front() -> None:
    config = EngineConfig(MS, max_num_seqs=4, kv_blocks=7, block_size=4, prefix_caching=False)
    tasks = serve(config, prompts((8, 17), (8, 9), (4, 2)), [0, 0, 7_000_000])
    # With 13 tokens each, the first two want an eighth block. The second needs 4 blocks to restart, the first leaves 3;
    # the third would fit, but waits behind it.
    assert tasks["restarts"].tolist() == [0, 1, 0]
    assert tasks["scheduled_ns"].tolist() == [0, 0, 17_000_000]
    assert tasks["finish_ns"].tolist() == [17_000_000, 21_000_000, 19_000_000]


def test_a_preempted_request_finds_its_own_prompt_and_output_again() -> None:
    """The smallest load on which the engine once differed from vLLM: it had the victim end at 1.263 s."""
    profile = LatencyProfile.from_ms("test", (10.0, 0.0, 1.0, 0.0))
    config = EngineConfig(profile, max_num_seqs=2, max_num_batched_tokens=512, kv_blocks=24)
    tasks = serve(config, prompts((150, 60), (150, 60)), [0, 0])
    assert tasks["restarts"].tolist() == [0, 1]
    assert tasks["finish_ns"].tolist() == [900_000_000, 1_103_000_000]
    requests = [Request(0, 150, 60), Request(0, 150, 60)]
    PlainEngine(config).run(requests)
    assert [request.finish_ns for request in requests] == [900_000_000, 1_103_000_000]


def test_the_watermark_holds_only_while_something_runs() -> None:
    config = EngineConfig(MS, kv_blocks=100, watermark=0.01)
    assert kv_tokens_needed(1591, 10) == config.kv_tokens
    assert serve(config, prompts((1591, 10)), [0])["scheduled_ns"].tolist() == [0]
    # Beside another one, which holds a block, a prompt of 99 blocks would fit, but leave none free.
    beside = prompts((4, 12), (99 * 16, 1))
    assert serve(config, beside, [0, 1])["scheduled_ns"].tolist() == [0, 12_000_000]
    assert serve(EngineConfig(MS, kv_blocks=100), beside, [0, 1])["scheduled_ns"].tolist() == [0, 1_000_000]


def test_tokens_come_out_with_the_iterations_that_have_ended() -> None:
    tasks, _ = task_rows(prompts((10, 50)))
    nothing = np.zeros(0, np.int32)
    engine = view(new_engines([EngineConfig(MS)], 1, 0))
    submit(engine, tasks, 0, 0, 0)
    plan(engine, tasks)
    assert engine.row[0]["event_ns"] == 1_000_000
    assert count_tokens(engine, 500_000, nothing) == 0
    complete(engine, tasks, np.zeros(128, np.int32))
    plan(engine, tasks)
    assert engine.row[0]["event_ns"] == 50_000_000
    moments = (1_000_000, 1_999_999, 2_000_000, 25_500_000, 50_000_000)
    assert [count_tokens(engine, now, nothing) for now in moments] == [1, 1, 2, 25, 50]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 127),
        ("block_size", 0),
        ("block_size", 4096),
        ("watermark", 1.0),
        ("watermark", float("nan")),
        ("kv_blocks", 0),
    ],
)
def test_impossible_engines_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        EngineConfig(MS, **{field: value})  # pyright: ignore[reportArgumentType] - one field of each type


def test_iterations_below_a_nanosecond_are_refused() -> None:
    with pytest.raises(InputError, match="iteration_ms"):
        LatencyProfile.from_ms("too fast", (0.9e-6, 0.0, 0.0, 0.0))
    assert LatencyProfile.from_ms("fast", (1e-6, 0.0, 0.0, 0.0)).iteration_ps == 1000
