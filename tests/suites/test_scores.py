"""Scores worked out by hand, and what counts as one value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.statistics import relative
from llmsched_gym.suites import Suite, load_suite
from llmsched_gym.suites.scores import scores


@pytest.fixture
def suite(folder: Path) -> Suite:
    """The tiny suite with twelve seeds, of which no jobs are drawn."""
    seeds = tuple(range(12))
    one = load_suite(folder)
    return replace(one, seeds=seeds, scenarios=tuple(replace(scenario, seeds=seeds) for scenario in one.scenarios))


BASE = {"crowd": [10.0] * 6 + [20.0] * 6, "plans": [3.0] * 12}


def _times(factor: float, spread: float = 0.01, seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {
        name: [factor * value * float(np.exp(rng.normal(0, spread))) for value in row] for name, row in BASE.items()
    }


def test_scores_are_geometric_means_over_seeds_and_scenarios(suite: Suite) -> None:
    values = {"crowd": [5.0, 20.0, *[10.0] * 4, *[20.0] * 6], "plans": [12.0] * 12}
    (found,) = scores(suite, {"mine": values}, BASE)
    assert found.scenarios["crowd"].mid == pytest.approx(1.0)
    assert found.scenarios["plans"].mid == pytest.approx(4.0)
    assert found.overall.mid == pytest.approx(2.0)
    assert found.rank == 1


def test_best_first_and_those_that_see_the_truth_are_not_ranked(suite: Suite) -> None:
    table = {
        "slow": _times(1.5, seed=1),
        "fast": _times(1.1, seed=2),
        "oracle": _times(0.9, seed=3),
        "twin": _times(1.1),
    }
    found = scores(suite, table, BASE, unranked={"oracle"})
    assert found[0].policy == "oracle"
    assert {one.policy: one.rank for one in found} == {"oracle": None, "fast": 1, "twin": 1, "slow": 3}


def test_a_seed_is_one_value_over_all_scenarios(suite: Suite) -> None:
    """Noise that both scenarios share under a seed makes the suite's interval no narrower than one scenario's."""
    rng = np.random.default_rng(4)
    shared = np.exp(rng.normal(0.2, 0.2, size=12))
    alike = {name: list(np.array(row) * shared) for name, row in BASE.items()}
    (found,) = scores(suite, {"mine": alike}, BASE)
    one = relative(alike["plans"], BASE["plans"])
    assert found.overall.as_list() == pytest.approx(one.as_list())


def test_the_reference_beside_itself_is_one(suite: Suite) -> None:
    (found,) = scores(suite, {"reference": BASE}, BASE)
    assert found.overall.as_list() == pytest.approx([1.0, 1.0, 1.0])


def test_missing_values_are_named(suite: Suite) -> None:
    with pytest.raises(
        InputError, match="suite tiny-v1: policy mine: plans: got 0 values; expected one value per seed, 12"
    ):
        scores(suite, {"mine": {"crowd": BASE["crowd"]}}, BASE)
    with pytest.raises(InputError, match="reference: crowd: got 3 values"):
        scores(suite, {"mine": BASE}, {**BASE, "crowd": [1.0] * 3})
