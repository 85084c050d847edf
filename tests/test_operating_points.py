"""Operating points: the jobs and cluster of an older scenario, but for when and how many jobs arrive."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.arrivals import Gamma


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("mixed_heavy", "mixed"),
        ("mixed_burst", "mixed"),
        ("mixed_bursty", "mixed"),
        ("planning_heavy", "planning"),
        ("agents", "chain"),
        ("agents_bursty", "chain"),
    ],
)
def test_jobs_and_executors_are_those_of_the_older_scenario(name: str, like: str) -> None:
    point, old = load_scenario(name), load_scenario(like)
    assert point.cluster.executors == old.cluster.executors
    assert point.applications == old.applications
    drawn, before = (one.replaced(jobs=60).build("eval", 3) for one in (point, old))
    for table in ("tasks", "stages"):
        assert np.array_equal(getattr(drawn, table), getattr(before, table)), "arrivals alone may differ"
    assert not np.array_equal(drawn.jobs["arrival_ns"], before.jobs["arrival_ns"])


def test_heavy_jobs_arrive_faster_than_they_are_served() -> None:
    for name, like in (("mixed_heavy", "mixed"), ("planning_heavy", "planning"), ("agents", "chain")):
        heavy, light = load_scenario(name), load_scenario(like)
        assert (heavy.load, light.load) == (1.5, 0.9)
        assert heavy.arrival_rate() == pytest.approx(1.5 / 0.9 * light.arrival_rate())


def test_a_burst_is_over_long_before_its_jobs_are() -> None:
    scenario = load_scenario("mixed_burst")
    last_s = [scenario.build("eval", seed).jobs["arrival_ns"].max() * 1e-9 for seed in range(5)]
    assert np.mean(last_s) == pytest.approx(scenario.jobs / 20.0, rel=0.15)
    assert max(last_s) < 0.05 * scenario.jobs / load_scenario("mixed").arrival_rate()


@pytest.mark.parametrize(("name", "like"), [("mixed_bursty", "mixed"), ("agents_bursty", "chain")])
def test_bursty_arrivals_have_the_mean_of_steady_ones_and_four_times_the_spread(name: str, like: str) -> None:
    scenario = load_scenario(name)
    assert scenario.arrivals == Gamma(cv=4.0)
    assert scenario.load == load_scenario(like).load
    gaps = np.concatenate([np.diff(scenario.build("eval", seed).jobs["arrival_ns"]) for seed in range(40)]) * 1e-9
    assert gaps.mean() * scenario.arrival_rate() == pytest.approx(1.0, rel=0.15)
    assert gaps.std() / gaps.mean() == pytest.approx(4.0, rel=0.15)


def test_memory_and_not_the_batch_limits_the_tight_cluster() -> None:
    scenario = load_scenario("memory_bound")
    (group,) = scenario.cluster.llm
    tasks = scenario.build("eval", 0).tasks
    tokens = (tasks["prompt_tokens"] + tasks["output_tokens"])[tasks["output_tokens"] > 0]
    assert group.max_num_seqs == 64
    assert group.kv_tokens == 12_288
    assert group.kv_tokens / tokens.mean() < group.max_num_seqs / 2, "half a batch does not fit"
