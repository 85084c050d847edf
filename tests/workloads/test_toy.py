"""The hand-derived schedules are what exhaustive search and list scheduling give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.toy import (
    ITERATION_S,
    TOY_APPLICATIONS,
    TOY_OPTIMAL_MEAN_JCT_S,
    TWO_JOBS_INFORMED_MEAN_JCT_S,
    TWO_JOBS_SJF_MEAN_JCT_S,
    toy,
    two_jobs,
)
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class Step:
    """A stage of one task: which machine, and for how long."""

    machine: int
    seconds: float


def steps_of(workload: Workload) -> list[list[Step]]:
    """Each job's stages, in their order; both workloads hold only pipelines."""
    jobs = []
    for job in workload.jobs:
        assert job["arrival_ns"] == 0
        rows = workload.stages[job["first_stage"] : job["first_stage"] + job["n_stages"]]
        assert rows["n_parents"].tolist() == [0] + [1] * (len(rows) - 1)
        steps = []
        for stage in rows:
            assert stage["n_tasks"] == 1
            task = workload.tasks[stage["first_task"]]
            seconds = int(task["output_tokens"]) * ITERATION_S + int(task["duration_ns"]) / 1e9
            steps.append(Step(int(stage["kind"] == StageKind.REGULAR), seconds))
        jobs.append(steps)
    return jobs


def least_mean_jct(jobs: list[list[Step]]) -> float:
    """Try every order of starting stages, each as early as its machine and its job allow."""
    best = float("inf")

    def extend(done: tuple[int, ...], at: tuple[float, ...], free: tuple[float, float]) -> None:
        nonlocal best
        if all(d == len(job) for d, job in zip(done, jobs, strict=True)):
            best = min(best, sum(at) / len(jobs))
            return
        tried = set()
        for j, job in enumerate(jobs):
            if done[j] == len(job) or (key := (tuple(job), done[j], at[j])) in tried:
                continue  # an equal job in an equal state gives nothing new
            tried.add(key)
            step = job[done[j]]
            finish = max(at[j], free[step.machine]) + step.seconds
            extend(
                (*done[:j], done[j] + 1, *done[j + 1 :]),
                (*at[:j], finish, *at[j + 1 :]),
                (finish, free[1]) if step.machine == 0 else (free[0], finish),
            )

    extend((0,) * len(jobs), (0.0,) * len(jobs), (0.0, 0.0))
    return best


def list_schedule(jobs: list[list[Step]], priority: Callable[[int, int], float]) -> list[float]:
    """Finish times when each free machine takes the waiting stage of lowest ``priority(job, finished stages)``."""
    done, at, running = [0] * len(jobs), [0.0] * len(jobs), [False] * len(jobs)
    busy: dict[int, tuple[float, int]] = {}
    now = 0.0
    while True:
        for machine in (0, 1):
            waiting = [
                (priority(j, done[j]), j)
                for j, job in enumerate(jobs)
                if not running[j] and done[j] < len(job) and job[done[j]].machine == machine
            ]
            if machine not in busy and waiting:
                j = min(waiting)[1]
                running[j] = True
                busy[machine] = (now + jobs[j][done[j]].seconds, j)
        if not busy:
            return at
        now = min(finish for finish, _ in busy.values())
        for machine in [m for m, (finish, _) in busy.items() if finish == now]:
            j = busy.pop(machine)[1]
            done[j], at[j], running[j] = done[j] + 1, now, False


def historical_means(workload: Workload) -> list[float]:
    """Expected seconds of each job by its application's history."""
    totals = [
        float(np.cumsum(h["presence"] * (h["output_tokens"] * ITERATION_S + h["seconds"]))[-1])
        for h in workload.history
    ]
    return [totals[app] for app in workload.jobs["app"]]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("make", [toy, two_jobs])
def test_they_are_valid_and_always_the_same(make: Callable[[], Workload]) -> None:
    validate_workload(make())
    assert make().digest == make().digest


def test_toy_optimum_is_known_and_shortest_job_first_reaches_it() -> None:
    workload = toy()
    jobs = steps_of(workload)
    assert least_mean_jct(jobs) == TOY_OPTIMAL_MEAN_JCT_S == 6.2
    means = historical_means(workload)
    assert means == [6.0, 2.0, 6.0, 2.0, 2.0]
    assert list_schedule(jobs, lambda j, done: means[j]) == [9.0, 2.0, 13.0, 3.0, 4.0]
    assert mean(list_schedule(jobs, lambda j, done: float(j))) == 9.8


def test_two_jobs_sjf_takes_6_5_and_looking_first_5() -> None:
    workload = two_jobs()
    jobs = steps_of(workload)
    means = historical_means(workload)
    assert means == pytest.approx([6.0, 6.8])
    assert [template.name for template in workload.templates] == ["certain", "uncertain"]
    sjf = list_schedule(jobs, lambda j, done: means[j])
    assert sjf == [6.0, 7.0]
    assert mean(sjf) == TWO_JOBS_SJF_MEAN_JCT_S == 6.5
    informed = list_schedule(jobs, lambda j, done: posterior_remaining(jobs, j, done))
    assert informed == [8.0, 2.0]
    assert mean(informed) == TWO_JOBS_INFORMED_MEAN_JCT_S == 5.0
    assert least_mean_jct(jobs) == 5.0


def test_two_jobs_posterior_switches_away_from_a_long_job() -> None:
    jobs = [steps_of(two_jobs())[0], [Step(0, 2.0), Step(0, 12.0)]]
    assert list_schedule(jobs, lambda j, done: posterior_remaining(jobs, j, done)) == [8.0, 19.0]
    means = historical_means(two_jobs())
    assert list_schedule(jobs, lambda j, done: means[j]) == [6.0, 19.0]


def posterior_remaining(jobs: list[list[Step]], j: int, done: int) -> float:
    """Remaining seconds given what is done; -1 puts the unknown probe first."""
    if j == 1:
        return -1.0 if done == 0 else {1.0: 1.0, 2.0: 12.0}[jobs[1][0].seconds]
    return sum(step.seconds for step in jobs[0][done:])


def test_probe_of_the_sampler_determines_the_rest() -> None:
    block = TOY_APPLICATIONS["uncertain"].sample(5000, np.random.default_rng(0))
    pairs = Counter(map(tuple, block.output_tokens[:, :, 0].tolist()))
    assert set(pairs) == {(1, 1), (2, 12)}
    assert pairs[1, 1] / 5000 == pytest.approx(0.6, abs=0.03)
    certain = TOY_APPLICATIONS["certain"].sample(3, np.random.default_rng(0))
    assert certain.output_tokens[:, 0, 0].tolist() == [5, 5, 5]
    assert certain.duration_ns[:, 1, 0].tolist() == [10**9] * 3
