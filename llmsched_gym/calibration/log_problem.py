"""How far a replay of a request log is from what it measured, as a least-squares problem in four factors.

A profile's coefficients are changed by few factors, which the log has to argue for: all of them (believed to be
anything), the time of an iteration by itself, prompt tokens, and context (believed to be near 1). Requests share
batches, so all are replayed, but only times of those chosen count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.measured_log import Floats, MeasuredLog, only, replayed
from llmsched_gym.calibration.robust_fit import Fitted, Problem, minimise
from llmsched_gym.cluster.latency import LatencyProfile

FACTORS: Final = ("all coefficients", "an iteration by itself", "prompt tokens", "context")

PRIOR_TABLE: Final = (np.inf, 0.2, 0.4, 0.1)
"""Standard deviation of the logarithms of the factors of a profile that was fitted to the machine's own table."""

PRIOR_OTHER: Final = (np.inf, 0.7, 0.7, 0.7)
"""The same of the profile of some other model or machine."""

_NOISE: Final = (0.1, 0.05, 0.3)
"""Standard deviations of the logarithmic errors of a request's end, of its stream from first to last token, and of its
first token with the right coefficients. Streams are nearly all iterations; before the first token there may be time
that no iteration takes (tokenising, network, a kernel's first compilation)."""

_STREAM: Final = 8
"""Output tokens from which a stream counts; where none is known, the end counts like one."""

_STEPS: Final = (np.linspace(-2.5, 2.5, 11), np.linspace(-0.4, 0.4, 9))
"""Logarithms of scales that are tried, wide ones and then fine ones around the best of them."""

_LEAST_MS: Final = 1e-6
_LARGEST_MS: Final = 1e5


def changed(start: LatencyProfile, logs: Floats) -> LatencyProfile:
    """Multiply a profile's coefficients.

    Args:
        start: The profile.
        logs: float64 (4,), logarithms of the factors of all coefficients and, on top, of a, c (and e) and d.
    """
    scale, iteration, prompt, context = np.exp(logs)
    a, b, c, d = start.coefficients_ms
    values = (max(a * scale * iteration, _LEAST_MS), b * scale, c * scale * prompt, d * scale * context)
    values = (*values, start.attention_ms * scale * prompt)
    return LatencyProfile.from_ms(
        start.name, tuple(min(float(value), _LARGEST_MS) for value in values), start.provenance
    )


class LogProblem(NamedTuple):
    """What factors are fitted to.

    Attributes:
        log: What the server measured.
        chosen: Requests whose times count; intp (k,), ascending.
        company: Requests to replay, those chosen among them; intp (m,), ascending.
        prior: Standard deviations of the logarithms of the factors; float64 (4,).
    """

    log: MeasuredLog
    chosen: NDArray[np.intp]
    company: NDArray[np.intp]
    prior: Floats

    def fit(self, config: EngineConfig, near: Floats | None = None) -> Fitted:
        """Fit the factors of the engine's profile, logarithms that is, near a guess (default: any scale)."""
        problem = self._of(config)
        return minimise(problem, self._scaled(problem, np.zeros(4)).at if near is None else near)

    def rescaled(self, config: EngineConfig, at: Floats) -> Fitted:
        """Return the best scale with this engine, the other factors being as they are at a point."""
        return self._scaled(self._of(config), at)

    def replay(self, config: EngineConfig, at: Floats) -> MeasuredLog:
        """Replay the company with these factors."""
        config = replace(config, profile=changed(config.profile, at))
        return replayed(only(self.log.requests, self.company), config)

    def _of(self, config: EngineConfig) -> Problem:
        here = np.searchsorted(self.company, self.chosen)
        first, end = self.log.first_token_s[self.chosen], self.log.end_to_end_s[self.chosen]
        known = np.isfinite(first)
        streamed = known & (self.log.requests.output_tokens[self.chosen] >= _STREAM)

        def residuals(at: Floats) -> Floats:
            replay = self.replay(config, at)
            our_first, our_end = replay.first_token_s[here], replay.end_to_end_s[here]
            streams = (our_end - our_first)[streamed] / (end - first)[streamed]
            return np.log(np.concatenate([our_end / end, streams, our_first[known] / first[known]]))

        noise = np.repeat(_NOISE, [len(here), int(streamed.sum()), int(known.sum())])
        noise[: len(here)][~streamed] = _NOISE[1]
        return Problem(residuals, noise**-2.0, self.prior)

    def _scaled(self, problem: Problem, at: Floats) -> Fitted:
        """Return the best scale, beginning with the one that is right for the ends in the median."""
        best = at - [np.median(problem.residuals(at)[: len(self.chosen)]), 0.0, 0.0, 0.0]
        least = np.inf
        for steps in _STEPS:
            tried = best + np.outer(steps, [1.0, 0.0, 0.0, 0.0])
            losses = [problem.loss(each, problem.residuals(each)) for each in tried]
            best, least = tried[int(np.argmin(losses))], min(losses)
        return Fitted(best, least, np.full(4, np.nan))
