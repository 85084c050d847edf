"""Variate tools that the samplers share."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.workloads.facts import Quantiles, categorical, correlated_uniforms, normals, uniforms_given


def test_quantiles_are_linear_between_levels() -> None:
    table = Quantiles.of({"levels": [0, 0.5, 1], "values": [10, 20, 100]})
    assert table([0, 0.25, 0.5, 0.75, 1]).tolist() == [10, 15, 20, 60, 100]
    assert table.whole([0.0, 0.26, 1.0], low=12, high=50).tolist() == [12, 15, 50]


def test_whole_quantiles_are_rounded_to_even_and_clipped() -> None:
    table = Quantiles.of({"levels": [0.0, 1.0], "values": [0.0, 10.0]})
    u = np.linspace(0.0, 1.0, 21).reshape(3, 7)
    assert table.whole(u, low=0).tolist() == np.rint(table(u)).astype(int).tolist()
    assert table.whole(u).tolist() == np.maximum(np.rint(table(u)).astype(int), 1).tolist()
    assert table.whole(u.T, low=2, high=7).tolist() == np.clip(np.rint(table(u.T)).astype(int), 2, 7).tolist()


def test_normals_have_normal_moments() -> None:
    z = normals(np.random.default_rng(0), 200_000)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1


class _Zeros(np.random.Generator):
    """Generator that draws the smallest uniform only."""

    def random(self, size=None, dtype=np.float64, out=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.zeros(size if size is not None else ())


def test_normals_are_finite_for_the_smallest_uniform() -> None:
    z = normals(_Zeros(np.random.PCG64(0)), 3)
    assert np.isfinite(z).all()
    assert z.max() < -8


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_correlated_uniforms_are_uniform_and_correlate(rho: float) -> None:
    u = correlated_uniforms(np.random.default_rng(1), 50_000, 3, rho)
    assert u.shape == (50_000, 3)
    assert np.all((u > 0) & (u < 1))
    for level in (0.1, 0.5, 0.9):
        assert np.abs((u < level).mean(axis=0) - level).max() < 0.01
    pairs = [np.corrcoef(u[:, i], u[:, j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert pairs == pytest.approx([6 / np.pi * np.arcsin(rho / 2)] * 3, abs=0.02)


def test_uniforms_given_follow_the_latent_by_column() -> None:
    rng = np.random.default_rng(2)
    latent = normals(rng, 50_000)
    u = uniforms_given(rng, latent, 3, np.array([0.0, 0.8, -0.8]))
    found = [np.corrcoef(latent, u[:, i])[0, 1] for i in range(3)]
    expected = np.array([0.0, 0.8, -0.8]) * np.sqrt(3 / np.pi)  # a normal with a uniform of its copula
    assert np.abs(np.array(found) - expected).max() < 0.02


def test_categorical_inverts_the_cumulative_table() -> None:
    assert categorical([0.0, 0.24, 0.25, 0.74, 0.75, 1.0], [1, 0, 2, 1]).tolist() == [0, 0, 2, 2, 3, 3]
