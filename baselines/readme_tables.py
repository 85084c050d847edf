"""The README's tables of all policies on all workloads, and of the paper's claim about Decima, from frozen results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from claims import DECIMA, below, decima, per_seed
from grid import FULL, ORACLE, POLICIES, WORKLOADS
from reproduction_report import interval, table

from llmsched_gym.evaluation.metrics import mean

Table = Sequence[Mapping[str, Any]]


def best_first(rows: Table) -> list[str]:
    """Return all policies by mean JCT relative to FCFS's, averaged over the workloads."""
    return sorted(POLICIES, key=lambda policy: mean([_relative(rows, policy, name) for name in WORKLOADS]))


def overview(rows: Table) -> list[str]:
    """Return the lines of the main table: mean JCT and reduction against FCFS of all policies, all workloads."""
    body = []
    for policy in best_first(rows):
        cells = [f"{policy} *" if policy == ORACLE else policy]
        for name in WORKLOADS:
            here = [row for row in rows if row["scenario"] == name]
            found = "" if policy == "fcfs" else f", {interval(below(here, policy, 'fcfs'))}"
            cells.append(f"{mean(per_seed(here, policy=policy)):.1f} s{found}")
        body.append(cells)
    bounds = [mean(per_seed(rows, "lower_bound_mean_jct_s", policy="fcfs", scenario=name)) for name in WORKLOADS]
    body.append(["*lower bound*", *(f"{bound:.1f} s" for bound in bounds)])
    return table(["policy", *WORKLOADS], body)


def decima_claim(jobs: Table) -> list[str]:
    """Return the lines of the table of LLMSched's lead over Decima by number of jobs: the paper's and ours."""
    body = [
        ["paper", *(f"{percent:g} %" for percent in DECIMA.values())],
        ["here", *(interval(claim.ours) for claim in decima(jobs))],
    ]
    return table([f"mixed: {FULL} below decima", *(f"{size} jobs" for size in DECIMA)], body)


def _relative(rows: Table, policy: str, workload: str) -> float:
    """Mean JCT of a policy as a share of FCFS's."""
    mine, first = (mean(per_seed(rows, policy=one, scenario=workload)) for one in (policy, "fcfs"))
    return mine / first
