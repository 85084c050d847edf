"""What a comparison leaves behind: the summary object, one tidy table, and the manifest that says how it was made."""

from __future__ import annotations

import csv
import io
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any, Final

from llmsched_gym.evaluation.contestants import Contestant
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.runner import BASELINE, NORMALISER, Comparison
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import (
    ENOUGH_SEEDS,
    geometric_mean,
    interquartile_mean,
    probability_of_improvement,
    ranks,
    reduction_pct,
    relative,
)
from llmsched_gym.evaluation.store import write_json, write_text
from llmsched_gym.workloads.arrivals import Trace

SERVED_COUNTS: Final = (
    "accepted_requests",
    "token_mismatches",
    "retries",
    "quarantines",
    "server_restarts",
    "refused",
    "timeouts",
    "http_errors",
    "malformed",
    "duplicate_outputs",
    "tool_retries",
)
"""What is counted on real servers."""

SERVED_MEASURES: Final = ("dispatch_overhead_ms_p50", "dispatch_overhead_ms_p99", "process_cpu_share")
"""What is measured on real servers."""

PLACED: Final = ("loads", "load_s", "moved_bytes", "recomputed_tokens", "skew")
"""What came of the choice of executors."""

SERVICE: Final = ("deadline_attainment", "goodput_per_h", "longest_wait_s", "gpu_s")
"""What users and owners of a cluster ask beside how long jobs take."""

RELATIVE: Final = ("makespan_s", "p95_jct_s", "mean_jct_s")
"""Metrics that are given relative to round robin, if it is compared."""

_AVERAGED: Final = (
    *("mean_jct_s", "p50_jct_s", "p95_jct_s", "p99_jct_s", "mean_slowdown", "makespan_s"),
    *SERVICE,
    *PLACED,
)


def summary(comparison: Comparison) -> dict[str, Any]:
    """Return the object of ``compare --json``.

    ``history`` is `Setting.history`: which jobs schedulers know historical means of. ``realised_rates``, jobs per
    second by seed, is null unless arrivals are windows of a trace.
    Of several repetitions of an episode the one of the median mean JCT counts; ``repeated_mean_jct_s`` lists all.

    Every metric is the mean over seeds; the decision latencies are medians over seeds of each episode's quantile, so
    that one disturbed episode does not decide them. ``reduction_vs_fcfs_pct`` is [low, mid, high] of `reduction_pct`
    for the mean JCT; low and high are null with a single seed or seeds that repeat each other, and the whole is null if
    fcfs is not compared. ``rank`` is null for policies that see the truth. ``relative_to_round_robin`` has [low, mid,
    high] of `relative` for each metric of `RELATIVE`; it is null if round_robin is not compared.
    """
    ranked = policy_ranks(comparison)
    return {
        "scenario": comparison.setting.name,
        "jobs": comparison.setting.n_jobs,
        "load": comparison.setting.load,
        **_clockwork(comparison.setting),
        "history": comparison.setting.history,
        "realised_rates": comparison.setting.realised_rates(comparison.seeds),
        "seeds": list(comparison.seeds),
        "policies": {
            c.label: _policy_summary(comparison, c) | {"rank": ranked.get(c.label)} for c in comparison.contestants
        },
        "lower_bound_mean_jct_s": mean([comparison.bounds[s]["lower_bound_mean_jct_s"] for s in comparison.seeds]),
    }


def _clockwork(setting: Setting) -> dict[str, Any]:
    """Return how time passed, where it was not that of the simulator alone."""
    if setting.serving is None and setting.time_scale == 1.0:
        return {}
    backend = "simulator" if setting.serving is None else "vllm"
    return {"backend": backend, "time_scale": setting.time_scale, "repeats": setting.repeats}


def policy_ranks(comparison: Comparison) -> dict[str, int]:
    """Return the rank by mean JCT (`ranks`) of each policy that is not privileged; ties share one."""
    return ranks(_unprivileged(comparison))


def best_first(comparison: Comparison) -> list[str]:
    """Return the policies by geometric mean over the seeds of their mean JCT, which is what ranks go by."""
    values = {c.label: geometric_mean(comparison.metric(c, "mean_jct_s")) for c in comparison.contestants}
    return sorted(values, key=values.__getitem__)


def _unprivileged(comparison: Comparison) -> dict[str, list[float]]:
    """Return the mean JCT per seed of the policies that are ranked."""
    return {c.label: comparison.metric(c, "mean_jct_s") for c in comparison.contestants if not c.privileged}


