"""Are posteriors right? Held-out jobs, stage by stage: do intervals cover what they claim, and is the mean better?

Every job of the ``eval`` split is walked through alone, its stages finishing one after another in the order of the
template. Before each stage, and in the middle of it, the posterior of the remaining slot time (batch size 1) is set
against the truth and against the historical mean, which knows what has been revealed but not how long it took. The
posterior is what policies see: it is written by the environment's own code, cache and all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from llmsched_gym.cluster import lifecycle
from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.state import ClusterState, StageStatus, TaskStatus
from llmsched_gym.profiler.belief_state import Beliefs
from llmsched_gym.profiler.beliefs import refresh_beliefs
from llmsched_gym.profiler.evidence import received_ns
from llmsched_gym.profiler.features import INTERVAL, Inference
from llmsched_gym.profiler.layout import Layout
from llmsched_gym.profiler.profiler import make_profiler
from llmsched_gym.profiler.sampling import quantile
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.workload import Workload

NOMINAL: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_TOLERANCE_S: Final = 1e-6
"""The truth is in whole nanoseconds, and sums of bins are not."""


@dataclass(frozen=True)
class Look:
    """One prediction.

    Attributes:
        finished: Stages of the job that are done.
        soft: Whether a stage is half done and counts as evidence; None between stages.
        truth_s: Slot time to come.
        posterior_s: Posterior mean.
        median_s: Posterior median.
        history_s: Historical mean.
        covered: Per entry of `NOMINAL`, whether the interval holds the truth; empty in the middle of stages.
        level: Evidence that was given up (`inference.condition`).
    """

    finished: int
    soft: bool | None
    truth_s: float
    posterior_s: float
    median_s: float
    history_s: float
    covered: tuple[bool, ...]
    level: int


class _Walk(NamedTuple):
    """All that a walk needs: the cluster, and what is believed of its jobs with and without running stages."""

    state: ClusterState
    inference: Inference
    soft: Beliefs
    hard: Beliefs


def calibrate(jobs: int, seed: int = 0) -> list[dict[str, Any]]:
    """Look at jobs of every application; return one row per application, number of finished stages and kind of look.

    Args:
        jobs: Jobs per application.
        seed: Seed of the ``eval`` split.
    """
    table = []
    for app in APPLICATIONS:
        groups: dict[tuple[int, str], list[Look]] = {}
        for look in looks(held_out(app, jobs, seed)):
            kind = "between stages" if look.soft is None else ("half, soft" if look.soft else "half, hard")
            groups.setdefault((look.finished, kind), []).append(look)
        table += [_summary(app, *key, found) for key, found in sorted(groups.items())]
    return table


def held_out(app: str, jobs: int, seed: int) -> Workload:
    """Draw jobs of one application from the ``eval`` split."""
    return generate(app, {app: 1.0}, Poisson(), 1.0, jobs, "eval", seed)


def looks(workload: Workload) -> Iterator[Look]:
    """Walk through the jobs of a workload of one application, with the profiles that come with the package."""
    # A profiler of its own, so that the last samples it drew are those of the last look.
    (template,) = workload.templates
    profiler = make_profiler([load_profile(template.name)])
    walk = _Walk(
        state=initial_state(workload, load_scenario("mixed").cluster),
        inference=profiler.inference,
        soft=profiler.beliefs(workload),
        hard=profiler.beliefs(workload),
    )
    for job in range(workload.n_jobs):
        yield from _walk_job(walk, job)


def _walk_job(walk: _Walk, job: int) -> Iterator[Look]:
    state = walk.state
    now = int(state.clock["now_ns"][0])
    lifecycle.arrive(state, job, now)
    finished = 0
    while state.clock["ready"][0] > 0:
        yield _look(walk, job, finished, None)
        stage = int(state.ready[0])
        row = state.stages[stage]
        tasks = range(int(row["first_task"]), int(row["first_task"] + row["n_tasks"]))
        starts = []
        for task in tasks:  # one after another: all are half done at the same instant of a job that has its tasks alone
            lifecycle.start_task(state, stage, lifecycle.least_loaded(state, int(row["pool"])), now)
            starts.append(task)
            if len(starts) < len(tasks):
                now = _end(walk, task, now)
        yield from _half_way(walk, job, tasks[-1], now, finished)
        now = _end(walk, tasks[-1], now)
        finished += 1


def _end(walk: _Walk, task: int, now_ns: int) -> int:
    """Finish a task after its slot time; return when."""
    now_ns += int(walk.state.tasks["work_ns"][task])
    walk.state.clock["now_ns"] = now_ns
    lifecycle.finish_task(walk.state, task, now_ns)
    return now_ns


def _half_way(walk: _Walk, job: int, task: int, now_ns: int, finished: int) -> Iterator[Look]:
    """Look when the last task of a stage has run for half of what is expected of it, if it takes that long.

    Half of what it will take would not do: who looks then knows what is left.
    """
    row, stage = walk.state.tasks[task], walk.state.stages[walk.state.tasks["stage"][task]]
    tokens = int(row["output_tokens"])
    had_ns = int(stage["task_work_ns"]) // 2
    if had_ns >= row["work_ns"] or had_ns == 0:
        return
    for beliefs in (walk.soft, walk.hard):
        beliefs.layout.tokens[task] = tokens * had_ns // int(row["work_ns"])
    walk.state.clock["now_ns"] = now_ns + had_ns
    for soft in (False, True):
        yield _look(walk, job, finished, soft)
    for beliefs in (walk.soft, walk.hard):
        beliefs.layout.tokens[task] = 0


def _look(walk: _Walk, job: int, finished: int, soft: bool | None) -> Look:
    beliefs = walk.soft if soft else walk.hard
    beliefs.jobs["open_stages"][job] = -1  # look again, whatever happened
    walk.inference.cache.apps[:] = -1  # forget, so that the samples in the workspace are those of this look
    walk.inference.cache.counts[0] = 0
    refresh_beliefs(walk.state, walk.inference, beliefs, bool(soft))
    belief = beliefs.jobs[job]
    truth_s = _left_s(walk, beliefs.layout, job)
    covered: tuple[bool, ...] = ()
    if soft is None:
        # The belief has the ends of one interval; of the same samples, moved as they were, the others follow.
        sums = walk.inference.work.sums
        moved_s = float(belief["high_s"]) - quantile(sums, (1.0 + INTERVAL) / 2.0)
        tails = [(1.0 - nominal) / 2.0 for nominal in NOMINAL]
        covered = tuple(
            _holds(quantile(sums, tail) + moved_s, truth_s, quantile(sums, 1.0 - tail) + moved_s) for tail in tails
        )
    posterior_s = float(belief["llm_s"] + belief["regular_s"])
    history_s = int(walk.state.jobs["remaining_ns"][job]) * 1e-9
    median_s, level = float(belief["median_s"]), int(belief["level"])
    return Look(finished, soft, truth_s, posterior_s, median_s, history_s, covered, level)


def _left_s(walk: _Walk, layout: Layout, job: int) -> float:
    """Slot time that the job is still to receive, by truth."""
    state = walk.state
    owner = state.jobs[job]
    left_ns = 0
    for stage in state.stages[owner["first_stage"] : owner["first_stage"] + owner["n_stages"]]:
        if stage["present"] == 1 and stage["status"] < StageStatus.DONE:
            for task in range(int(stage["first_task"]), int(stage["first_task"] + stage["n_tasks"])):
                status = int(state.tasks["status"][task])
                if status != TaskStatus.DONE:
                    left_ns += int(layout.work_ns[task])
                if status == TaskStatus.RUNNING:
                    left_ns -= int(received_ns(state, layout, int(owner["app"]), task))
    return left_ns * 1e-9


def _holds(low_s: float, truth_s: float, high_s: float) -> bool:
    return max(low_s, 0.0) - _TOLERANCE_S <= truth_s <= max(high_s, 0.0) + _TOLERANCE_S


def _summary(app: str, finished: int, kind: str, found: list[Look]) -> dict[str, Any]:
    truth = np.array([look.truth_s for look in found])
    errors = {
        "posterior": np.array([look.posterior_s for look in found]) - truth,
        "history": np.array([look.history_s for look in found]) - truth,
    }
    row: dict[str, Any] = {"application": app, "finished": finished, "kind": kind, "looks": len(found)}
    row |= {"truth_mean_s": float(truth.mean()), "relaxed": sum(look.level > 0 for look in found)}
    for name, error in errors.items():
        # The mean has the least squared error, the median the least absolute one; history has no median.
        guess = np.array([look.median_s for look in found]) - truth if name == "posterior" else error
        row[f"{name}_abs_s"] = float(np.abs(guess).mean())
        row[f"{name}_square_s2"] = float((error * error).mean())
        row[f"{name}_bias_s"] = float(error.mean())
    for position, nominal in enumerate(NOMINAL):
        held = [look.covered[position] for look in found if look.covered]
        row[f"covered_{nominal:g}"] = sum(held) if held else None
    return row
