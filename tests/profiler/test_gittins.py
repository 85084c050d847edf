"""The index of `profiler.gittins` against its definition, and what the profiler's column tells."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.envs.columns import Job, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.profiler.gittins import gittins_index


def by_definition(values: np.ndarray, received: float) -> float:
    """Try every quota, over the values that are not ruled out."""
    left = values[values > received] - received
    quotas = [np.minimum(left, quota).mean() / (left <= quota).mean() for quota in left]
    return min(quotas, default=np.inf)


@pytest.mark.parametrize("seed", range(50))
def test_the_index_is_the_least_over_all_quotas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = np.sort(rng.choice([1.0, 2.5, 7.0, 40.0, 41.0], 32) if seed % 2 else rng.lognormal(0.0, 2.0, 32))
    for received in (0.0, 0.5, float(atoms[3]), float(np.median(atoms)), float(atoms[-1])):
        assert gittins_index(atoms, received) == pytest.approx(by_definition(atoms, received), rel=1e-12)


def test_what_may_soon_be_over_goes_before_what_is_shorter_on_average() -> None:
    certain = np.full(32, 20.0)
    gamble = np.array([2.0] * 8 + [100.0] * 24)
    assert gittins_index(certain, 0.0) == 20.0
    assert gittins_index(gamble, 0.0) == 8.0  # two seconds with one job, over a quarter
    assert gittins_index(gamble, 2.0) == 98.0, "once the early end did not come"
    assert gittins_index(gamble, 100.0) == np.inf, "nothing is left that it could be"


def test_the_column_lies_between_the_smallest_quantile_and_the_mean() -> None:
    env = SchedulingEnv("mixed", jobs=40, load=1.5)
    observation, info = env.reset(seed=3)
    seen, over = 0, False
    rng = np.random.default_rng(0)
    while not over:
        jobs = observation["jobs"][: int(observation["system"][System.JOB_ROWS])]
        waiting = jobs[(jobs[:, Job.ATTAINED_S] == 0.0) & (jobs[:, Job.POSTERIOR_S] != jobs[:, Job.REMAINING_S])]
        index, mean = waiting[:, Job.GITTINS_S], waiting[:, Job.POSTERIOR_S]
        # Samples stand for the posterior: their mean is not quite the exact one.
        assert (index <= 1.05 * mean).all()
        assert (index >= 0.5 * waiting[:, Job.POSTERIOR_LOW_S]).all()
        seen += len(waiting)
        observation, _, over, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
    assert seen > 100
