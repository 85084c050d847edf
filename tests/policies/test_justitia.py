"""Virtual finish times against fair sharing played out step by step."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.justitia import VirtualTime
from llmsched_gym.policies.registry import load_policy


def fair_finishes(arrivals: np.ndarray, costs: np.ndarray, capacity: float) -> np.ndarray:
    """Share capacity equally among those present, event by event."""
    left, finish = costs.copy(), np.full(len(costs), np.inf)
    now = 0.0
    while np.isinf(finish).any():
        present = np.flatnonzero((arrivals <= now) & np.isinf(finish))
        coming = arrivals[arrivals > now].min(initial=np.inf)
        if present.size == 0:
            now = coming
            continue
        rate = capacity / present.size
        until = min(now + left[present].min() / rate, coming)
        left[present] -= (until - now) * rate
        now = until
        finish[present[left[present] <= 1e-9]] = now
    return finish


@pytest.mark.parametrize("seed", range(20))
def test_jobs_stand_in_the_order_in_which_fair_sharing_would_finish_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, 30, 25))
    costs, capacity = rng.lognormal(1.0, 1.5, 25), float(rng.integers(1, 9))
    clock = VirtualTime()
    virtual = [clock.arrive(float(a), float(c), capacity) for a, c in zip(arrivals, costs, strict=True)]
    assert np.argsort(virtual).tolist() == np.argsort(fair_finishes(arrivals, costs, capacity)).tolist()


def test_its_ranks_never_change_while_jobs_wait() -> None:
    env = SchedulingEnv("mixed", jobs=60, load=1.5)
    policy = load_policy("justitia")
    obs, info = env.reset(seed=2)
    policy.reset(info)
    over, known = False, {}
    while not over:
        obs, _, over, _, info = env.step(policy.act(obs))
        jobs = policy._jobs  # pyright: ignore
        for arrival, finish in zip(jobs.arrival_s.round(1).tolist(), jobs.kept, strict=True):
            known.setdefault(arrival, set()).add(finish)
    assert len(known) > 20
    assert sum(len(values) == 1 for values in known.values()) > 0.9 * len(known)  # some arrive in one tenth of a second
