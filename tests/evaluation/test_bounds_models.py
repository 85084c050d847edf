"""The lower bound holds where executors serve several models, load them, and fetch inputs."""

from __future__ import annotations

import numpy as np
import pytest
from random_workloads import Case, random_model_cluster, with_models

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.workload import Workload


def mean_jct_s(workload: Workload, cluster: ClusterSpec, rng: np.random.Generator | None) -> float:
    """The mean JCT of first come first served, or of random placements that seldom wait."""
    if rng is None:
        state, simulation = loop.start(workload, cluster)
        loop.run_fcfs(state, simulation)
        return float((state.jobs["finish_ns"] - state.jobs["arrival_ns"]).mean()) * 1e-9
    env = SchedulingEnv("toy", workload=workload, cluster=cluster, placement="agent", profiler=False)
    observation, _ = env.reset(seed=0)
    done, info = False, {}
    while not done:
        legal = np.flatnonzero(observation["action_mask"])
        choice = legal if len(legal) == 1 or rng.random() < 0.05 else legal[legal < len(observation["action_mask"]) - 1]
        observation, _, done, _, info = env.step(int(rng.choice(choice)))
    return float(info["result"]["jct_s"].mean())


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_no_schedule_on_a_random_cluster_beats_the_bound(first: int) -> None:
    ratios = []
    for seed in range(first, first + 20):
        spread_ns = [0, 10**7, 10**10][seed % 3]
        case = Case(seed, n_apps=1 + seed % 2, n_jobs=1 + seed % 5, n_stages=5, spread_ns=spread_ns, short_of_kv=False)
        draft, _, rng = case.draw()
        workload, cluster = with_models(rng, draft.assemble()), random_model_cluster(rng)
        bound = lower_bound_mean_jct(workload, cluster)
        assert bound > 0.0
        for chooser in (None, rng, rng):
            ratios.append(bound / mean_jct_s(workload, cluster, chooser))
            assert ratios[-1] <= 1.0, seed
    assert max(ratios) > 0.3  # it says something


@pytest.mark.parametrize("name", ["hetero8", "hetero4"])
def test_no_schedule_of_a_shipped_scenario_beats_the_bound(name: str) -> None:
    scenario = load_scenario(name).replaced(jobs=20)
    for seed in range(2):
        workload = scenario.build("train", seed)
        bound = lower_bound_mean_jct(workload, scenario.cluster)
        assert 0.0 < bound <= mean_jct_s(workload, scenario.cluster, None)
        assert bound <= mean_jct_s(workload, scenario.cluster, np.random.default_rng(seed))
