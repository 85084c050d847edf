"""Set packing: CP-SAT finds what trying everything finds, and the greedy twin never more."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmsched_gym.policies.set_packing import Packing, need_ortools, pack_greedily, pack_obviously, pack_optimally

pytest.importorskip("ortools")


def random_packing(seed: int) -> Packing:
    """Return up to 9 candidates of up to 4 stages on 3 executors, with up to 3 models."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    stage = np.sort(rng.integers(0, 4, n))
    model_of = rng.integers(0, 3, 4)
    uses = rng.random((n, 3)) < 0.4
    uses[np.arange(n), rng.integers(0, 3, n)] = True
    tasks = np.where(uses, rng.integers(0, 4, (n, 3)), 0)
    return Packing(
        stage=stage,
        value=rng.integers(1, 12, n) * 100,
        model=np.where(uses, model_of[stage][:, None], -1),
        tasks=tasks,
        room=rng.integers(2, 6, 3),
        opening=rng.integers(-3, 3, (3, 3)) * 100,
    )


def best_of_all(packing: Packing) -> int:
    """Return the best objective by trying everything."""
    n = len(packing.stage)
    every = (np.array(bits, np.bool_) for bits in product((False, True), repeat=n))
    return max(packing.objective(chosen) for chosen in every if packing.is_feasible(chosen))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_solver_finds_the_best_packing_and_greedy_finds_none_better(seed: int) -> None:
    packing = random_packing(seed)
    chosen = pack_optimally(packing, need_ortools("test"))
    assert chosen is not None
    assert packing.is_feasible(chosen)
    best = best_of_all(packing)
    assert packing.objective(chosen) == best
    greedy = pack_greedily(packing)
    assert packing.is_feasible(greedy)
    assert packing.objective(greedy) <= best
    obvious = pack_obviously(packing)
    if obvious is not None:
        assert packing.is_feasible(obvious)
        assert packing.objective(obvious) == best


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_what_the_solver_does_not_get_is_packed_around_what_it_chose(seed: int, most: int) -> None:
    packing = random_packing(seed)
    chosen = pack_optimally(packing, need_ortools("test"), most)
    assert chosen is not None
    assert packing.is_feasible(chosen)
    assert packing.objective(chosen) >= packing.objective(pack_greedily(packing))


def simple(value: list[int], model: list[list[int]], **changes: NDArray[np.int64]) -> Packing:
    uses = np.array(model)
    parts = {
        "stage": np.arange(len(value)),
        "value": np.array(value),
        "model": uses,
        "tasks": (uses >= 0).astype(np.int64),
        "room": np.full(uses.shape[1], 9),
        "opening": np.zeros((uses.shape[1], 3), np.int64),
    }
    return Packing(**{**parts, **changes})


def test_equal_values_go_to_the_earlier_candidate() -> None:
    packing = simple([5, 5, 5], [[0], [1], [2]])
    chosen = pack_optimally(packing, need_ortools("test"))
    assert chosen is not None
    assert chosen.tolist() == pack_greedily(packing).tolist() == [True, False, False]


def test_many_tasks_of_one_model_share_an_executor_as_far_as_there_is_room() -> None:
    packing = simple([5, 4, 3], [[0], [0], [0]], room=np.array([2]))
    assert pack_greedily(packing).tolist() == [True, True, False]


def test_what_opening_costs_is_counted_once() -> None:
    packing = simple([5, 4], [[0], [0]], opening=np.array([[-4, 0, 0]]))
    assert pack_greedily(packing).tolist() == [True, True]
    assert packing.objective(np.array([True, True])) == 5
