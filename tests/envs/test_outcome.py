"""What comes of an episode, against plain loops over its tasks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.workloads.template import StageKind


@pytest.mark.parametrize(("scenario", "spec"), [("mixed", "srtf"), ("hetero8", "srtf+mct"), ("planning", "fcfs")])
def test_gpu_seconds_count_every_moment_in_which_an_executor_holds_something(scenario: str, spec: str) -> None:
    policy = load_policy(spec)
    env = SchedulingEnv(scenario, jobs=12, placement=policy.placement)
    observation, info = env.reset(seed=3)
    policy.reset(info)
    over = False
    while not over:
        observation, _, over, _, info = env.step(policy.act(observation))
    state = env.episode.state
    expected_ns = 0
    for e, executor in enumerate(state.executors):
        if executor["kind"] != StageKind.LLM:
            assert executor["gpus"] == 0
            continue
        mine = state.tasks[state.tasks["executor"] == e]
        moments = np.unique(np.concatenate([mine["start_ns"], mine["finish_ns"]]))
        for begin, end in pairwise(moments):
            holds = any(task["start_ns"] <= begin and task["finish_ns"] >= end for task in mine)
            expected_ns += int(end - begin) * int(executor["gpus"]) * holds
    assert info["result"]["gpu_s"] == pytest.approx(expected_ns * 1e-9, rel=1e-12)
    assert 0.0 < info["result"]["gpu_s"] <= info["result"]["makespan_s"] * state.executors["gpus"].sum()


def test_a_tensor_parallel_group_costs_all_of_its_gpus() -> None:
    env = SchedulingEnv("hetero8", jobs=3, placement="agent")
    env.reset(seed=0)
    gpus = [group.gpus for group in env.scenario.cluster.llm for _ in range(group.count)]
    executors = env.episode.state.executors
    assert executors["gpus"][executors["kind"] == StageKind.LLM].tolist() == gpus
    assert max(gpus) > 1
