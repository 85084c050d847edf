"""Scores: how many times the reference's metric a policy has on the same jobs, per scenario and over a suite.

A scenario's score is the geometric mean over its seeds, a suite's the geometric mean over its scenarios; below 1 is
better than the reference. The unit is the seed in both: scenarios of one suite share seeds, and the streams behind one
seed draw part of the same randomness in several of them, so that a suite's interval is made of one value per seed, the
geometric mean over the scenarios. Intervals and ranks are those of `evaluation.statistics`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.statistics import Interval, ranks, relative, relative_to_several
from llmsched_gym.suites.suite import Suite

PerScenario = Mapping[str, Sequence[float]]
"""Scenario name → one value per seed, in the order of the suite's seeds."""


@dataclass(frozen=True)
class PolicyScore:
    """What came of a policy.

    Attributes:
        policy: Its name.
        overall: Score on the suite.
        scenarios: Score per scenario.
        rank: By the score on the suite; what cannot be told apart shares one. None for those that are not ranked.
    """

    policy: str
    overall: Interval
    scenarios: Mapping[str, Interval]
    rank: int | None


def scores(
    suite: Suite, values: Mapping[str, PerScenario], references: PerScenario, unranked: Container[str] = ()
) -> list[PolicyScore]:
    """Score policies, the best first.

    Args:
        suite: What they were run on.
        values: Policy → scenario → its metric per seed, each > 0.
        references: Scenario → the reference's metric per seed.
        unranked: Policies that see the truth.

    Raises:
        InputError: A policy or the reference lacks a scenario or a seed of the suite.
    """
    names = [scenario.name for scenario in suite.scenarios]
    base = _complete(suite, "reference", references)
    table = {policy: _complete(suite, f"policy {policy}", each) for policy, each in values.items()}
    ranked = ranks({policy: list(_per_seed(each, base)) for policy, each in table.items() if policy not in unranked})
    found = [
        PolicyScore(
            policy,
            relative_to_several(each, base),
            {name: relative(mine, theirs) for name, mine, theirs in zip(names, each, base, strict=True)},
            ranked.get(policy),
        )
        for policy, each in table.items()
    ]
    return sorted(found, key=lambda one: one.overall.mid)


def _per_seed(values: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.log(values / base).mean(axis=0))


def _complete(suite: Suite, whose: str, values: PerScenario) -> NDArray[np.float64]:
    """Return float64 (scenarios, seeds)."""
    for scenario in suite.scenarios:
        n = len(values.get(scenario.name, ()))
        if n != len(scenario.seeds):
            allowed = f"one value per seed, {len(scenario.seeds)}"
            raise InputError(f"suite {suite.name}: {whose}", scenario.name, Plain(f"{n} values"), allowed)
    return np.array([values[scenario.name] for scenario in suite.scenarios], dtype=np.float64)
