"""The best schedules known of small instances: simulated annealing over orders of jobs.

Two searches look at each instance. One starts from the best of the clairvoyant portfolio (`PORTFOLIO`), the other from
random orders, and their random numbers differ; how far apart they end says how far either may be from what the method
can find. What they find is a schedule that exists, so an upper bound on the optimum, which lies between it and the
lower bound of `llmsched_gym.evaluation.bounds`.
"""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.suites.rollout import Rollouts, Schedule
from llmsched_gym.workloads.workload import Workload

WEIGHTS: Final = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0)
RESERVES_S: Final = (0.0, 1.0, 2.0, 3.0, 4.0, 8.0)
PORTFOLIO: Final = tuple(product(WEIGHTS, RESERVES_S))
"""(tool weight, reserve in seconds) of clairvoyant SRTF."""

ROLLOUTS: Final = 4000
"""Schedules that a search plays, by default."""

FURTHEST: Final = 40
"""Most steps, either way: factors of 1/1024 to 1024."""
_RANDOM: Final = 12
"""Most steps of a random order: factors of 1/8 to 8."""
_HOT: Final = 0.01
_COLD: Final = 1e-5
"""Temperatures, over the best mean JCT so far."""


class Known(NamedTuple):
    """What two searches found.

    Attributes:
        schedule: The better of both.
        first_s: Mean JCT that the search from the portfolio ended with.
        second_s: That of the search from random orders.
    """

    schedule: Schedule
    first_s: float
    second_s: float

    @property
    def best_s(self) -> float:
        """The least mean JCT that is known."""
        return min(self.first_s, self.second_s)


def search(workload: Workload, cluster: ClusterSpec, seed: int = 0, rollouts: int = ROLLOUTS) -> Known:
    """Search for the schedule with the least mean JCT, twice.

    Args:
        workload: The jobs.
        cluster: What they run on; its executors of a kind are alike.
        seed: Of the searches' randomness.
        rollouts: Schedules that each search plays.

    Raises:
        InputError: The cluster cannot run some task.
    """
    played = Rollouts(workload, cluster)
    n = workload.n_jobs
    same = np.zeros(n, np.int64)
    starts = [Schedule(same, weight, reserve_s) for weight, reserve_s in PORTFOLIO]
    first = _anneal(played, starts, rollouts, np.random.default_rng((seed, 1)))
    rng = np.random.default_rng((seed, 2))
    starts = [Schedule(rng.integers(-_RANDOM, _RANDOM + 1, n)) for _ in PORTFOLIO]
    second = _anneal(played, starts, rollouts, rng)
    return Known(min(first, second, key=lambda one: one[1])[0], first[1], second[1])


def _anneal(
    played: Rollouts, starts: list[Schedule], rollouts: int, rng: np.random.Generator
) -> tuple[Schedule, float]:
    """Return the best schedule met, and its mean JCT."""
    values = [played.mean_jct_s(start) for start in starts]
    now_s = best_s = min(values)
    now = best = starts[values.index(best_s)]
    for done in range(len(starts), rollouts):
        heat = best_s * _HOT * (_COLD / _HOT) ** (done / rollouts)
        tried = _neighbour(now, rng)
        tried_s = played.mean_jct_s(tried)
        if tried_s < now_s + heat * rng.exponential():
            now, now_s = tried, tried_s
        if now_s < best_s:
            best, best_s = now, now_s
    return best, best_s


def _neighbour(schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """Return a schedule that differs a little: some jobs moved, two exchanged, or tools spared otherwise."""
    move = rng.random()
    if move < 0.1:
        weight = schedule.tool_weight if rng.random() < 0.5 else float(rng.choice(WEIGHTS))
        return Schedule(schedule.steps, weight, float(rng.choice(RESERVES_S)))
    steps: NDArray[np.int64] = schedule.steps.copy()
    if move < 0.3 and len(steps) > 1:
        one, other = rng.choice(len(steps), 2, replace=False)
        steps[one], steps[other] = steps[other], steps[one]
    else:
        some = rng.choice(len(steps), min(len(steps), int(rng.geometric(0.5))), replace=False)
        steps[some] += np.rint(rng.normal(0.0, 4.0, len(some))).astype(np.int64)
    return schedule._replace(steps=np.clip(steps, -FURTHEST, FURTHEST))
