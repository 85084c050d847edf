"""Tools that weigh more, and the last free one kept: by hand, and where it explains what policies lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_gym.envs.columns import Job, Truth
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import PriorityPolicy
from llmsched_gym.policies.registry import load_policy

RANKING = ("srtf", "gittins", "llmsched_no_uncertainty", "oracle_srtf")
SPARING = (*RANKING, "llmsched", "llmsched_no_bn")


def one_tool_free(work_s: float) -> dict[str, Any]:
    """Return a long task of one job and a short one of another, one of two tools free; and an LLM task of a third."""
    stages = [
        {"job": job, "kind": kind, "tasks_waiting": 1, "free_slots": free, "work_s": seconds}
        for job, kind, free, seconds in ((0, 1, 1, work_s), (1, 1, 1, 1.0), (2, 0, 8, 50.0))
    ]
    remaining = (1.0, 2.0, 90.0)
    columns = ("remaining_s", "posterior_s", "gittins_s", "history_s", "posterior_high_s", "history_high_s")
    jobs = [dict.fromkeys(columns, seconds) for seconds in remaining]
    executors = [{"kind": 0, "slots": 8}, {"kind": 1, "slots": 1, "running": 1}, {"kind": 1, "slots": 1}]
    truth = [{"job_remaining_s": seconds} for seconds in remaining]
    return {"candidates": stages, "jobs": jobs, "executors": executors, "truth": truth}


@pytest.mark.parametrize("name", SPARING)
def test_the_last_tool_is_kept_from_long_tasks(name: str, observe: Any) -> None:
    obs = observe(**one_tool_free(100.0))
    info = {"policy_seed": 0}
    free, sparing = load_policy(name), load_policy(name, reserve_s=4.0)
    for policy in (free, sparing):
        policy.reset(info)
    assert free.act(obs) == 0
    assert sparing.act(obs) == 1, "100 s are more than 4 s for each of two tools"
    short = observe(**one_tool_free(8.0))
    assert sparing.act(short) == 0, "8 s are not"


@pytest.mark.parametrize("name", SPARING)
def test_it_waits_only_if_something_is_going_to_happen(name: str, observe: Any) -> None:
    only = one_tool_free(100.0)
    only = {**only, "candidates": only["candidates"][:1], "truth": only["truth"][:1]}
    policy = load_policy(name, reserve_s=4.0)
    policy.reset({"policy_seed": 0})
    obs = observe(**only)
    assert policy.act(obs) == len(obs["action_mask"]) - 1
    obs["action_mask"][-1] = 0
    assert policy.act(obs) == 0


@pytest.mark.parametrize("name", RANKING)
def test_the_weight_of_tools(name: str) -> None:
    env = SchedulingEnv("mixed", jobs=30, load=1.5, privileged=True)
    obs, info = env.reset(seed=1)
    plain, heavy = load_policy(name), load_policy(name, tool_weight=3.0)
    assert isinstance(plain, PriorityPolicy)
    assert isinstance(heavy, PriorityPolicy)
    rng, over, differed = np.random.default_rng(0), False, 0
    while not over:
        rows = np.flatnonzero(obs["action_mask"][:-1])
        if rows.size > 1:
            owners = obs["candidates"][rows, 0].astype(int)
            tools = {"srtf": Job.HISTORY_TOOL_S}.get(name, Job.POSTERIOR_TOOL_S)
            tool_s = obs["truth"][rows, Truth.JOB_TOOL_S] if name == "oracle_srtf" else obs["jobs"][owners, tools]
            before, after = plain.key(obs, rows), heavy.key(obs, rows)
            if name == "gittins":
                mean_s = obs["jobs"][owners, Job.POSTERIOR_S]
                assert after == pytest.approx(before * (1 + 2 * tool_s / mean_s), rel=1e-5)
            else:
                assert after == pytest.approx(before + 2 * tool_s, rel=1e-5)
            differed += bool((tool_s > 0).any())
        obs, _, over, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
    assert differed > 50


@pytest.mark.parametrize("name", SPARING)
@pytest.mark.parametrize("parameters", [{"tool_weight": -1.0}, {"reserve_s": "long"}, {"reserve_s": float("nan")}])
def test_bad_parameters_are_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(parameters))):
        load_policy(name, **parameters)


def mean_jct(spec: str, seed: int) -> float:
    policy = load_policy(spec)
    env = SchedulingEnv("mixed_heavy", jobs=150, split="train", max_candidates=4096, max_jobs=512)
    obs, info = env.reset(seed=seed)
    policy.reset(info)
    over = False
    while not over:
        obs, _, over, _, info = env.step(policy.act(obs))
    return float(info["result"]["jct_s"].mean())


def test_what_the_posterior_loses_to_srtf_is_the_clock_of_llm_time() -> None:
    """Historical means on the posterior's clock lose as well; tools that weigh more give it back."""
    seeds = range(8)

    def over_srtf(spec: str) -> float:
        return float(np.mean([np.log(mean_jct(spec, seed) / mean_jct("srtf", seed)) for seed in seeds]))

    posterior, history = over_srtf("llmsched_no_uncertainty"), over_srtf("llmsched_no_bn?epsilon=0")
    weighted = over_srtf("llmsched_no_uncertainty?tool_weight=2")
    assert posterior > 0.0
    assert history > 0.5 * posterior
    assert weighted < 0.5 * posterior