def spread(comparison: Comparison) -> str:
    """Say in a sentence which policy without the truth has the lowest mean JCT, and how far FCFS is from it.

    Lowest is the geometric mean over the seeds. If that is FCFS, the next one is named. The interval is that of the
    difference, paired by seed.
    """
    load = "" if comparison.setting.load is None else f"load {comparison.setting.load:g}: "
    fair = _unprivileged(comparison)
    if BASELINE not in fair or len(fair) < 2:
        return f"{load}no spread to tell: it takes {BASELINE} and another policy"
    first, second = sorted(fair, key=lambda label: geometric_mean(fair[label]))[:2]
    other = second if first == BASELINE else first
    reduction = reduction_pct(fair[BASELINE], fair[other])
    if reduction.mid == 0.0:
        return f"{load}{other} and {BASELINE} have the lowest mean JCT alike"
    if first == BASELINE:
        begin, side = f"{BASELINE} has the lowest mean JCT; {other}, the next, is", "above"
        low, mid, high = (None if end is None else 0.0 - end for end in reversed(reduction.as_list()))
    else:
        begin, side = f"{other} has the lowest mean JCT,", "below"
        low, mid, high = reduction.as_list()
    if low is None or high is None:
        return f"{load}{begin} {mid:.1f} % {side} {BASELINE}'s (no interval: nothing can be told apart)"
    told = "" if reduction.excludes_zero else ": no difference can be told"
    return f"{load}{begin} {mid:.1f} % [{low:.1f}, {high:.1f}] {side} {BASELINE}'s{told}"


def hindsight(history: str) -> str:
    """Say in a line that schedulers know more of the jobs than they could, if they do; empty if not.

    Args:
        history: `Setting.history`.
    """
    if history != "self":
        return ""
    how = "llmsched-gym workload convert TRACE.json --history PAST.json -o FILE takes them from other jobs"
    return f"historical means come from the very jobs that are scheduled: policies that use them have seen these; {how}"


def realised(setting: Setting, seeds: Sequence[int]) -> str:
    """Say in a line how busy windows of a trace are, beside what was asked for; empty for other arrivals."""
    rates = setting.realised_rates(seeds)
    if rates is None:
        return ""
    scenario = setting.scenario
    least, most = f"{min(rates):.3g}", f"{max(rates):.3g}"
    over = least if least == most else f"{least} to {most}"
    if isinstance(scenario.arrivals, Trace) and not scenario.arrivals.rescale:
        return f"windows of a trace, at their recorded times: {over} jobs/s"
    nominal = scenario.arrival_rate()
    load = ""
    if scenario.load is not None:
        ends = (f"{scenario.load * rate / nominal:.3g}" for rate in (min(rates), max(rates)))
        load = f", that is load {' to '.join(dict.fromkeys(ends))} where {scenario.load:g} was asked for"
    return f"windows of a trace: {over} jobs/s, nominal {nominal:.3g}{load}; window: rate takes those near it"


def caveat(comparison: Comparison) -> str:
    """Say in a line what the number of seeds does to the intervals; empty if there are enough."""
    n = len(comparison.seeds)
    if comparison.setting.fixed and n > 1:
        return "fixed jobs: seeds repeat them, and only policies that draw random numbers have intervals"
    if n == 1:
        return "one seed: no intervals, and nothing can be told apart"
    if n < ENOUGH_SEEDS:
        return f"few seeds: intervals from {n} are wide, and cover less surely; take {ENOUGH_SEEDS} or more"
    return ""


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row per episode, policies in the order asked for, then seeds."""
    setting = comparison.setting
    return [
        {
            "scenario": setting.name,
            "jobs": setting.n_jobs,
            "load": setting.load,
            **_clockwork(setting),
            "policy": contestant.label,
            "privileged": contestant.privileged,
            "seed": seed,
            **comparison.episodes[contestant.spec, seed]["metrics"],
            "lower_bound_mean_jct_s": comparison.bounds[seed]["lower_bound_mean_jct_s"],
            "workload_digest": comparison.episodes[contestant.spec, seed]["workload_digest"],
        }
        for contestant in comparison.contestants
        for seed in comparison.seeds
    ]


def pairs(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row per ordered pair of policies: how the first compares with the second, on mean JCT per seed.

    ``reduction_pct`` is paired by seed, the geometric mean of the ratios. The interquartile means and the probability
    of improvement treat seeds as independent runs; they are for learned policies, where a seed may be a training run.
    """
    values = {c.label: comparison.metric(c, "mean_jct_s") for c in comparison.contestants}
    table: list[dict[str, Any]] = []
    for policy, other in permutations(values, 2):
        reduction = reduction_pct(values[other], values[policy])
        table.append(
            {
                "policy": policy,
                "other": other,
                "reduction_pct_low": reduction.low,
                "reduction_pct": reduction.mid,
                "reduction_pct_high": reduction.high,
                "probability_of_improvement": probability_of_improvement(values[policy], values[other]),
                "iqm_jct_s": float(interquartile_mean(values[policy])),
                "other_iqm_jct_s": float(interquartile_mean(values[other])),
            }
        )
    return table


