"""Whatever is scheduled in whatever order: tasks run once, in order, within capacity, and every counter is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from numpy.typing import NDArray
from random_workloads import Case, cases

from llmsched_gym.cluster.state import FAR, ClusterState, JobStatus, StageStatus, TaskStatus
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.simulated_episode import SimulatedEpisode
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

RANDOM_EPISODES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(case: Case) -> Iterator[tuple[SchedulingEnv, Workload, dict[str, Any], dict[str, Any]]]:
    """Take random legal actions to the end; yields after `reset` and after every step."""
    draft, cluster, rng = case.draw()
    workload = draft.assemble()
    env = SchedulingEnv(
        "toy", workload=workload, cluster=cluster, placement="agent", max_candidates=None, max_jobs=None
    )
    observation, info = env.reset(seed=0)
    yield env, workload, observation, info
    terminated = False
    while not terminated:
        action = int(rng.choice(np.flatnonzero(observation["action_mask"])))
        observation, _, terminated, _, info = env.step(action)
        yield env, workload, observation, info
    event(f"preemptions: {info['result']['preemptions'] > 0}")


def finish(case: Case) -> tuple[SchedulingEnv, Workload, dict[str, Any]]:
    """Take random legal actions to the end."""
    *_, (env, workload, _, info) = play(case)
    return env, workload, info


def parent_lists(workload: Workload) -> list[list[int]]:
    """Parents of every stage."""
    parents: list[list[int]] = [[] for _ in workload.stages]
    for stage, row in enumerate(workload.stages):
        for child in workload.children[row["first_child"] : row["first_child"] + row["n_children"]]:
            parents[child].append(stage)
    return parents


@RANDOM_EPISODES
@given(cases())
def test_every_present_task_runs_once_and_no_other(case: Case) -> None:
    env, workload, info = finish(case)
    state = env.episode.state
    assert (state.tasks["status"] == TaskStatus.DONE).all()
    assert (state.tasks["start_ns"] <= state.tasks["finish_ns"]).all()
    assert (state.tasks["finish_ns"] < FAR).all()
    present = workload.stages["present"] == 1
    assert (state.stages["status"][present] == StageStatus.DONE).all()
    assert (state.stages["status"][~present] == StageStatus.SKIPPED).all()
    assert (state.stages["done_tasks"] == workload.stages["n_tasks"]).all()
    assert (state.jobs["status"] == JobStatus.DONE).all()
    regular = workload.tasks["output_tokens"] == 0
    took = state.tasks["finish_ns"] - state.tasks["start_ns"]
    assert (took[regular] == workload.tasks["duration_ns"][regular]).all()
    jct_ns = state.jobs["finish_ns"] - state.jobs["arrival_ns"]
    assert env.episode.area_ns == jct_ns.sum()
    assert info["result"]["jct_s"] == pytest.approx(jct_ns * 1e-9)


@RANDOM_EPISODES
@given(cases())
def test_no_stage_starts_before_its_parents_end_and_it_is_revealed(case: Case) -> None:
    env, workload, _ = finish(case)
    stages, jobs = env.episode.state.stages, env.episode.state.jobs
    for stage, parents in enumerate(parent_lists(workload)):
        row = stages[stage]
        ready_ns = max([int(jobs["arrival_ns"][row["job"]]), *(int(stages["finish_ns"][p]) for p in parents)])
        revealer = int(workload.stages["revealer"][stage])
        if revealer >= 0:
            ready_ns = max(ready_ns, int(stages["finish_ns"][revealer]))
        if row["present"]:
            assert row["ready_ns"] == ready_ns
            own = env.episode.state.tasks[row["first_task"] : row["first_task"] + row["n_tasks"]]
            assert (own["start_ns"] >= ready_ns).all()
            assert row["finish_ns"] == max([ready_ns, *own["finish_ns"].tolist()])
        else:
            assert row["finish_ns"] == stages["finish_ns"][revealer]


@RANDOM_EPISODES
@given(cases())
def test_executors_never_hold_more_than_their_slots(case: Case) -> None:
    env, workload, _ = finish(case)
    state = env.episode.state
    for index, executor in enumerate(state.executors):
        own = state.tasks[state.tasks["executor"] == index]
        kinds = workload.stages["kind"][own["stage"]]
        assert (kinds == executor["kind"]).all()
        starts, ends = np.sort(own["start_ns"]), np.sort(own["finish_ns"])
        held = np.arange(1, len(own) + 1) - np.searchsorted(ends, starts, side="right")
        instant = np.count_nonzero(own["start_ns"] == own["finish_ns"])  # these hold no slot for any time
        assert held.max(initial=0) <= executor["slots"] + instant
        assert executor["busy_ns"] == (own["finish_ns"] - own["start_ns"]).sum()


@RANDOM_EPISODES
@given(cases())
def test_time_passes_only_when_nothing_can_be_dispatched_or_the_agent_waits(case: Case) -> None:
    draft, cluster, rng = case.draw()
    workload = draft.assemble()
    env = SchedulingEnv("toy", workload=workload, cluster=cluster, max_candidates=None, max_jobs=None)
    observation, info = env.reset(seed=0)
    terminated = False
    while not terminated:
        mask, before_s = observation["action_mask"], info["time_s"]
        action = int(rng.choice(np.flatnonzero(mask)))
        waits = action == len(mask) - 1
        state = env.episode.state
        left = None
        if not waits:
            free = [
                int(((state.executors["slots"] - state.executors["running"]) * serves).sum())
                for serves in (state.executors["kind"] == StageKind.LLM, state.executors["kind"] == StageKind.REGULAR)
            ]
            waiting = [0, 0]
            for row in observation["candidates"][: int(observation["system"][2])]:
                waiting[int(row[3])] += int(row[4])
            kind = int(observation["candidates"][action, 3])
            free[kind] -= 1
            waiting[kind] -= 1
            left = any(f > 0 and w > 0 for f, w in zip(free, waiting, strict=True))
        observation, _, terminated, _, info = env.step(action)
        if left is True:
            assert info["time_s"] == before_s
        assert info["time_s"] >= before_s
        assert terminated or observation["action_mask"][:-1].any()  # a decision is due


@RANDOM_EPISODES
@given(cases())
def test_counters_equal_a_recount_at_every_decision(case: Case) -> None:
    for number, (env, workload, observation, _) in enumerate(play(case)):
        if number % 3 == 0 or not observation["action_mask"][:-1].any():
            episode = env.episode
            assert isinstance(episode, SimulatedEpisode)
            recount(episode.state, workload)
            check_heap(episode.state, episode.simulation.heap)


@RANDOM_EPISODES
@given(cases())
def test_observing_changes_nothing(case: Case) -> None:
    for env, _, observation, _ in play(case):
        again = env.shapes.new(1)
        env.episode.look(again)
        for name, table in observation.items():
            assert table.tobytes() == getattr(again, name).tobytes(), name


def recount(state: ClusterState, workload: Workload) -> None:
    """Assert that every derived number of the state follows from the statuses of stages and tasks."""
    clock, stages, tasks, jobs = state.clock[0], state.stages, state.tasks, state.jobs
    now_ns = int(clock["now_ns"])
    in_system = np.flatnonzero(jobs["status"] == JobStatus.ACTIVE)
    assert state.active[: clock["active"]].tolist() == in_system.tolist()
    assert clock["done"] == np.count_nonzero(jobs["status"] == JobStatus.DONE)
    assert clock["arrived"] == np.count_nonzero(jobs["arrival_ns"] <= now_ns)
    open_ready = np.isin(stages["status"], (StageStatus.READY, StageStatus.RUNNING))
    open_ready &= stages["started_tasks"] < stages["n_tasks"]
    ready = np.flatnonzero(open_ready)
    assert state.ready[: clock["ready"]].tolist() == ready.tolist()
    running = tasks["status"] == TaskStatus.RUNNING
    held = np.bincount(tasks["executor"][running], minlength=len(state.executors))
    assert state.executors["running"].tolist() == held.tolist()
    for pool, row in enumerate(state.pools):
        serves = (state.executors["pools"] >> np.uint64(pool)) & np.uint64(1) == 1
        assert row["free"] == (state.executors["slots"] - held)[serves].sum()
        assert row["ready"] == np.count_nonzero(stages["pool"][ready] == pool)
    _recount_stages(state, workload, now_ns)
    owner = stages["job"][tasks["stage"]]
    done = tasks["status"] == TaskStatus.DONE
    for index in in_system:
        job = jobs[index]
        own = np.arange(job["first_stage"], job["first_stage"] + job["n_stages"])
        status = stages["status"][own]
        assert job["remaining_ns"] == stages["work_ns"][own].sum()
        assert job["path_ns"] == stages["path_ns"][own].max()
        assert job["open_stages"] == np.count_nonzero(status < StageStatus.DONE)
        assert job["done_stages"] == np.count_nonzero(status == StageStatus.DONE)
        assert job["running_tasks"] == np.count_nonzero(running & (owner == index))
        mine = own[np.isin(own, ready)]
        assert job["waiting_tasks"] == (stages["n_tasks"][mine] - stages["started_tasks"][mine]).sum()
        past = tasks[done & (owner == index)]
        present = tasks[running & (owner == index)]
        attained = (past["finish_ns"] - past["start_ns"]).sum() + (now_ns - present["start_ns"]).sum()
        assert job["attained_ns"] + int(job["running_tasks"]) * now_ns == attained
        assert job["true_remaining_ns"] == tasks["work_ns"][~done & (owner == index)].sum()


def _recount_stages(state: ClusterState, workload: Workload, now_ns: int) -> None:
    """Assert pending parents, expected work and duration, paths and influences of the stages of jobs in the system."""
    stages = state.stages
    parents = parent_lists(workload)
    for stage in range(len(stages) - 1, -1, -1):
        row = stages[stage]
        if state.jobs["status"][row["job"]] != JobStatus.ACTIVE:
            continue
        status = row["status"]
        assert row["pending_parents"] == sum(stages["status"][p] < StageStatus.DONE for p in parents[stage])
        revealer = int(workload.stages["revealer"][stage])
        assert (status == StageStatus.HIDDEN) == (revealer >= 0 and stages["status"][revealer] < StageStatus.DONE)
        assert (row["ready_ns"] <= now_ns) == (
            row["present"] == 1 and status not in (StageStatus.HIDDEN, StageStatus.BLOCKED)
        )
        if status in (StageStatus.DONE, StageStatus.SKIPPED):
            assert row["work_ns"] == row["duration_ns"] == 0
        elif status in (StageStatus.READY, StageStatus.RUNNING):
            assert row["work_ns"] == row["task_work_ns"] * (row["n_tasks"] - row["done_tasks"])
            assert row["duration_ns"] == row["stage_duration_ns"]
        elif status == StageStatus.BLOCKED:
            assert (row["work_ns"], row["duration_ns"]) == (row["stage_work_ns"], row["stage_duration_ns"])
        elif row["planned"]:
            assert row["work_ns"] == row["duration_ns"] == 0
        first = row["first_child"]
        children = [stages[child] for child in workload.children[first : first + row["n_children"]]]
        known = [
            child
            for child in children
            if child["status"] != StageStatus.SKIPPED
            and not (child["planned"] and child["status"] == StageStatus.HIDDEN)
        ]
        assert row["path_ns"] == row["duration_ns"] + max([0, *(child["path_ns"] for child in children)])
        most = max([0, *(int(child["influence"]) for child in known)])
        assert row["influence"] == max(1, most + len(known))


def check_heap(state: ClusterState, heap: NDArray[np.int32]) -> None:
    """Assert that the event heap holds the executors with an event, and gives them in order of (time, index)."""
    length = int(state.clock[0]["heap"])
    times = state.executors["event_ns"]
    assert sorted(heap[:length].tolist()) == np.flatnonzero(times != FAR).tolist()
    for position in range(1, length):
        above = heap[(position - 1) // 2]
        assert (times[above], above) < (times[heap[position]], heap[position])
        assert state.executors["heap_position"][heap[position]] == position
