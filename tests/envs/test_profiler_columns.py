"""The profiler's columns: what they show, that they hide what is hidden, and that they change nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmsched_gym.cluster.state import StageStatus, TaskStatus
from llmsched_gym.envs.columns import Candidate, Job, Node, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.workload import Workload

Observation = dict[str, Any]
PROFILED_JOB = slice(Job.POSTERIOR_S, None)
PROFILED_CANDIDATE = slice(Candidate.ENTROPY, None)


def make_env(workload: Workload | None = None, **arguments: Any) -> SchedulingEnv:
    drawn = workload or load_scenario("mixed").replaced(jobs=24, load=2.0).build("train", 3)
    return SchedulingEnv("mixed", workload=drawn, max_candidates=96, max_jobs=24, **arguments)


def replay(env: SchedulingEnv, actions: list[int]) -> list[Observation]:
    return [env.reset(seed=0)[0], *(env.step(action)[0] for action in actions)]


def explore(env: SchedulingEnv, decisions: int) -> tuple[list[int], list[Observation]]:
    rng = np.random.default_rng(1)
    actions: list[int] = []
    seen = [env.reset(seed=0)[0]]
    while len(actions) < decisions:
        legal = np.flatnonzero(seen[-1]["action_mask"])
        actions.append(int(legal[rng.integers(len(legal))]))
        seen.append(env.step(actions[-1])[0])
    return actions, seen


@pytest.mark.parametrize("decisions", [5, 60, 150])
def test_lengths_that_are_not_known_yet_change_nothing(decisions: int) -> None:
    """Tasks that have not started get other lengths; everything seen so far stays as it was, to the bit."""
    env = make_env(observation="graph")
    actions, seen = explore(env, decisions)
    workload, state = env.workload, env.episode.state
    tasks = workload.tasks.copy()
    waiting = np.flatnonzero(state.tasks["status"] == TaskStatus.WAITING)
    unknown = waiting[state.stages["status"][tasks["stage"][waiting]] < StageStatus.RUNNING]
    tasks["output_tokens"][unknown] = np.where(tasks["output_tokens"][unknown] > 0, 7, 0)
    tasks["duration_ns"][unknown] //= 3
    other = replay(make_env(replace(workload, tasks=tasks), observation="graph"), actions)
    for decision, (left, right) in enumerate(zip(seen, other, strict=True)):
        for name, table in left.items():
            assert table.tobytes() == right[name].tobytes(), f"{name}, decision {decision}"


def test_the_profiler_changes_only_its_own_columns() -> None:
    actions, seen = explore(make_env(observation="graph"), 150)
    for left, right in zip(seen, replay(make_env(observation="graph", profiler=False), actions), strict=True):
        assert not right["jobs"][:, PROFILED_JOB].any()
        assert not right["candidates"][:, PROFILED_CANDIDATE].any()
        assert not right["nodes"][:, Node.POSTERIOR_WORK_S :].any()
        assert np.array_equal(left["jobs"][:, : Job.POSTERIOR_S], right["jobs"][:, : Job.POSTERIOR_S])
        assert np.array_equal(left["candidates"][:, : Candidate.ENTROPY], right["candidates"][:, : Candidate.ENTROPY])


def test_posterior_work_of_the_stages_adds_up_to_the_jobs() -> None:
    """On an idle cluster LLM time is not stretched; stages of a plan that has not been made count in the job alone."""
    workload = load_scenario("predefined").replaced(jobs=4).build("train", 0)
    env = SchedulingEnv("mixed", workload=workload, observation="graph")
    observation, _ = env.reset(seed=0)
    nodes = observation["nodes"][: int(observation["system"][System.NODES])]
    assert nodes[:, Node.POSTERIOR_WORK_S].sum() == pytest.approx(observation["jobs"][0, Job.POSTERIOR_S], rel=1e-5)
    assert (nodes[:, Node.ENTROPY] > 0.0).any()


def test_llm_time_stretches_with_the_batch() -> None:
    """The same evidence is believed to take longer, the more sequences share the engines."""
    env = make_env()
    _, seen = explore(env, 60)
    stretched = [seen[k]["jobs"][0, Job.POSTERIOR_S] for k in range(60) if not seen[k]["jobs"][0, Job.STAGES_DONE]]
    assert len(set(stretched)) > 1


def test_results_count_what_did_not_fit() -> None:
    env = make_env()
    observation, _ = env.reset(seed=0)
    done, info = False, {}
    while not done:
        observation, _, done, _, info = env.step(int(observation["action_mask"].argmax()))
    assert info["result"]["unprofiled_jobs"] == 0
    assert info["result"]["belief_updates"] > 24
    assert info["result"]["unseen_evidence"] == 0
