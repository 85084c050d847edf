"""Lanes hold every dispatched task once without overlap; step series agree with the state's own counters."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.export.timeline import executor_names, jobs_in_system, ready_tasks, timeline


def played(scenario: str, decisions: int | None = None, jobs: int | None = None) -> SchedulingEnv:
    """Play first come, first served, to the end or for some decisions."""
    env = SchedulingEnv(scenario, jobs=jobs)
    _, info = env.reset(seed=3)
    done, count = False, 0
    while not done and count != decisions:
        _, _, done, _, info = env.step(int(info["action_mask"].argmax()))
        count += 1
    return env


@pytest.fixture(scope="module", params=[None, 0, 1, 90], ids=["finished", "reset", "one", "unfinished"])
def state(request: pytest.FixtureRequest) -> ClusterState:
    return played("mixed", request.param, jobs=12).episode.state


def test_every_dispatched_task_has_a_lane_of_its_executor(state: ClusterState) -> None:
    spans = timeline(state)
    assert sorted(spans.task.tolist()) == np.flatnonzero(state.tasks["start_ns"] != FAR).tolist()
    executor = state.tasks["executor"][spans.task]
    assert (spans.first_lane[executor] <= spans.lane).all()
    assert (spans.lane < spans.first_lane[executor + 1]).all()
    assert np.diff(spans.first_lane).tolist() == state.executors["slots"].tolist()


def test_tasks_of_a_lane_do_not_overlap(state: ClusterState) -> None:
    spans = timeline(state)
    same = spans.lane[1:] == spans.lane[:-1]
    assert (spans.lane[1:] >= spans.lane[:-1]).all()
    assert (spans.start_ns[1:] >= spans.end_ns[:-1])[same].all()
    assert (spans.start_ns <= spans.end_ns).all()


def test_running_tasks_end_now_and_share_no_lane(state: ClusterState) -> None:
    spans = timeline(state)
    running = state.tasks["finish_ns"][spans.task] == FAR
    assert (spans.end_ns[running] == state.clock["now_ns"][0]).all()
    assert np.count_nonzero(running) == state.executors["running"].sum()
    assert len(np.unique(spans.lane[running])) == np.count_nonzero(running)


def test_a_task_takes_the_first_free_lane() -> None:
    # First come, first served on one LLM slot and one regular slot: thorough, quick, thorough, quick, quick.
    spans = timeline(played("toy").episode.state)
    in_seconds = [(lane, start / 1e9, end / 1e9) for _, lane, start, end in zip(*spans[:4], strict=True)]
    llm = [(0, 0, 4), (0, 4, 5), (0, 5, 9), (0, 9, 10), (0, 10, 11)]
    regular = [(1, 4, 6), (1, 6, 7), (1, 9, 11), (1, 11, 12), (1, 12, 13)]
    assert in_seconds == llm + regular


def test_steps_end_at_the_present_counts(state: ClusterState) -> None:
    clock = state.clock[0]
    ready = state.stages[state.ready[: clock["ready"]]]
    assert jobs_in_system(state).value[-1] == clock["active"]
    assert ready_tasks(state).value[-1] == (ready["n_tasks"] - ready["started_tasks"]).sum()
    for steps in (jobs_in_system(state), ready_tasks(state)):
        assert (np.diff(steps.time_ns) > 0).all()
        assert (steps.value >= 0).all()


def test_jobs_in_system_integrate_to_the_clocks_area(state: ClusterState) -> None:
    steps = jobs_in_system(state)
    widths = np.diff(np.append(steps.time_ns, state.clock["now_ns"][0]))
    assert (widths * steps.value).sum() == state.clock["area_ns"][0]


def test_executors_are_named_by_kind_and_row() -> None:
    assert executor_names(played("toy", 0).episode.state) == ["LLM 0", "regular 1"]
