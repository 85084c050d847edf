"""Are posteriors right? Held-out jobs, stage by stage: do intervals cover what they claim, and is the mean better?

Every job of the ``eval`` split is walked through alone, its stages finishing one after another in the order of the
template. Before each stage, and in the middle of it, the posterior of the remaining slot time (batch size 1) is set
against the truth and against the historical mean, which knows what has been revealed but not how long it took.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from llmsched_gym.cluster import lifecycle
from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.profiler.evidence import Evidence, Layout, collect, make_evidence, make_layout
from llmsched_gym.profiler.inference import condition
from llmsched_gym.profiler.profiler import Profiler, shipped_profiler
from llmsched_gym.profiler.sampling import remaining
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
        history_s: Historical mean.
        covered: Per entry of `NOMINAL`, whether the interval holds the truth; empty in the middle of stages.
        level: Evidence that was given up (`inference.condition`).
    """

    finished: int
    soft: bool | None
    truth_s: float
    posterior_s: float
    history_s: float
    covered: tuple[bool, ...]
    level: int


class _Walk(NamedTuple):
    """All that a walk needs: the cluster, and the profiles as they read it."""

    state: ClusterState
    profiler: Profiler
    layout: Layout
    evidence: Evidence


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
    profiler = shipped_profiler()
    (template,) = workload.templates
    profile = profiler.profiles[template.name]
    place = list(profiler.profiles).index(template.name)
    walk = _Walk(
        state=initial_state(workload, load_scenario("mixed").cluster),
        profiler=profiler,
        layout=make_layout(workload, {0: (place, profile)}, profiler.inference.bank, profiler.ends),
        evidence=make_evidence(len(profile.variables)),
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
    """Look while the last task of a stage is half done, with and without what it has received as evidence."""
    tokens = int(walk.state.tasks["output_tokens"][task])
    walk.layout.tokens[task] = tokens // 2
    walk.state.clock["now_ns"] = now_ns + int(walk.state.tasks["work_ns"][task]) // 2
    for soft in (False, True):
        yield _look(walk, job, finished, soft)
    walk.layout.tokens[task] = 0


def _look(walk: _Walk, job: int, finished: int, soft: bool | None) -> Look:
    state, evidence = walk.state, walk.evidence
    inference = walk.profiler.inference
    bank, work = inference.bank, inference.work
    collect(state, walk.layout, job, soft is True, evidence)
    app = int(walk.layout.apps[0])
    n = int(bank.first_variable[app + 1] - bank.first_variable[app])
    unfinished = evidence.key[n : 2 * n] > 0
    level = condition(bank, app, evidence.key[:n], work)
    received_s = (evidence.received_ns[:n] * 1e-9).astype(np.float64)
    truth_s = _total_s(walk, job) - float(received_s.sum())
    llm_s, regular_s, _, _ = remaining(bank, app, unfinished, received_s, NOMINAL[0], work)
    covered: tuple[bool, ...] = ()
    if soft is None:
        nothing, had_s = np.zeros(n), float(received_s[unfinished].sum())
        ends = [remaining(bank, app, unfinished, nothing, nominal, work)[2:] for nominal in NOMINAL]
        covered = tuple(_holds(low - had_s, truth_s, high - had_s) for low, high in ends)
    history_s = int(state.jobs["remaining_ns"][job]) * 1e-9
    return Look(finished, soft, truth_s, llm_s + regular_s, history_s, covered, level)


def _total_s(walk: _Walk, job: int) -> float:
    """Slot time of a whole job."""
    owner = walk.state.jobs[job]
    stages = walk.state.stages[owner["first_stage"] : owner["first_stage"] + owner["n_stages"]]
    there = stages[stages["present"] == 1]
    tasks = [slice(int(row["first_task"]), int(row["first_task"] + row["n_tasks"])) for row in there]
    return sum(int(walk.layout.work_ns[one].sum()) for one in tasks) * 1e-9


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
        row[f"{name}_abs_s"] = float(np.abs(error).mean())
        row[f"{name}_square_s2"] = float((error * error).mean())
        row[f"{name}_bias_s"] = float(error.mean())
    for position, nominal in enumerate(NOMINAL):
        held = [look.covered[position] for look in found if look.covered]
        row[f"covered_{nominal:g}"] = sum(held) if held else None
    return row
