"""Least squares for a model that is run, not written down: few parameters, outliers, and small jumps everywhere.

Residuals come from a simulation whose schedule changes with the parameters, so slopes are differences over a few per
cent, never over an infinitesimal step, and a residual beyond `_OUTLIER` counts with its size, not with its square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_OUTLIER: Final = 0.1
"""Residual from which the loss grows linearly; residuals are logarithms of ratios, so about ten per cent."""

_STEPS: Final = (0.05, 0.02)
"""Half the widths over which slopes are taken, one after the other."""

_LONGEST: Final = 0.5
_ROUNDS: Final = 15
_TRIES: Final = 6
_SETTLED: Final = 1e-3
"""Relative gain below which a round is the last."""


class Fitted(NamedTuple):
    """Where the loss is least.

    Attributes:
        at: float64 (k,).
        loss: Half the weighted robust sum of squares, the prior's included.
        spread: float64 (k,), standard deviation of each parameter, as far as residuals are independent.
    """

    at: Floats
    loss: float
    spread: Floats


class Problem(NamedTuple):
    """What is minimised.

    Attributes:
        residuals: From parameters, float64 (k,), to float64 (n,).
        weights: float64 (n,), one over the variance of each residual.
        prior: float64 (k,), standard deviations of a normal prior around 0; infinite where nothing is believed.
    """

    residuals: Callable[[Floats], Floats]
    weights: Floats
    prior: Floats

    def loss(self, at: Floats, residuals: Floats) -> float:
        """Return the loss of these residuals at these parameters."""
        robust = 2.0 * _OUTLIER**2 * (np.sqrt(1.0 + (residuals / _OUTLIER) ** 2) - 1.0)
        return 0.5 * float(self.weights @ robust + np.sum((at / self.prior) ** 2))


def minimise(problem: Problem, start: Floats) -> Fitted:
    """Minimise by damped Gauss-Newton steps from a start.

    Args:
        problem: Residuals, weights and prior.
        start: float64 (k,).

    Returns:
        The best point that was run; the same for the same arguments.
    """
    at, residuals = start, problem.residuals(start)
    loss = problem.loss(at, residuals)
    curvature = np.eye(len(at))
    for step in _STEPS:
        damping = 1e-2
        for _ in range(_ROUNDS):
            slopes = _slopes(problem, at, step)
            weights = problem.weights / np.sqrt(1.0 + (residuals / _OUTLIER) ** 2)
            curvature = slopes.T @ (weights[:, None] * slopes) + np.diag(problem.prior**-2.0)
            downhill = slopes.T @ (weights * residuals) + at * problem.prior**-2.0
            gain = 0.0
            for _ in range(_TRIES):
                damped = curvature + damping * np.diag(np.diag(curvature)) + 1e-12 * np.eye(len(at))
                tried = at - np.clip(np.linalg.solve(damped, downhill), -_LONGEST, _LONGEST)
                there = problem.residuals(tried)
                gain = loss - problem.loss(tried, there)
                if gain > 0.0:
                    at, residuals, loss = tried, there, loss - gain
                    damping = max(damping / 5.0, 1e-4)
                    break
                damping *= 5.0
            if gain <= _SETTLED * loss:
                break
    spread = np.sqrt(np.diag(np.linalg.pinv(curvature)))
    return Fitted(at, loss, spread)


def _slopes(problem: Problem, at: Floats, step: float) -> Floats:
    columns: list[Floats] = []
    for direction in step * np.eye(len(at)):
        above, below = problem.residuals(at + direction), problem.residuals(at - direction)
        columns.append((above - below) / (2.0 * step))
    return np.stack(columns, axis=1)
