"""Settings of the server that wrote a request log, where nobody states them: those that explain its times clearly best.

Slots and KV blocks are limits: they show in a log once requests wait for them, and how long these wait tells the limit
within a few per cent. Asynchronous scheduling shows in first tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np

from llmsched_gym.backends.simulator.state import EngineConfig, kv_tokens_needed
from llmsched_gym.calibration.log_problem import LogProblem
from llmsched_gym.calibration.measured_log import Floats
from llmsched_gym.calibration.robust_fit import Fitted

Setting = Literal["async_scheduling", "max_num_seqs", "kv_blocks"]

_CLEAR: Final = 5.0
"""Gain of the loss, a logarithm of likelihoods, from which the log has argued for a limit that nobody states."""

_FINER: Final = 0.5
"""Gain from which a limit that was found is made more exact."""

_DOWN: Final = 0.85 ** np.arange(1, 16)
_NEAR: Final = np.array([0.93, 0.97, 0.985, 1.015, 1.03, 1.07])
"""Limits that are tried, as factors of what the replay needs at one time, and of the limit at hand."""

_UNLIMITED: Final = {"max_num_seqs": 1024, "kv_blocks": 1 << 20}


class Settled(NamedTuple):
    """An engine with the factors that fit best with it; its profile is where the fit started."""

    config: EngineConfig
    fit: Fitted


def settle(
    problem: LogProblem, config: EngineConfig, free: Collection[Setting], tell: Callable[[str], None]
) -> Settled:
    """Fit factors, and with them the settings that are free.

    Args:
        problem: What to fit to.
        config: The engine; free settings are as they are likely to be.
        free: Settings that may be changed.
        tell: Is told of every limit that is found.
    """
    best = _either_way(problem, config, free)
    limits = [name for name in _UNLIMITED if name in free]
    while limits:
        rivals = {name: _rival(problem, best, name, free) for name in limits}
        name = min(limits, key=lambda name: rivals[name].fit.loss)
        found = getattr(best.config, name) != getattr(config, name)
        if rivals[name].fit.loss > best.fit.loss - (_FINER if found else _CLEAR):
            break
        best = rivals[name]
        tell(f"{name} {getattr(best.config, name)} fits the log better")
    return best


def _either_way(
    problem: LogProblem, config: EngineConfig, free: Collection[Setting], near: Floats | None = None
) -> Settled:
    """Fit, with the scheduling that fits better where it is free."""
    ways = (False, True) if "async_scheduling" in free else (config.async_scheduling,)
    configs = [replace(config, async_scheduling=way) for way in ways]
    return min((Settled(each, problem.fit(each, near)) for each in configs), key=lambda settled: settled.fit.loss)


def _rival(problem: LogProblem, best: Settled, name: str, free: Collection[Setting]) -> Settled:
    """Fit with another value of one limit: with the one that does best before the other factors follow."""
    configs = [replace(best.config, **{name: value}) for value in _values(problem, best, name)]
    roughs = [Settled(config, problem.rescaled(config, best.fit.at)) for config in configs]
    rough = min(roughs, key=lambda settled: settled.fit.loss)
    return _either_way(problem, rough.config, free, rough.fit.at)


def _values(problem: LogProblem, best: Settled, name: str) -> list[int]:
    """Values of a limit that would make requests wait, some near the one at hand, and one that nothing meets."""
    config, requests = best.config, problem.log.requests
    most = min(_UNLIMITED[name], config.max_num_batched_tokens) if name == "max_num_seqs" else _UNLIMITED[name]
    replay = problem.replay(replace(config, **{name: most}), best.fit.at)
    if name == "max_num_seqs":
        least, needed = 1, replay.decoding_at_once()
    else:
        longest = max(map(kv_tokens_needed, requests.prompt_tokens.tolist(), requests.output_tokens.tolist()))
        least, needed = (-(-tokens // config.block_size) for tokens in (longest, replay.tokens_at_once()))
    tried = np.round(np.concatenate([needed * _DOWN, getattr(config, name) * _NEAR])).astype(int)
    return [most, *(value for value in np.unique(tried).tolist() if least <= value <= needed)]
