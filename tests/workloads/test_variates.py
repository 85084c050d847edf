"""Compiled variates that the samplers share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.facts import Quantiles
from llmsched_gym.workloads.variates import category, correlated, level, normal, quantile, uniforms, whole_quantile

TABLE = Quantiles.of({"levels": [0, 0.5, 1], "values": [0, 5, 85]})


def normals(seed: int, n: int) -> NDArray[np.float64]:
    return np.array([normal(u) for u in np.random.default_rng(seed).random(n)])


def test_uniforms_are_those_of_successive_draws() -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    for array, width in zip(uniforms(one, 5, (1, 4, 0, 2)), (1, 4, 0, 2), strict=True):
        assert array.tolist() == other.random((5, width)).tolist()
    assert one.random() == other.random()


def test_quantiles_are_linear_between_levels() -> None:
    assert [quantile(u, TABLE) for u in (0, 0.25, 0.5, 0.75, 1)] == [0, 2.5, 5, 45, 85]


def test_whole_quantiles_are_rounded_to_even_and_at_least_one() -> None:
    assert [whole_quantile(u, TABLE) for u in (0.0, 0.14, 0.15, 0.25, 0.35, 0.51)] == [1, 1, 2, 2, 4, 7]


def test_normals_have_normal_moments_and_are_finite() -> None:
    z = normals(0, 100_000)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.15
    assert -9 < normal(0.0) < -8


@pytest.mark.parametrize("r", [0.0, 0.8, -0.8])
def test_correlated_scores_are_normal_and_follow_the_latent_one(r: float) -> None:
    latent, noise = normals(1, 50_000), np.random.default_rng(2).random(50_000)
    scores = np.array([correlated(r, z, u) for z, u in zip(latent, noise, strict=True)])
    assert abs(scores.std() - 1) < 0.02
    assert np.corrcoef(latent, scores)[0, 1] == pytest.approx(r, abs=0.02)
    levels = np.array([level(score, detmath.normal_curve()) for score in scores])
    for one in (0.1, 0.5, 0.9):
        assert abs((levels < one).mean() - one) < 0.01


def test_a_level_is_that_of_its_normal_score() -> None:
    for u in (0.001, 0.2, 0.5, 0.97):
        assert level(normal(u), detmath.normal_curve()) == pytest.approx(u, abs=1e-6)


def test_categories_invert_the_cumulative_table() -> None:
    cumulative = np.cumsum([1.0, 0.0, 2.0, 1.0])
    assert [category(u, cumulative) for u in (0.0, 0.24, 0.25, 0.74, 0.75, 1.0)] == [0, 0, 2, 2, 3, 3]
