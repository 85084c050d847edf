"""Best known schedules: what a rollout plays is what policies play, and what is found can be played again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.evaluation.runner import Silent
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.suites import load_suite
from llmsched_gym.suites.best_known import BEST_KNOWN, played_again, quality, read_best_known
from llmsched_gym.suites.freezing import freeze_best_known
from llmsched_gym.suites.rollout import Rollouts, Schedule
from llmsched_gym.suites.searching import search

JOBS = 12


def setting(name: str) -> Setting:
    return replace(Setting.make(name, JOBS), split="train")


@pytest.mark.parametrize("name", ["mixed_burst", "planning_heavy", "agents", "probe"])
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_equal_factors_are_the_clairvoyant_policy(name: str, weight: float) -> None:
    chosen, same = setting(name), Schedule(np.zeros(JOBS, np.int64), weight)
    for seed in range(4):
        played_s = Rollouts(chosen.workload(seed), chosen.scenario.cluster).mean_jct_s(same)
        policy = run_episode(chosen, f"oracle_srtf?tool_weight={weight}", seed)
        assert played_s == pytest.approx(policy["metrics"]["mean_jct_s"], rel=1e-12)


def test_a_rollout_leaves_nothing_behind_for_the_next() -> None:
    chosen = setting("mixed_burst")
    rollouts = Rollouts(chosen.workload(0), chosen.scenario.cluster)
    rng = np.random.default_rng(1)
    tried = [Schedule(rng.integers(-9, 10, JOBS), 2.0, float(reserve)) for reserve in (0, 1, 4)]
    once = [rollouts.mean_jct_s(each) for each in tried]
    assert [rollouts.mean_jct_s(each) for each in reversed(tried)] == once[::-1]
    assert len({*once}) > 1, "orders differ"


def test_a_reserve_makes_long_tools_wait() -> None:
    chosen = setting("mixed_burst")
    values = {
        reserve_s: [
            Rollouts(chosen.workload(seed), chosen.scenario.cluster).mean_jct_s(
                Schedule(np.zeros(JOBS, np.int64), 1.0, reserve_s)
            )
            for seed in range(6)
        ]
        for reserve_s in (0.0, 0.5, 1e6)
    }
    assert values[0.0] == values[1e6], "no task is that long"
    assert values[0.0] != values[0.5]


def test_a_search_ends_between_the_bound_and_where_it_began() -> None:
    chosen = setting("mixed_burst")
    for seed in range(3):
        workload, cluster = chosen.workload(seed), chosen.scenario.cluster
        known = search(workload, cluster, seed, rollouts=300)
        start_s = Rollouts(workload, cluster).mean_jct_s(Schedule(np.zeros(JOBS, np.int64)))
        assert lower_bound_mean_jct(workload, cluster) <= known.first_s <= start_s
        again = search(workload, cluster, seed, rollouts=300)
        assert (again.first_s, again.second_s) == (known.first_s, known.second_s)
        played_s = Rollouts(workload, cluster).mean_jct_s(known.schedule)
        assert played_s == min(known.first_s, known.second_s)


def test_one_job_has_nothing_to_exchange() -> None:
    chosen = replace(Setting.make("planning_heavy", 1), split="train")
    known = search(chosen.workload(0), chosen.scenario.cluster, rollouts=60)
    assert known.first_s == known.second_s


def test_what_was_found_is_written_read_and_played_again(folder: Path) -> None:
    manifest = folder / "suite.yaml"
    manifest.write_text(manifest.read_text().replace("metric: makespan_s", "metric: mean_jct_s"))
    suite = load_suite(folder)
    assert read_best_known(suite) == {}
    assert quality(suite, {}) == {}
    assert freeze_best_known(suite, 1, Silent(), rollouts=80) == 6
    known = read_best_known(suite)
    assert all(played_again(suite, *key, best) == best.best_s for key, best in known.items())
    found = quality(suite, known)
    assert [*found] == ["crowd", "plans"]
    assert all(one.best_over_bound.mid >= 1.0 and one.reference_over_best is None for one in found.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("crowd,7,", "crowd,6,", "scenario crowd, seed 6: workload_digest: got .*scenarios and seeds of the suite"),
        ("first_s", "first", "columns: got .*expected scenario, seed, workload_digest, lower_bound_s, first_s"),
        ("\n", " 0\n", r"seed 7: steps: got .*expected 6 whole numbers from -40 to 40"),
        ("\n", "x\n", r"seed 7: steps: got .*expected 6 whole numbers from -40 to 40"),
    ],
)
def test_a_broken_file_is_named(folder: Path, old: str, new: str, message: str) -> None:
    manifest = folder / "suite.yaml"
    manifest.write_text(manifest.read_text().replace("metric: makespan_s", "metric: mean_jct_s"))
    suite = load_suite(folder)
    freeze_best_known(suite, 1, Silent(), rollouts=40)
    path = folder / BEST_KNOWN
    head, _, rest = path.read_text().partition("\n")
    text = f"{head.replace(old, new)}\n{rest}" if old == "first_s" else f"{head}\n{rest.replace(old, new, 1)}"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_best_known(suite)


def test_only_means_of_jct_are_searched_for(folder: Path) -> None:
    with pytest.raises(InputError, match="scenario plans: metric: got 'makespan_s'; expected mean_jct_s"):
        freeze_best_known(load_suite(folder), 1, Silent())


def test_the_small_suite_has_best_known_schedules_that_two_searches_agree_on() -> None:
    suite = load_suite("small-v1")
    known = read_best_known(suite)
    for scenario in suite.scenarios:
        first = scenario.seeds[0]
        assert (
            played_again(suite, scenario.name, first, known[scenario.name, first]) == known[scenario.name, first].best_s
        )
    for name, found in quality(suite, known).items():
        assert 0.98 <= found.second_over_first.mid <= 1.02, name
        assert found.best_over_bound.mid >= 1.0, name
        assert found.reference_over_best is not None
        assert found.reference_over_best.mid >= 1.0, name
