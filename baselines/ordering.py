"""How often do remaining times order two jobs rightly, as known from historical means and as known from the profile?

A scheduler of the shortest-remaining-time kind uses nothing but the order of the jobs present. What a profile can gain
over historical means is bounded by the pairs that these put in the wrong order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from calibration import Look, held_out, looks
from grid import WORKLOADS
from numpy.typing import NDArray

from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.applications import APPLICATIONS

PAIRS: Final = 200_000

Floats = NDArray[np.float64]


def orderings(jobs: int, seed: int = 0) -> list[dict[str, Any]]:
    """Compare jobs at random moments of their lives (before a stage, all of a job's stages equally likely).

    Args:
        jobs: Held-out jobs per application.
        seed: Seed of the ``eval`` split.

    Returns:
        One row per workload: the share of pairs that each estimate orders as the truth does, ties counting half; the
        mean seconds that the wrong orders amount to; the share of the variance of whole jobs' slot time that lies
        between applications.
    """
    found = {app: _by_job(looks(held_out(app, jobs, seed))) for app in APPLICATIONS}
    return [_compare(name, [found[app] for app in load_scenario(name).applications]) for name in WORKLOADS]


def _by_job(every: Iterable[Look]) -> list[list[Look]]:
    """Group the looks between stages by job: a job begins where no stage is finished."""
    groups: list[list[Look]] = []
    for look in every:
        if look.soft is None:
            if look.finished == 0:
                groups.append([])
            groups[-1].append(look)
    return groups


def _compare(name: str, applications: list[list[list[Look]]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    first, second = (_draw(applications, rng) for _ in range(2))
    truth = first[:, 0] - second[:, 0]
    row: dict[str, Any] = {"scenario": name, "pairs": PAIRS}
    for column, estimate in enumerate(("history", "posterior"), start=1):
        guess = first[:, column] - second[:, column]
        right = np.where(guess == 0.0, 0.5, np.sign(guess) == np.sign(truth))
        row[f"{estimate}_right"] = float(right.mean())
        row[f"{estimate}_lost_s"] = float((np.abs(truth) * (1.0 - right)).mean())
    sizes = [np.array([job[0].truth_s for job in jobs]) for jobs in applications]
    between = np.var([one.mean() for one in sizes])
    row["between_applications"] = float(between / (between + np.mean([one.var() for one in sizes])))
    return row


def _draw(applications: list[list[list[Look]]], rng: np.random.Generator) -> Floats:
    """Draw looks, applications and jobs equally likely: float64 (PAIRS, 3), truth, historical and posterior mean."""
    tables = [[_table(job) for job in jobs] for jobs in applications]
    chosen = np.empty((PAIRS, 3))
    for row, (app, job, look) in zip(chosen, rng.random((PAIRS, 3)), strict=True):
        table = tables[int(app * len(tables))]
        mine = table[int(job * len(table))]
        row[:] = mine[int(look * len(mine))]
    return chosen


def _table(job: list[Look]) -> Floats:
    return np.array([(look.truth_s, look.history_s, look.posterior_s) for look in job])
