"""The table policies, each on an observation that tells it apart from the others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.policies.base import Observation, PriorityPolicy
from llmsched_gym.policies.registry import load_policy

WAIT = 8

CANDIDATES = [
    {"job": 0, "path_s": 3, "influence": 1},
    {"job": 1, "path_s": 9, "influence": 2, "free_slots": 0},
    {"job": 1, "path_s": 8, "influence": 2},
    {"job": 2, "path_s": 4, "influence": 7},
    {"job": 3, "path_s": 5, "influence": 3},
    {"job": 4, "path_s": 1, "influence": 4},
]
JOBS = [
    {"total_s": 50, "remaining_s": 40, "attained_s": 10, "tasks_running": 3},
    {"total_s": 60, "remaining_s": 50, "attained_s": 9, "tasks_running": 4},
    {"total_s": 70, "remaining_s": 30, "attained_s": 8, "tasks_running": 1},
    {"total_s": 20, "remaining_s": 35, "attained_s": 7, "tasks_running": 2},
    {"total_s": 80, "remaining_s": 60, "attained_s": 2, "tasks_running": 5},
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fcfs", 0), ("sjf", 4), ("fair", 3), ("las", 5), ("srtf", 3), ("critical_path", 2), ("argus", 3)],
)
def test_each_heuristic_dispatches_its_own_first_choice(observe: Any, name: str, expected: int) -> None:
    assert load_policy(name).act(observe(CANDIDATES, JOBS)) == expected


@pytest.mark.parametrize("name", ["fcfs", "sjf", "fair", "las", "srtf", "critical_path", "argus", "oracle_srtf"])
def test_ties_go_to_the_earliest_legal_row(observe: Any, name: str) -> None:
    candidates = [{"job": 0, "free_slots": 0}, {"job": 1}, {"job": 2}]
    assert load_policy(name).act(observe(candidates, [{}] * 3)) == 1


@pytest.mark.parametrize(
    "name", ["random", "fcfs", "sjf", "fair", "las", "srtf", "critical_path", "argus", "oracle_srtf"]
)
def test_heuristics_wait_only_when_nothing_can_be_dispatched(observe: Any, name: str) -> None:
    policy = load_policy(name)
    policy.reset({"policy_seed": 1})
    assert policy.act(observe([{"job": 0, "free_slots": 0}], [{}])) == WAIT
    assert policy.act(observe([{"job": 0, "free_slots": 0}, {"job": 0}], [{}])) == 1


class Ranking(PriorityPolicy):
    """Ranks by whatever it is given."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return self.keys


@pytest.mark.parametrize(
    ("keys", "got"),
    [
        (np.zeros(1), "float64, shape (1,)"),
        (np.zeros(7), "float64, shape (7,)"),
        (np.zeros((3, 1)), "float64, shape (3, 1)"),
        (np.zeros(0), "float64, shape (0,)"),
        (2.5, "float64, shape ()"),
        (None, "object, shape ()"),
        ([1, 2], "int64, shape (2,)"),
        (["a", "b", "c"], "<U1, shape (3,)"),
        (np.array([None, 1, 2]), "object, shape (3,)"),
        (np.zeros(3, np.complex128), "complex128, shape (3,)"),
        (np.zeros(3, "M8[s]"), "datetime64[s], shape (3,)"),
        (np.array([1.0, np.nan, 0.0]), "NaN"),
    ],
)
def test_keys_that_are_not_one_number_per_candidate_are_refused(observe: Any, keys: Any, got: str) -> None:
    expected = f"key of Ranking: got {got}; expected a number per row, shape (3,)"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        Ranking(keys).act(observe([{"job": 0}, {"job": 1}, {"job": 2}], [{}] * 3))


@pytest.mark.parametrize(
    "keys", [np.array([2.0, 0.0, 1.0], np.float32), np.array([5, 3, 4]), np.array([True, False, True]), [0.3, -1, 2]]
)
def test_any_numbers_rank(observe: Any, keys: Any) -> None:
    assert Ranking(keys).act(observe([{"job": 0}, {"job": 1}, {"job": 2}], [{}] * 3)) == 1


def test_jobs_outside_the_window_rank_behind_the_jobs_in_it(observe: Any) -> None:
    candidates = [{"job": 0}, {"job": -1}, {"job": 1}]
    jobs = [{"remaining_s": 9}, {"remaining_s": 5}]
    assert load_policy("srtf").act(observe(candidates, jobs, jobs_present=3)) == 2
    only_hidden = [{"job": 0, "free_slots": 0}, {"job": -1}, {"job": -1}]
    assert load_policy("srtf").act(observe(only_hidden, jobs, jobs_present=4)) == 1


def test_oracle_ranks_jobs_by_truth(observe: Any) -> None:
    oracle = load_policy("oracle_srtf")
    truth = [{"job_remaining_s": 5}, {"job_remaining_s": 4}, {"job_remaining_s": 6}]
    jobs = [{"remaining_s": 1}, {"remaining_s": 3}, {"remaining_s": 2}]
    assert oracle.privileged
    assert oracle.act(observe([{"job": 0}, {"job": 1}, {"job": 2}], jobs, truth=truth)) == 1


def test_random_is_uniform_over_legal_dispatches_and_repeats_with_its_seed(observe: Any) -> None:
    policy = load_policy("random")
    obs = observe(CANDIDATES, JOBS)
    policy.reset({"policy_seed": 7})
    actions = [policy.act(obs) for _ in range(2000)]
    policy.reset({"policy_seed": 7})
    assert [policy.act(obs) for _ in range(2000)] == actions
    policy.reset({"policy_seed": 8})
    assert [policy.act(obs) for _ in range(2000)] != actions
    counts = np.bincount(actions, minlength=WAIT + 1)
    assert set(np.flatnonzero(counts)) == {0, 2, 3, 4, 5}
    assert counts[counts > 0].min() > 320  # 400 expected, standard deviation 18
