"""The damped steps find what another optimiser finds, and shrug off outliers."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.calibration.robust_fit import Problem, minimise


def test_same_minimum_as_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    for _ in range(20):
        design = rng.standard_normal((30, 3))
        shift = design @ rng.normal(0.0, 0.3, 3) + 0.05 * rng.standard_normal(30)
        weights, prior = rng.uniform(10.0, 900.0, 30), np.array([np.inf, 0.3, 1.0])

        def residuals(at: np.ndarray, design: np.ndarray = design, shift: np.ndarray = shift) -> np.ndarray:
            return np.arctan(design @ at) - np.arctan(shift)

        problem = Problem(residuals, weights, prior)
        fitted = minimise(problem, np.zeros(3))
        assert fitted.loss == pytest.approx(problem.loss(fitted.at, residuals(fitted.at)))
        other = optimize.minimize(lambda at: problem.loss(at, residuals(at)), fitted.at, method="Nelder-Mead")  # noqa: B023
        assert fitted.loss <= other.fun * 1.005


def test_spread_of_a_line_is_that_of_least_squares() -> None:
    """Few per cent of noise: the loss is quadratic, so that the textbook's covariance holds."""
    design = np.random.default_rng(1).standard_normal((200, 2))
    noise = 0.01 * np.random.default_rng(2).standard_normal(200)
    problem = Problem(lambda at: design @ (at - [0.5, -0.2]) + noise, np.full(200, 1e4), np.full(2, np.inf))
    fitted = minimise(problem, np.zeros(2))
    np.testing.assert_allclose(fitted.spread, 0.01 * np.sqrt(np.diag(np.linalg.inv(design.T @ design))), rtol=0.02)
    assert (np.abs(fitted.at - [0.5, -0.2]) < 4 * fitted.spread).all()


def test_a_fifth_of_outliers_hardly_counts() -> None:
    rng = np.random.default_rng(3)
    outliers = np.where(np.arange(100) % 5 == 0, 3.0, 0.0)
    noise = 0.02 * rng.standard_normal(100)
    fitted = minimise(
        Problem(lambda at: at[0] - noise - outliers, np.full(100, 400.0), np.array([np.inf])), np.zeros(1)
    )
    assert abs(fitted.at[0]) < 0.1  # the mean is at 0.6
