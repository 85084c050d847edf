"""Jobs to learn from and jobs to be judged on have nothing in common, by construction; what ships was made that way.

All randomness of a workload comes from `stream`, whose state names the split. So it is enough that streams of different
splits never coincide, that nothing else is drawn from, and that what ships says which split it was made on.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.learned import WEIGHTS
from llmsched_gym.profiler.fit import profiling_jobs
from llmsched_gym.profiler.store import SHIPPED
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads import generator, history
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.splits import MAX_SEED, SPLITS, stream

RANDOM = ("mixed", "predefined", "chain", "planning")
SEEDS = some.integers(0, MAX_SEED)


@given(some.sampled_from([*combinations(SPLITS, 2)]), SEEDS, SEEDS, some.text(max_size=12))
def test_no_seed_of_one_split_gives_the_stream_of_another(
    splits: tuple[str, str], one: int, other: int, name: str
) -> None:
    states = [stream(split, seed, name).bit_generator.state for split, seed in zip(splits, (one, other), strict=True)]
    assert states[0] != states[1]


@given(some.sampled_from([*SPLITS]), SEEDS, SEEDS)
def test_two_seeds_of_a_split_give_different_streams(split: str, one: int, other: int) -> None:
    assume(one != other)
    states = [stream(split, seed, "arrivals").bit_generator.state for seed in (one, other)]
    assert states[0] != states[1]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("scenario", RANDOM)
def test_a_workload_is_drawn_from_the_streams_of_its_split_and_seed_alone(
    scenario: str, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[tuple[str, int, str]] = set()

    def noting(of: str, seed: int, name: str) -> np.random.Generator:
        used.add((of, seed, name))
        return stream(of, seed, name)

    def forbidden(*_: object) -> np.random.Generator:
        raise AssertionError("drawn from a generator that no split names")

    history.sampled_history.cache_clear()
    for module in (generator, history):
        monkeypatch.setattr(module, "stream", noting)
    monkeypatch.setattr(np.random, "default_rng", forbidden)
    monkeypatch.setattr(np.random, "RandomState", forbidden)
    load_scenario(scenario).replaced(jobs=40).build(split, 7)
    means = {one for one in used if one[2].startswith("history/")}
    assert {one[:2] for one in means} == {("profile", 0)}
    assert {one[:2] for one in used - means} == {(split, 7)}
    assert {one[2] for one in used - means} >= {"arrivals", "mix"}


@pytest.mark.parametrize("scenario", RANDOM)
def test_workloads_of_different_splits_share_no_job(scenario: str) -> None:
    chosen = load_scenario(scenario).replaced(jobs=60)
    workloads = {(split, seed): chosen.build(split, seed) for split in SPLITS for seed in range(4)}
    assert len({workload.digest for workload in workloads.values()}) == len(workloads)
    arrivals = {split: np.concatenate([workloads[split, k].jobs["arrival_ns"] for k in range(4)]) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not np.intersect1d(arrivals[one], arrivals[other]).size


def test_what_learns_draws_from_its_own_split_and_what_judges_from_eval() -> None:
    assert Setting.make("mixed", jobs=5).workload(0).provenance["split"] == "eval"
    env = SchedulingEnv("mixed", jobs=5)
    env.reset(seed=0)
    assert env.workload.provenance["split"] == "train"
    assert profiling_jobs("web_search", 5).provenance["split"] == "profile"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_shipped_profiles_were_fitted_on_the_profile_split(name: str) -> None:
    assert json.loads((SHIPPED / f"{name}.json").read_text())["provenance"]["split"] == "profile"


@pytest.mark.parametrize("card", sorted(WEIGHTS.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_weights_name_the_train_split_seeds_and_a_clean_commit(card: Path) -> None:
    training = json.loads(card.read_text())["training"]
    assert training["split"] == "train"
    assert re.search(r"\d", training["seeds"])
    assert re.fullmatch(r"[0-9a-f]{7,40}", training["commit"]), training["commit"]
    assert training["recipe"].startswith("agents/")
    assert training["config"]
