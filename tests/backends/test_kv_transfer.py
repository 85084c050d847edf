"""KV that tasks fetch from engines that have it cached: schedules solved by hand.

Of the profile, an iteration takes 1 s and each prompt token that it computes 10 ms, decoding nothing. KV is 10 KiB per
token, so that 64 tokens are 655,360 bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from test_residency import Run, ask, jobs, run_tool

from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.columns import Placement
from llmsched_gym.envs.scheduling_env import SchedulingEnv

TOKEN_BYTES = 10 * 1024
LINKS = [{"between": ["here", "there"], "gb_per_s": 0.001, "latency_s": 0.25}]


@pytest.fixture
def latency(tmp_path: Path) -> str:
    """A profile file: an iteration takes 1 s and 10 ms for each prompt token."""
    path = tmp_path / "prompts.json"
    LatencyProfile.from_ms("prompts", (1000.0, 0.0, 10.0, 0.0)).save(path)
    return str(path)


def llm(latency: str, location: str = "here", **fields: Any) -> dict[str, Any]:
    """A group with model a."""
    return {"kind": "llm", "location": location, "latency": latency, "model": "a", "kv_tokens": 2000, **fields}


def cluster(*groups: dict[str, Any], rate: dict[str, Any] | None = None, **fields: Any) -> ClusterSpec:
    """A cluster of groups whose engines fetch KV at 1 MB/s, but as `rate` says."""
    content = {"models": {"a": {"weights_gb": 2, "kv_kib_per_token": 10}}, "executors": groups, **fields}
    return ClusterSpec.model_validate(content | {"kv_transfer": {"gb_per_s": 0.001, **(rate or {})}})


def shared(tokens: int = 64, prompt: int = 80, output: int = 1) -> dict[str, Any]:
    """A task whose prompt begins with the prefix of its application."""
    return ask("a", output, prompt_tokens=prompt, app_prefix="shared", app_prefix_tokens=tokens)


def ends(task: Any) -> tuple[float, float, int, int]:
    """When it joined and ended, what it found cached, and what was sent."""
    return task["join_ns"] / 1e9, task["finish_ns"] / 1e9, int(task["cached_tokens"]), int(task["moved_bytes"])


def test_what_another_engine_has_cached_is_sent_if_that_is_quicker(tmp_path: Path, latency: str) -> None:
    run = Run.of(jobs(tmp_path, [[shared()], [shared()]]), cluster(llm(latency), llm(latency)))
    first = run.alone(0, 0)
    assert ends(first) == (0.0, 1.8, 0, 0)
    second = run.alone(1, 1)  # 0.64 s to compute 64 tokens, 0.65536 s to send them: it computes
    assert ends(second) == (1.8, 3.6, 0, 0)
    faster = Run.of(
        jobs(tmp_path, [[shared()], [shared()]]), cluster(llm(latency), llm(latency), rate={"gb_per_s": 0.01})
    )
    faster.alone(0, 0)
    sent = 64 * TOKEN_BYTES
    assert ends(faster.alone(1, 1)) == (1.8 + sent / 1e7, pytest.approx(1.8 + sent / 1e7 + 1.16), 64, sent)


def test_it_takes_the_link_between_locations_and_its_own_rate_within_one(tmp_path: Path, latency: str) -> None:
    groups = (llm(latency), llm(latency, "there"), llm(latency))
    links = [{"between": ["here", "there"], "gb_per_s": 0.01, "latency_s": 0.25}]
    workload = jobs(tmp_path, [[shared(256, 300)] * 3])  # three tasks of one stage: no text goes between them
    run = Run.of(workload, cluster(*groups, rate={"gb_per_s": 0.1}, links=links))
    run.alone(0, 0)
    sent = 256 * TOKEN_BYTES
    far, near = run.alone(0, 1), run.alone(0, 2)
    assert far["join_ns"] - far["start_ns"] == pytest.approx((0.25 + sent / 1e7) * 1e9, abs=1)
    assert near["join_ns"] - near["start_ns"] == pytest.approx(sent / 1e8 * 1e9, abs=1)  # the nearer of two sources
    assert (far["cached_tokens"], near["cached_tokens"]) == (256, 256)


def test_only_what_is_missing_is_sent_and_stays_cached(tmp_path: Path, latency: str) -> None:
    chain = [[shared(256, 300)], [shared(96, 100)], [shared(256, 300)], [shared(256, 300)]]
    run = Run.of(jobs(tmp_path, chain), cluster(llm(latency), llm(latency), rate={"gb_per_s": 1.0}))
    run.alone(0, 0)
    assert run.alone(1, 1)["moved_bytes"] == 96 * TOKEN_BYTES
    assert ends(run.alone(2, 1))[2:] == (256, (256 - 96) * TOKEN_BYTES)
    assert ends(run.alone(3, 1))[2:] == (256, 0)


def test_without_kv_transfer_nothing_is_sent(tmp_path: Path, latency: str) -> None:
    spec = cluster(llm(latency), llm(latency), rate={"gb_per_s": 1.0}).model_copy(update={"kv_transfer": None})
    run = Run.of(jobs(tmp_path, [[shared()], [shared()]]), spec)
    run.alone(0, 0)
    assert ends(run.alone(1, 1))[2:] == (0, 0)


@pytest.mark.parametrize("side", [0, 1])
def test_both_sides_need_a_prefix_cache(tmp_path: Path, latency: str, side: int) -> None:
    groups = [llm(latency), llm(latency)]
    groups[side]["prefix_caching"] = False
    run = Run.of(jobs(tmp_path, [[shared()], [shared()]]), cluster(*groups, rate={"gb_per_s": 1.0}))
    run.alone(0, 0)
    assert ends(run.alone(1, 1))[2:] == (0, 0)


def test_it_overlaps_with_other_inputs(tmp_path: Path, latency: str) -> None:
    tool = run_tool(1.0, output_bytes=10**6)
    groups = (llm(latency), llm(latency), {"kind": "regular", "location": "there"})
    run = Run.of(
        jobs(tmp_path, [[shared()], [tool], [shared()]]), cluster(*groups, rate={"gb_per_s": 0.01}, links=LINKS)
    )
    run.alone(0, 0)
    run.alone(1, 2)
    task = run.alone(2, 1)
    assert task["join_ns"] - task["start_ns"] == int(1.25e9)  # the output of the tool takes longer
    assert ends(task)[2:] == (64, 10**6 + 64 * TOKEN_BYTES)


def test_the_observation_tells_what_would_be_sent(tmp_path: Path, latency: str) -> None:
    workload = jobs(tmp_path, [[shared()], [shared()]])
    env = SchedulingEnv(
        "toy",
        workload=workload,
        cluster=cluster(llm(latency), llm(latency), rate={"gb_per_s": 0.01}),
        profiler=False,
        placement="agent",
    )
    env.reset(seed=0)
    observation, *_ = env.step(0)
    while observation["placements"][0, :, Placement.LEGAL].sum() < 2:
        observation, *_ = env.step(len(observation["action_mask"]) - 1)
    shown = observation["placements"][0]
    assert shown[:, Placement.CACHED_TOKENS].tolist() == [64, 64]
    assert shown[:, Placement.FETCH_S].tolist() == pytest.approx([0, 64 * TOKEN_BYTES / 1e7])
    assert shown[0, Placement.TASK_S] == shown[1, Placement.TASK_S]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("arrival_s", [40.0, 91.0, 91.5, 107.0, 107.5, 123.5, 139.0, 139.5])
def test_what_an_iteration_in_the_midst_of_a_segment_has_evicted_is_not_sent(
    tmp_path: Path, latency: str, arrival_s: float, asynchronous: bool
) -> None:
    # Ten blocks: four of the prefix stay cached. From 10 s on, a task of 16 prompt tokens needs one more for every 16
    # that it generates, and after the six that are free one of those four, the last of them first.
    workload = jobs(
        tmp_path,
        [[shared(64, 65), shared(64, 65)]],
        [[ask("a", 140, prompt_tokens=16)]],
        [[run_tool(0.0)]],
        arrivals=(0.0, 10.0, arrival_s),
    )
    small = llm(latency, kv_tokens=160, async_scheduling=asynchronous)
    tool = {"kind": "regular"}
    run = Run.of(workload, cluster(small, llm(latency), tool, rate={"gb_per_s": 1.0}))
    run.alone(0, 0)
    while run.now_s < 10.0:
        run.go_on()
    run.dispatch(1, 0)
    while run.now_s < arrival_s:
        run.go_on()
    task = run.alone(0, 1)
    iterations = math.ceil(arrival_s - 11.16) + 1 + asynchronous  # scheduled so far
    lost = max(0, math.ceil((15 + iterations) / 16) - 6)
    assert task["cached_tokens"] == 16 * max(0, 4 - lost)
