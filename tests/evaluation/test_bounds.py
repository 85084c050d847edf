"""The lower bound on mean JCT: exact where the best schedule is known, below every policy, and not vacuous."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from llmsched_gym.cluster.latency import LatencyProfile, load_profile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.bounds import _mean_busy_times, lower_bound_mean_jct
from llmsched_gym.policies.registry import load_policy, policy_names
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads import toy
from llmsched_gym.workloads.workload import Workload

ALL = ("sequence_sorting", "document_merging", "code_generation", "web_search", "task_automation", "llm_compiler")


def mean_jct(policy_name: str, workload: Workload, cluster: ClusterSpec, seed: int = 0) -> float:
    return float(play(policy_name, workload, cluster, seed)["jct_s"].mean())


def play(policy_name: str, workload: Workload, cluster: ClusterSpec, seed: int = 0) -> dict[str, Any]:
    policy = load_policy(policy_name)
    env = SchedulingEnv(
        workload=workload,
        cluster=cluster,
        observation=policy.observation,
        privileged=policy.privileged,
        max_candidates=None,
        max_jobs=None,
    )
    obs, info = env.reset(seed=seed)
    policy.reset(info)
    done = False
    while not done:
        obs, _, done, _, info = env.step(policy.act(obs))
    return info["result"]


def cluster_of(*groups: dict[str, Any]) -> ClusterSpec:
    return ClusterSpec.model_validate({"executors": groups})


def jobs_of(applications: tuple[str, ...], jobs: int, cluster: ClusterSpec, seed: int, load: float = 0.9) -> Workload:
    shares = dict.fromkeys(applications, 1.0)
    scenario = {"name": "test", "applications": shares, "jobs": jobs, "load": load, "cluster": cluster}
    return load_scenario(scenario).build("train", seed)


@cache
def default_cluster() -> ClusterSpec:
    return load_scenario("mixed").cluster


def test_the_bound_is_the_optimum_of_the_toy_workload() -> None:
    cluster = load_scenario("toy").cluster
    assert lower_bound_mean_jct(toy.toy(), cluster) == pytest.approx(toy.TOY_OPTIMAL_MEAN_JCT_S, abs=1e-6)


def test_the_bound_of_two_jobs_by_hand() -> None:
    # LLM: 1 + 1 s of the uncertain job first, then 5 s of the certain one, and 1 s on its tool: (2 + 8) / 2.
    cluster = load_scenario("two_jobs").cluster
    bound = lower_bound_mean_jct(toy.two_jobs(), cluster)
    assert bound == pytest.approx(toy.TWO_JOBS_INFORMED_MEAN_JCT_S, abs=1e-6)


def test_the_bound_holds_for_chains_of_stages_that_take_nanoseconds() -> None:
    """A stage may join a batch that began within the nanosecond before it: once per stage of the path."""
    profile = LatencyProfile("quick", 1_700, 0, 0, 0)
    with TemporaryDirectory() as folder:
        profile.save(Path(folder) / "quick.json")
        engines = {"kind": "llm", "count": 17, "latency": str(Path(folder) / "quick.json")}
        cluster = cluster_of(engines, {"kind": "regular"})
        for seed in range(20):
            workload = jobs_of(("code_generation",), 3, cluster, seed)
            rows = workload.tasks.copy()
            rows["output_tokens"], rows["duration_ns"] = np.minimum(rows["output_tokens"], 3), 0
            short = replace(workload, tasks=rows)
            assert lower_bound_mean_jct(short, cluster) <= mean_jct("fcfs", short, cluster)


@pytest.mark.parametrize("application", ["code_generation", "web_search"])
def test_a_chain_alone_takes_its_longest_path(application: str) -> None:
    cluster = default_cluster()
    for seed in range(5):
        workload = jobs_of((application,), 1, cluster, seed)
        bound, jct = lower_bound_mean_jct(workload, cluster), mean_jct("fcfs", workload, cluster)
        assert 0.97 * jct <= bound <= jct  # prefix hits come in whole blocks, and a chain's first prompt hits nothing


def test_the_path_of_one_request_by_hand() -> None:
    # Without prefix caching, a lone job of two stages in a row: every iteration and every token as the profile says.
    cluster = cluster_of(
        {"kind": "llm", "latency": "llama-2-7b-h100", "prefix_caching": False, "max_num_batched_tokens": 512},
        {"kind": "regular"},
    )
    workload = jobs_of(("web_search",), 1, cluster, 0)
    profile = load_profile("llama-2-7b-h100")
    total_ps = 0
    present = workload.stages["present"][workload.tasks["stage"]] == 1
    for task in workload.tasks[present]:
        prompt, output = int(task["prompt_tokens"]), int(task["output_tokens"])
        total_ps += int(task["duration_ns"]) * 1000
        if output:
            total_ps += -(-prompt // 512) * profile.iteration_ps + prompt * profile.prefill_ps
            total_ps += sum(
                profile.iteration_ps + profile.decode_ps + profile.context_ps * (prompt + k) for k in range(1, output)
            )
    bound = lower_bound_mean_jct(workload, cluster)
    assert bound == pytest.approx(total_ps * 1e-12, rel=1e-7)
    assert bound <= mean_jct("fcfs", workload, cluster) <= bound * (1 + 1e-6)


def test_mean_busy_times_of_a_preempted_job_by_hand() -> None:
    # Speed 2. A part of work 8 from 0 is interrupted from 1 to 2 by a more urgent one of work 2: it runs 0-1 and 2-5.
    release, work, rank = np.array([0.0, 1.0, 9.0]), np.array([8.0, 2.0, 4.0]), np.array([1, 0, 2])
    times = _mean_busy_times(release, work, rank, 2.0)
    assert times == pytest.approx([(1 * 0.5 + 3 * 3.5) / 4, 1.5, 10.0])


def test_mean_busy_times_minimise_the_weighted_sum_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        work, weight = rng.random((2, 5)) + 0.1
        release = np.cumsum(rng.random(5))
        best = np.empty(5, np.int64)
        best[np.argsort(-weight / work)] = np.arange(5)
        least = float(weight @ _mean_busy_times(release, work, best, 1.0))
        for _ in range(30):
            assert weight @ _mean_busy_times(release, work, rng.permutation(5), 1.0) >= least - 1e-12


RANDOM_CLUSTERS = [
    cluster_of(
        {"kind": "llm", "latency": "llama-2-7b-h100", "count": 2, "max_num_seqs": 4},
        {"kind": "regular", "count": 3},
    ),
    cluster_of(  # short of KV cache: sequences are preempted and recomputed
        {"kind": "llm", "latency": "llama-3.1-8b-h200", "max_num_seqs": 16, "kv_tokens": 9_000},
        {"kind": "regular", "count": 8},
    ),
    cluster_of(  # two kinds of engines, one without prefix cache
        {"kind": "llm", "latency": "llama-2-7b-a100", "max_num_seqs": 2, "prefix_caching": False},
        {"kind": "llm", "latency": "llama-2-7b-h100", "max_num_seqs": 8, "max_num_batched_tokens": 256},
        {"kind": "regular", "count": 1},
    ),
]


@pytest.mark.parametrize("cluster", RANDOM_CLUSTERS, ids=["small", "short of memory", "mixed engines"])
def test_no_policy_beats_the_bound_on_random_workloads(cluster: ClusterSpec) -> None:
    rng = np.random.default_rng(1)
    preemptions = 0
    for seed in range(8):
        applications = tuple(str(name) for name in rng.choice(ALL, size=rng.integers(1, 4), replace=False))
        load = float(rng.choice([0.2, 0.9, 3.0]))
        workload = jobs_of(applications, int(rng.integers(1, 12)), cluster, seed, load)
        bound = lower_bound_mean_jct(workload, cluster)
        for name in policy_names():
            result = play(name, workload, cluster, seed)
            assert bound <= result["jct_s"].mean(), (name, seed)
            preemptions += result["preemptions"]
    assert (preemptions > 0) == (cluster is RANDOM_CLUSTERS[1])


@pytest.mark.parametrize("name", ["mixed", "predefined", "chain", "planning"])
@pytest.mark.parametrize("load", [0.5, 0.9, 1.5])
def test_no_policy_beats_the_bound_on_the_scenarios_and_it_is_not_vacuous(name: str, load: float) -> None:
    scenario = load_scenario(name).replaced(jobs=40, load=load)
    workload = scenario.build("train", 3)
    bound = lower_bound_mean_jct(workload, scenario.cluster)
    achieved = {policy: mean_jct(policy, workload, scenario.cluster) for policy in policy_names()}
    assert bound <= min(achieved.values())
    assert bound >= 0.45 * achieved["oracle_srtf"]


def test_the_bound_grows_with_load_and_falls_with_executors() -> None:
    cluster = default_cluster()
    bounds = [lower_bound_mean_jct(jobs_of(ALL, 100, cluster, 0, load), cluster) for load in (0.1, 1.0, 2.0, 4.0)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > 1.5 * bounds[0]
    crowded = jobs_of(ALL, 100, cluster, 0, 4.0)
    doubled = ClusterSpec.model_validate(
        {"executors": [{**group.model_dump(), "count": 2 * group.count} for group in cluster.executors]}
    )
    assert lower_bound_mean_jct(crowded, doubled) < bounds[-1]


def test_a_cluster_that_cannot_run_the_workload_is_refused() -> None:
    with pytest.raises(InputError, match="no regular executor"):
        lower_bound_mean_jct(toy.toy(), cluster_of({"kind": "llm", "latency": "one-second-per-token"}))
