"""No observation depends on a fact that has not been revealed: lengths, presence, plans, later jobs.

Each test takes two workloads that differ only in what a decision at some time could not know, and the same actions up
to it. Everything seen up to that decision must be the same to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_workloads import MAX_OUTPUT, Case, Draft, cases, draw_plans, draw_tasks

from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import ClusterState, JobStatus, StageStatus, TaskStatus
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.workloads.workload import Workload

Seen = tuple[dict[str, NDArray[Any]], dict[str, Any]]
LATER_NS = 5_000_000_000


def make_env(workload: Workload, cluster: ClusterSpec, *, privileged: bool = False) -> SchedulingEnv:
    """An environment of fixed windows, as large windows depend on the whole workload by design."""
    return SchedulingEnv(
        "toy",
        workload=workload,
        cluster=cluster,
        observation="graph",
        placement="agent",
        privileged=privileged,
        max_candidates=24,
        max_jobs=12,
    )


def explore(env: SchedulingEnv, rng: np.random.Generator, decisions: int) -> tuple[list[int], list[Seen]]:
    """Take up to `decisions` random legal actions, stopping before the end."""
    actions: list[int] = []
    seen: list[Seen] = [env.reset(seed=0)]
    while len(actions) < decisions:
        action = int(rng.choice(np.flatnonzero(seen[-1][0]["action_mask"])))
        observation, _, terminated, _, info = env.step(action)
        if terminated:
            break
        actions.append(action)
        seen.append((observation, info))
    return actions, seen


def repeat(env: SchedulingEnv, actions: list[int]) -> list[Seen]:
    """Take the given actions."""
    seen: list[Seen] = [env.reset(seed=0)]
    for action in actions:
        observation, _, _, _, info = env.step(action)
        seen.append((observation, info))
    return seen


def same(left: Seen, right: Seen) -> bool:
    """Whether two observations with their infos agree to the bit."""
    (observed, info), (other, other_info) = left, right
    return (
        observed.keys() == other.keys()
        and all(observed[name].tobytes() == other[name].tobytes() for name in observed)
        and info.keys() == other_info.keys()
        and all(np.array_equal(info[name], other_info[name]) for name in info)
    )


def rewrite_the_unknown(draft: Draft, workload: Workload, state: ClusterState, rng: np.random.Generator) -> Workload:
    """Return the same workload with everything changed that is not known in `state`.

    Kept are: jobs and stages that are known, the number and prompts of tasks of ready stages, and all about finished
    tasks. Running tasks are made longer, so that they still run at this time.
    """
    now_ns = int(state.clock[0]["now_ns"])
    next_job = np.zeros(len(draft.parts), np.int64)
    rows: list[list[int]] = [[] for _ in draft.parts]  # jobs of the workload, per part
    for job, app in enumerate(workload.jobs["app"]):
        rows[app].append(job)
        next_job[app] += 1
    parts = []
    for part, planner, jobs in zip(draft.parts, draft.planner, rows, strict=True):
        block = part.block
        assert block is not None
        fresh = np.zeros(block.exists.shape, np.bool_)  # slots whose tasks may all change
        hidden = np.zeros(block.exists.shape, np.bool_)  # slots of which nobody knows whether they are present
        unplanned = np.zeros(len(jobs), np.bool_)
        output, duration = block.output_tokens.copy(), block.duration_ns.copy()
        arrival = part.arrival_ns.copy()
        for i, job in enumerate(jobs):
            if state.jobs["status"][job] == JobStatus.FUTURE:
                arrival[i] += LATER_NS
            first = int(workload.jobs["first_stage"][job])
            for offset, slot in enumerate(np.flatnonzero(block.exists[i])):
                stage = state.stages[first + offset]
                status = stage["status"]
                if status in (StageStatus.HIDDEN, StageStatus.BLOCKED):
                    fresh[i, slot] = True
                    hidden[i, slot] = status == StageStatus.HIDDEN
                if status in (StageStatus.READY, StageStatus.RUNNING):
                    for k in range(int(stage["n_tasks"])):
                        status_of_task = state.tasks["status"][stage["first_task"] + k]
                        if status_of_task == TaskStatus.WAITING:
                            output[i, slot, k] = rng.integers(1, MAX_OUTPUT + 1)
                            duration[i, slot, k] = rng.integers(0, LATER_NS)
                        elif status_of_task == TaskStatus.RUNNING:
                            output[i, slot, k] = rng.integers(output[i, slot, k], MAX_OUTPUT + 1)
                            duration[i, slot, k] += rng.integers(0, LATER_NS)
            if planner >= 0:
                unplanned[i] = state.stages["status"][first + planner] < StageStatus.DONE
        changed = draw_tasks(rng, replace(block, output_tokens=output, duration_ns=duration), fresh)
        present = changed.present.copy()
        for slot in range(block.exists.shape[1]):
            gate = block.revealer[:, slot]
            optional = hidden[:, slot] & (gate >= 0)
            if planner >= 0 and planner < slot < planner + 6:
                continue  # planned stages are always present; their plans are drawn anew
            at_gate = present[np.arange(len(jobs)), np.maximum(gate, 0)]
            present[optional, slot] = (at_gate & (rng.random(len(jobs)) < 0.5))[optional]
        changed = replace(changed, present=present)
        if planner >= 0:
            changed = draw_plans(rng, part.template, planner, changed, unplanned)
        order = np.argsort(arrival, kind="stable")
        assert (order == np.arange(len(jobs))).all()
        parts.append(replace(part, arrival_ns=arrival, block=changed))
    assert now_ns >= 0
    return Draft(tuple(parts), draft.planner).assemble(workload.history)


def both_stories(case: Case, decisions: int, *, privileged: bool = False) -> tuple[list[Seen], list[Seen]]:
    """What is seen on a workload up to a decision, and on another that differs in what is unknown then."""
    draft, cluster, rng = case.draw()
    workload = draft.assemble()
    env = make_env(workload, cluster, privileged=privileged)
    actions, seen = explore(env, rng, decisions)
    other = rewrite_the_unknown(draft, workload, env.episode.state, rng)
    return seen, repeat(make_env(other, cluster, privileged=privileged), actions)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.integers(0, 40))
def test_the_unknown_changes_nothing_seen(case: Case, decisions: int) -> None:
    seen, other = both_stories(case, decisions)
    assert len(seen) == len(other)
    for decision, (left, right) in enumerate(zip(seen, other, strict=True)):
        assert same(left, right), f"decision {decision}"


def test_the_unknown_did_change() -> None:
    """The property above is not empty: an oracle sees the difference at the same decisions."""
    differs = 0
    for seed in range(40):
        case = Case(seed, n_apps=2, n_jobs=4, n_stages=5, spread_ns=10**10, short_of_kv=seed % 2 == 0)
        seen, other = both_stories(case, decisions=seed, privileged=True)
        differs += not np.array_equal(seen[-1][0]["truth"], other[-1][0]["truth"])
    assert differs >= 30


@pytest.mark.parametrize("observation", ["table", "graph"])
def test_truth_is_only_shown_to_the_privileged(observation: Any) -> None:
    plain = SchedulingEnv("toy", observation=observation)
    oracle = SchedulingEnv("toy", observation=observation, privileged=True)
    assert "truth" not in plain.reset(seed=0)[0]
    seen = oracle.reset(seed=0)[0]
    assert seen["truth"][:5, 0].tolist() == [6.0, 2.0, 6.0, 2.0, 2.0]
    assert oracle.observation_space.contains(seen)
