"""The numbers that LLMSched's authors published, and how ours compare: computed from the frozen results, never by hand.

Source: Zhu, Chen, Fan, Zhu, LLMSched (ICDCS 2025, arXiv 2504.03444): abstract and article. What a workload, a cluster
and a load were is only known in part, so equal numbers cannot be expected; signs and orders can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from grid import ABLATIONS, FULL, WORKLOADS

from llmsched_gym.evaluation.statistics import Interval, reduction_pct

RIVALS: Final = ("fcfs", "sjf", "fair", "argus", "carbyne")
"""Classical schedulers that the paper compares with."""

REDUCTION: Final = (14.0, 79.0)
"""Per cent by which LLMSched's mean JCT is below the others', over all settings of the paper."""

ABLATION: Final = {"llmsched_no_bn": (18.0, 17.0, 20.0, 5.0), "llmsched_no_uncertainty": (21.0, 12.0, 15.0, 13.0)}
"""Per cent by which an ablation's mean JCT is above LLMSched's. The order of the workloads is not stated; it is taken
to be that of `WORKLOADS`."""

DECIMA: Final = {100: 38.0, 200: 65.0, 300: 73.0, 400: 75.0}
"""Per cent by which LLMSched's mean JCT is below Decima's, mixed workload, by number of jobs."""

OVERHEAD_MS: Final = 3.0
TWO_JOBS_S: Final = (6.5, 5.0)
"""Mean JCT of the worked example: SJF, and the informative stage first."""

NEAR_POINTS: Final = 5.0
ORDER: Final = 3.0

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Claim:
    """A published number beside ours.

    Attributes:
        what: What is measured, and where.
        paper: Published range in per cent; both ends equal for a single number.
        ours: Per cent, with 95 % interval.
    """

    what: str
    paper: tuple[float, float]
    ours: Interval

    @property
    def verdict(self) -> str:
        """How ours compares; all published numbers are positive.

        "same size": inside the published range, give or take `NEAR_POINTS`; "same order": within a factor of `ORDER`
        of it; "same sign": the interval lies above zero; "no difference": it holds zero; "opposite sign" otherwise.
        """
        if not self.ours.excludes_zero:
            return "no difference"
        if self.ours.mid < 0.0:
            return "opposite sign"
        low, high = self.paper
        if low - NEAR_POINTS <= self.ours.mid <= high + NEAR_POINTS:
            return "same size"
        return "same order" if low / ORDER <= self.ours.mid <= high * ORDER else "same sign"


def per_seed(table: Rows, column: str = "mean_jct_s", **where: Any) -> list[float]:
    """Return a column of the rows with these values, by seed."""
    found = {row["seed"]: row[column] for row in table if all(row[name] == value for name, value in where.items())}
    return [found[seed] for seed in sorted(found)]


def below(table: Rows, policy: str, other: str, **where: Any) -> Interval:
    """By how many per cent a policy's mean JCT is below another's, paired by seed."""
    table = list(table)
    return reduction_pct(per_seed(table, policy=other, **where), per_seed(table, policy=policy, **where))


def above(table: Rows, policy: str, other: str, **where: Any) -> Interval:
    """By how many per cent a policy's mean JCT is above another's, paired by seed."""
    less = below(table, policy, other, **where)
    return Interval(None if less.high is None else -less.high, -less.mid, None if less.low is None else -less.low)


def reductions(workloads: Rows) -> list[Claim]:
    """LLMSched against each scheduler of the paper on each workload."""
    table = list(workloads)
    return [
        Claim(f"{name}: below {rival}", REDUCTION, below(table, FULL, rival, scenario=name))
        for name in WORKLOADS
        for rival in RIVALS
    ]


def ablations(workloads: Rows) -> list[Claim]:
    """Each ablation against LLMSched on each workload."""
    table = list(workloads)
    return [
        Claim(f"{name}: {ablation} above {FULL}", (paper, paper), above(table, ablation, FULL, scenario=name))
        for ablation in ABLATIONS
        for name, paper in zip(WORKLOADS, ABLATION[ablation], strict=True)
    ]


def decima(jobs: Rows) -> list[Claim]:
    """LLMSched against Decima on the mixed workload at the default load, by number of jobs."""
    table = list(jobs)
    load = min(row["load"] for row in table)
    here = [row for row in table if row["load"] == load]
    return [
        Claim(f"mixed, {n} jobs: {FULL} below decima", (paper, paper), below(here, FULL, "decima", jobs=n))
        for n, paper in DECIMA.items()
        if any(row["jobs"] == n for row in here)
    ]


def count(claims: Iterable[Claim]) -> dict[str, int]:
    """Return how many claims got each verdict, best first, those that none got left out."""
    order = ("same size", "same order", "same sign", "no difference", "opposite sign")
    verdicts = [claim.verdict for claim in claims]
    return {verdict: verdicts.count(verdict) for verdict in order if verdict in verdicts}
