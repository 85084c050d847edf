"""Whatever fails and recovers, in any order: counters follow from where the tasks are, and all jobs finish."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from random_workloads import Case, cases

from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.lifecycle import (
    arrive,
    can_dispatch,
    finish_task,
    least_loaded,
    place_task,
    set_pools,
    start_task,
    withdraw_task,
)
from llmsched_gym.cluster.state import ClusterState, StageStatus, TaskStatus

NOTHING = np.uint64(0)


class Rehearsal:
    """Random transitions on a random workload, with the set of withdrawn tasks and the time they have received."""

    def __init__(self, case: Case) -> None:
        draft, cluster, self.rng = case.draw()
        self.state: ClusterState = initial_state(draft.assemble(), cluster)
        self.pools = self.state.executors["pools"].copy()
        self.withdrawn: set[int] = set()
        self.received_ns = np.zeros(len(self.state.jobs), np.int64)
        self.withdrawals = 0
        self.now_ns = 0

    def step(self) -> None:
        """Do something that is possible."""
        state = self.state
        self.now_ns += int(self.rng.integers(1, 1000))
        running = np.flatnonzero(state.tasks["status"] == TaskStatus.RUNNING)
        choices = [self.toggle]
        if state.clock["arrived"][0] < len(state.jobs):
            choices.append(lambda: arrive(state, int(state.clock["arrived"][0]), self.now_ns))
        if can_dispatch(state):
            choices += [self.start] * 3
        if len(running):
            choices += [lambda: self.finish(int(self.rng.choice(running)))] * 2
            choices.append(lambda: self.withdraw(int(self.rng.choice(running))))
        if self.withdrawn:
            choices += [lambda: self.place(min(self.withdrawn))] * 2
        choices[int(self.rng.integers(len(choices)))]()

    def go_on(self) -> None:
        """Do something that brings the end nearer."""
        state = self.state
        self.now_ns += 1
        if self.withdrawn:
            self.place(min(self.withdrawn))
        running = np.flatnonzero(state.tasks["status"] == TaskStatus.RUNNING)
        if can_dispatch(state):
            self.start()
        elif len(running):
            self.finish(int(running[0]))
        else:
            arrive(state, int(state.clock["arrived"][0]), self.now_ns)

    def toggle(self) -> None:
        """Let an executor fail or recover."""
        executor = int(self.rng.integers(len(self.pools)))
        down = self.state.executors["pools"][executor] == 0
        set_pools(self.state, executor, self.pools[executor] if down else NOTHING)

    def start(self) -> None:
        """Dispatch a task of a random ready stage."""
        state = self.state
        ready = state.ready[: state.clock["ready"][0]]
        possible = [stage for stage in ready.tolist() if state.pools["free"][state.stages["pool"][stage]] > 0]
        stage = int(self.rng.choice(possible))
        start_task(state, stage, least_loaded(state, int(state.stages["pool"][stage])), self.now_ns)

    def finish(self, task: int) -> None:
        """Finish a task, also on an executor that has failed: its last reply may be on the way."""
        finish_task(self.state, task, self.now_ns)

    def withdraw(self, task: int) -> None:
        """Take a task off its executor."""
        job = self.state.stages["job"][self.state.tasks["stage"][task]]
        self.received_ns[job] += self.now_ns - self.state.tasks["start_ns"][task]
        withdraw_task(self.state, task, self.now_ns)
        self.withdrawn.add(task)
        self.withdrawals += 1

    def place(self, task: int) -> None:
        """Put a withdrawn task on another executor, if one is free."""
        executor = least_loaded(self.state, int(self.state.stages["pool"][self.state.tasks["stage"][task]]))
        if executor >= 0:
            place_task(self.state, task, executor, self.now_ns)
            self.withdrawn.remove(task)

    def check(self) -> None:
        """Compare every counter with a recount."""
        state, tasks, stages = self.state, self.state.tasks, self.state.stages
        running = tasks["status"] == TaskStatus.RUNNING
        held = np.bincount(tasks["executor"][running], minlength=len(state.executors))
        assert state.executors["running"].tolist() == held.tolist()
        assert (held <= state.executors["slots"]).all()
        for pool, row in enumerate(state.pools):
            serves = (state.executors["pools"] >> np.uint64(pool)) & np.uint64(1) == 1
            assert row["free"] == (state.executors["slots"] - held)[serves].sum()
        job_of = stages["job"][tasks["stage"]]
        open_stage = np.isin(stages["status"], (StageStatus.READY, StageStatus.RUNNING))
        for job in state.active[: state.clock["active"][0]].tolist():
            mine = job_of == job
            assert state.jobs["running_tasks"][job] == np.count_nonzero(running & mine)
            waiting = open_stage & (stages["job"] == job)
            lost = sum(job_of[task] == job for task in self.withdrawn)
            unstarted = (stages["n_tasks"] - stages["started_tasks"])[waiting].sum()
            assert state.jobs["waiting_tasks"][job] == unstarted + lost
            done = mine & (tasks["status"] == TaskStatus.DONE)
            now = mine & running
            attained = (tasks["finish_ns"] - tasks["start_ns"])[done].sum() + (
                self.now_ns - tasks["start_ns"][now]
            ).sum()
            row = state.jobs[job]
            assert row["attained_ns"] + row["running_tasks"] * self.now_ns == attained + self.received_ns[job]
        for task in self.withdrawn:
            assert (tasks["status"][task], tasks["executor"][task]) == (TaskStatus.WAITING, -1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_counters_survive_failures_and_every_job_finishes(case: Case) -> None:
    rehearsal = Rehearsal(case)
    for number in range(60):
        rehearsal.step()
        if number % 4 == 0:
            rehearsal.check()
    event(f"withdrawals: {rehearsal.withdrawals > 0}")
    state = rehearsal.state
    for executor, pools in enumerate(rehearsal.pools):
        set_pools(state, executor, pools)
    while state.clock["done"][0] < len(state.jobs):
        rehearsal.go_on()
    rehearsal.check()
    assert (state.tasks["status"] == TaskStatus.DONE).all()
    assert (state.tasks["executor"] >= 0).all()
    assert (state.pools["free"] >= 0).all()