def manifest(comparison: Comparison, command: Sequence[str]) -> dict[str, Any]:
    """Return how the results came about: settings, versions, machine, digests and times."""
    return {
        "command": list(command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "setting": comparison.setting.describe(),
        "history": comparison.setting.history,
        "realised_rates": comparison.setting.realised_rates(comparison.seeds),
        "served_by": comparison.servers,
        "policies": {c.label: _made_of(c) for c in comparison.contestants},
        "seeds": list(comparison.seeds),
        "workload_digests": {str(seed): comparison.bounds[seed]["workload_digest"] for seed in comparison.seeds},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "warm_up_s": round(comparison.warm_up_s, 3),
        "wall_s": round(comparison.wall_s, 3),
        "results_resumed": comparison.resumed,
    }


def _made_of(contestant: Contestant) -> dict[str, Any]:
    """Return what a policy's decisions depend on besides the setting."""
    found: dict[str, Any] = {"spec": contestant.spec, "source": contestant.source}
    given = {"files": contestant.files, "packages": contestant.packages, "not_resumed": contestant.doubt}
    return found | {name: value for name, value in given.items() if value}


def write_report(comparison: Comparison, folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """Write the tables, ``summary.json``, ``manifest.json`` and ``jct_cdf`` into a folder; return the summary.

    The tables are ``results.csv`` (`rows`) and, with several policies, ``pairs.csv`` (`pairs`).

    Raises:
        InputError: A file cannot be written.
    """
    from llmsched_gym.evaluation.figures import jct_cdf

    result = summary(comparison)
    write_text(folder / "results.csv", to_csv(rows(comparison)))
    if len(comparison.contestants) > 1:
        write_text(folder / "pairs.csv", to_csv(pairs(comparison)))
    write_json(folder / "summary.json", result)
    write_json(folder / "manifest.json", manifest(comparison, command))
    jct_cdf(comparison, folder / "jct_cdf.png")
    return result


def to_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header; None is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _policy_summary(comparison: Comparison, contestant: Contestant) -> dict[str, Any]:
    per_seed = comparison.metric(contestant, "mean_jct_s")
    reduction = ratios = None
    if (baseline := comparison.contestant(BASELINE)) is not None:
        reduction = reduction_pct(comparison.metric(baseline, "mean_jct_s"), per_seed).as_list()
    if (normaliser := comparison.contestant(NORMALISER)) is not None:
        ratios = {
            name: relative(comparison.metric(contestant, name), comparison.metric(normaliser, name)).as_list()
            for name in RELATIVE
        }
    return {
        **{name: mean(comparison.metric(contestant, name)) for name in _AVERAGED},
        "decision_us_p50": median(comparison.metric(contestant, "decision_us_p50")),
        "decision_us_p99": median(comparison.metric(contestant, "decision_us_p99")),
        "reduction_vs_fcfs_pct": reduction,
        "relative_to_round_robin": ratios,
        "per_seed_mean_jct_s": per_seed,
        "privileged": contestant.privileged,
        **_served_summary(comparison, contestant),
    }


def _served_summary(comparison: Comparison, contestant: Contestant) -> dict[str, Any]:
    """Return what real servers add: counters summed over all episodes, overhead and CPU share as medians."""
    if comparison.setting.serving is None:
        return {}
    results = [list(comparison.repetitions[contestant.spec, seed].values()) for seed in comparison.seeds]
    metrics = [result["metrics"] for repetitions in results for result in repetitions]
    counted = {name: sum(one[name] for one in metrics) for name in SERVED_COUNTS}
    measured = {name: median(one[name] for one in metrics) for name in SERVED_MEASURES}
    repeated = [[result["metrics"]["mean_jct_s"] for result in repetitions] for repetitions in results]
    return {**counted, **measured, "repeated_mean_jct_s": repeated}
